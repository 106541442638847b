r"""Times one sampling step: guidance on a doubled batch, dynamic threshold, DDPM.

    python benchmarks/sample_step.py --model=sr256 --dtype=fp32 --threads=1

What runs is the package's `Sampler` with 2 steps, and a step's time is half a call's.
With 1 step the compiler would know that it is the last, whose result is x0, and would
leave the DDPM update out; with 2 the loop over steps is that of a real sampler.
Prints one JSON line (`worker`).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from race_configs import race_config
from worker import parse_flags, run

from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.stage import build_stage
from imagen_jax.training.flops import count_flops


def main() -> None:
    """Parses the flags and runs the steps."""
    flags = parse_flags("Time one sampling step.")
    config = race_config(flags.model, flags.dtype, flags.batch)
    stage = build_stage(config)
    params = jax.jit(stage.init_params)(jax.random.key(0))
    sampler, num_steps = Sampler(stage), config.sampler.num_steps

    b, n, d = config.train.batch_size, config.text.max_length, config.text.width
    embed_key, low_res_key = jax.random.split(jax.random.key(1))
    text = TextEmbeddings(
        jax.random.normal(embed_key, (b, n, d), jnp.bfloat16), jnp.ones((b, n), bool)
    )
    low_res = None
    if config.is_super_resolution:
        size = config.low_res_resolution
        low_res = jax.random.uniform(low_res_key, (b, size, size, 3), minval=-1.0)
    settings = sampling_params(config.sampler, np.arange(b))

    def call(params) -> jax.Array:
        return sampler(params, text, settings, low_res)

    about = {
        "task": "sample",
        "batch": b,
        "params": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "flops_per_step": count_flops(jax.make_jaxpr(call)(params)) // num_steps,
        "flops_counted": "jaxpr: matrix products and convolutions, 2 per MAC",
        "config": dataclasses.asdict(config.network),
    }
    run(flags, lambda: call(params).block_until_ready(), about, per_call=num_steps)


if __name__ == "__main__":
    main()
