r"""Times every stage of a cascade as a user samples it, and its peak memory.

    python benchmarks/sample.py --demo
    python benchmarks/sample.py --workdirs=BASE,SR256,SR1024 --batch_size=1 --rounds=3

Prints one JSON line per stage: seconds a picture from the text embeddings to uint8 (the
median of the rounds), of the first call, which traces and compiles or reads from
$IMAGEN_JAX_CACHE what an earlier start compiled, and the settings that they depend on.
A last line has the peak memory: on the CPU the process's resident memory, on other
devices the most that one of them held.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from imagen_jax.compiled import keep_compiled
from imagen_jax.host_memory import keep_freed_memory
from imagen_jax.loading import load
from imagen_jax.pipeline import Pipeline
from imagen_jax.sampling.cascade import Part

DEMO = Path(__file__).parent.parent / "docs" / "demo"


def stage_seconds(model: Pipeline, **options: Any) -> dict[str, float]:
    """Returns the seconds that each stage took to draw one batch, by its name."""
    ends: dict[str, float] = {}
    plan = model.plan("a panda on a blue background", **options)
    model.text(plan.prompts)  # so that the encoder's time is not the base stage's
    model.text(plan.negatives)
    start = time.perf_counter()

    def report(part: Part) -> None:
        ends[part.stage] = time.perf_counter()

    model.draw(plan, report)
    starts = [start, *ends.values()]
    return {
        name: end - begin
        for (name, end), begin in zip(ends.items(), starts, strict=False)
    }


def main() -> None:
    """Parses the flags, draws, prints the lines."""
    parser = argparse.ArgumentParser(description="Time the stages of a cascade.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bundle", type=Path)
    where.add_argument("--workdirs", help="of the stages from the base up, commas")
    where.add_argument("--demo", action="store_true")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    keep_freed_memory()
    keep_compiled()
    folders = flags.workdirs.split(",") if flags.workdirs else [flags.bundle or DEMO]
    model = load(*folders)
    options = {"seeds": range(flags.batch_size), "batch_size": flags.batch_size}
    first = stage_seconds(model, **options)
    rounds = [stage_seconds(model, **options) for _ in range(flags.rounds)]
    for name, stage in zip(model.names, model.stages, strict=True):
        config = stage.stage.config
        seconds = [each[name] / flags.batch_size for each in rounds]
        row = {
            "stage": name,
            "resolution": config.resolution,
            "sampler": config.sampler.kind,
            "steps": config.sampler.num_steps,
            "guidance_weight": config.sampler.guidance_weight,
            "batch_size": flags.batch_size,
            "seconds_a_picture": round(statistics.median(seconds), 3),
            "first_call_s": round(first[name], 2),
        }
        print(json.dumps(row), flush=True)
    print(json.dumps({**peak_memory(), "device": jax.devices()[0].device_kind}))


def peak_memory() -> dict[str, int]:
    """Returns the peak memory of the process or, where it has some, of the devices."""
    peaks = [
        stats["peak_bytes_in_use"]
        for device in jax.local_devices()
        if (stats := device.memory_stats()) and "peak_bytes_in_use" in stats
    ]
    if peaks:
        return {"peak_device_mb": int(np.max(peaks)) // 2**20}
    return {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


if __name__ == "__main__":
    main()
