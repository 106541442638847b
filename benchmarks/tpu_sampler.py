r"""Compiles the paper's sampler of a stage for one TPU chip that is not there.

    pip install "imagen_jax[tpu]"
    JAX_PLATFORMS=cpu python benchmarks/tpu_sampler.py \
        --config=configs/imagen_sr1024_400m.py

Prints one JSON line: seconds of compiling and the memory that the compiler reports, in
bytes. The program is `sampling.sampler.sample_stage` for the batch size, with the
config's number of steps, thresholding and parameters in float32. Nothing is run.
"""

import argparse
import functools
import json
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from imagen_jax.config_file import load_config
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.sampling.sampler import Sampler, sample_stage, sampling_params
from imagen_jax.stage import build_stage

# The smallest slice of this kind that the compiler knows; one of its chips is used.
TOPOLOGY = "v5e:2x2"
# libtpu asks the machine what TPU it is; there is none. Read when it is loaded.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


def main() -> None:
    """Parses the flags, compiles, prints the line."""
    parser = argparse.ArgumentParser(description="Compile a sampler for a TPU chip.")
    parser.add_argument("--config", default="configs/imagen_sr1024_400m.py")
    parser.add_argument("--batch_size", type=int, default=1)
    flags = parser.parse_args()
    config = load_config(flags.config, ())
    stage, b = build_stage(config, platform="tpu"), flags.batch_size
    sampler = Sampler(stage)
    settings = sampling_params(sampler.config, np.zeros(b, np.uint32))
    settings = settings._replace(logsnrs=jnp.asarray(sampler.logsnrs))
    guided = bool(np.any(np.asarray(settings.guidance_weight) != 1.0))
    shape, side = (b, config.text.max_length), config.low_res_resolution
    text = TextEmbeddings(
        jax.ShapeDtypeStruct((*shape, config.text.width), jnp.bfloat16),  # pyright: ignore
        jax.ShapeDtypeStruct(shape, jnp.bool_),  # pyright: ignore
    )
    low_res = jax.ShapeDtypeStruct((b, side, side, 3), jnp.float32) if side else None
    params = jax.eval_shape(stage.init_params, jax.random.key(0))
    shapes = jax.eval_shape(lambda: settings)

    os.environ.update(ENVIRONMENT)
    chip = topologies.get_topology_desc(TOPOLOGY, platform="tpu").devices[0]
    function = jax.jit(
        functools.partial(sample_stage, stage, sampler.config, guided),
        in_shardings=SingleDeviceSharding(chip),
        out_shardings=SingleDeviceSharding(chip),
    )
    start = time.monotonic()
    program = function.lower(params, text, text, None, low_res, shapes).compile()
    memory = program.memory_analysis()
    row = {
        "stage": config.name,
        "chip": chip.device_kind,
        "batch_size": b,
        "steps": sampler.config.num_steps,
        "compile_s": round(time.monotonic() - start, 1),
        "peak_bytes": memory.peak_memory_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "jax": jax.__version__,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
