r"""The README's table of plans: what each paper-size program needs on a TPU slice.

    pip install "imagen_jax[tpu]"
    python benchmarks/plan_table.py                  # all rows; hours on 2 cores
    python benchmarks/plan_table.py --only=base_v5e  # one of them
    python benchmarks/plan_table.py --print          # the table from what is there

Each row is one run of `python -m imagen_jax.plan` in a process of its own, and its raw
report is docs/plan/ROW.json. Rows that are there already are not compiled again. A row
without "compiled" is an estimate.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "plan"

BASE, SR256, SR1024 = (
    f"--config=configs/imagen_{name}.py"
    for name in ("64_2b", "sr256_600m", "sr1024_400m")
)
# A base of a hundredth of the size, always 8 pictures a chip: weak scaling.
_SMALL = (
    BASE,
    "--config.network.channels=128",
    "--config.network.num_res_blocks=[2,2]",
    "--config.network.channel_mults=[1,2]",
    "--config.network.attention=[False,True]",
)
_FSDP = "--config.mesh.fsdp=16"

ROWS: dict[str, tuple[str, ...]] = {
    "base_v5e": (BASE, "--topology=v5e:16x16"),
    "base_v4": (BASE, "--topology=v4:4x8x8"),
    "base_v6e": (BASE, "--topology=v6e:16x16"),
    "sr256_v5e": (SR256, "--topology=v5e:16x16"),
    "sr1024_v5e": (SR1024, "--topology=v5e:16x16"),
    "t5_xxl_v5e": (
        "--encoder=t5_v1_1_xxl", "--topology=v5e:4x4", "--batch_size=64", "--length=256"
    ),
    "sr1024_sampler_v5e": (SR1024, "--topology=v5e:1x1", "--sample", "--batch_size=1"),
    "small_v5e_16": (
        *_SMALL, _FSDP, "--topology=v5e:4x4", "--config.train.batch_size=128"
    ),
    "small_v5e_64": (
        *_SMALL, _FSDP, "--topology=v5e:8x8", "--config.train.batch_size=512"
    ),
    "small_v5e_256": (
        *_SMALL, _FSDP, "--topology=v5e:16x16", "--config.train.batch_size=2048"
    ),
    "small_v5e_16_full": (
        *_SMALL, _FSDP, "--topology=v5e:4x4", "--config.train.batch_size=128",
        "--effort=full",
    ),
    "base_v5p": (BASE, "--topology=v5p:4x8x8", "--nocompile"),
    "sr256_v4": (SR256, "--topology=v4:4x8x8", "--nocompile"),
    "sr1024_v4": (SR1024, "--topology=v4:4x8x8", "--nocompile"),
}  # fmt: skip

HEAD = (
    "| row | slice | batch | estimated peak, GiB | compiled peak, GiB | "
    "estimate's error | compile, CPU-s | TFLOP a step and chip | "
    "GB sent a step and chip, estimated | compiled | days |\n|" + "---|" * 11
)


def main() -> None:
    """Makes the rows that are missing, and prints the table."""
    parser = argparse.ArgumentParser(
        description="Compile and print the table of plans."
    )
    parser.add_argument("--only", help="rows by name, separated by commas")
    parser.add_argument("--print", action="store_true", help="compile nothing")
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    flags = parser.parse_args()
    names = flags.only.split(",") if flags.only else list(ROWS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not flags.print and (flags.again or not path_of(name).exists()):
            print(f"-- {name}", flush=True)
            command = "-m", "imagen_jax.plan", f"--out={path_of(name)}", *ROWS[name]
            subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    print(HEAD)
    for name in ROWS:
        if path_of(name).exists():
            print(row_of(name, json.loads(path_of(name).read_text())))


def path_of(name: str) -> Path:
    """Returns where a row's raw report lies."""
    return FOLDER / f"{name}.json"


def row_of(name: str, plan: dict[str, Any]) -> str:
    """Returns a line of the table."""
    estimate, report = plan["estimate"], plan.get("compiled")
    peak, step = estimate["peak_bytes"], "step_flops" in estimate
    cells = [name, plan["topology"], f"{plan['batch_size']:,}", f"{peak / 2**30:.2f}"]
    if report is None:
        cells += ["not compiled", "", ""]
    elif not report["fits"]:
        cells += [f"{report['peak_bytes'] / 2**30:.2f}, does not fit", "", ""]
    else:
        cells += [
            f"{report['peak_bytes'] / 2**30:.2f}",
            f"{peak / report['peak_bytes'] - 1:+.0%}",
            f"{report['cpu_seconds']:.0f}",
        ]
    cells.append(f"{estimate['step_flops'] / 1e12:.1f}" if step else "")
    cells.append(f"{estimate['sent_bytes'] / 1e9:.2f}" if step else "")
    sent = sum(report["sent_bytes"].values()) if report else 0
    cells.append(f"{sent / 1e9:.2f}" if sent else "")
    cells.append(f"{plan['schedule']['days']:.1f}" if step else "")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
