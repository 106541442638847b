"""Counts floating-point operations: of any JAX program, and of training a network.

Counted from the jaxpr are matrix products and convolutions, a multiply-add as 2, which
is what torch.utils.flop_counter counts for the peers. Element-wise work, norms, softmax
and random numbers are not. The count is of the mathematics as traced, before XLA
rewrites it, and leaves out products with the zeros of a dilated convolution (the
gradient of a strided one).

The model FLOPs of training, over which the utilisation of a chip is defined (MFU;
PaLM, arXiv:2204.02311, appendix B), are those of one forward and one backward pass of
the network. They are counted with `remat` off, so what a run recomputes to save memory
does not count, and without the frozen text encoder, the optimizer and the metrics.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters.partial_eval import dce_jaxpr

from imagen_jax.config import DataConfig, StageConfig, TextConfig
from imagen_jax.interfaces import Conditioning
from imagen_jax.stage import Params, build_stage


def training_flops(config: StageConfig) -> int:
    """Returns the model FLOPs of one picture of a training step.

    Nothing is computed: the 2-billion-parameter base takes some seconds.

    Args:
      config: of the stage. Text counts at its full length, to which it is padded.
    """
    return _gradient_flops(
        # What the count depends on, so that it is made once.
        StageConfig(
            resolution=config.resolution,
            low_res_resolution=config.low_res_resolution,
            text=TextConfig(width=config.text.width, max_length=config.text.max_length),
            network=dataclasses.replace(config.network, remat=False),
            diffusion=config.diffusion,
            data=DataConfig(crop_size=config.data.crop_size),
        )
    )


@functools.cache
def _gradient_flops(config: StageConfig) -> int:
    """Returns the operations of the network and its gradient for one picture."""
    stage = build_stage(config, platform="tpu")  # scanned layers are traced once
    params = jax.eval_shape(stage.init_params, jax.random.key(0))
    size = config.data.crop_size or config.resolution

    def total(params: Params) -> jax.Array:
        z, logsnr = jnp.zeros((1, size, size, 3)), jnp.zeros((1,))
        text = jnp.zeros((1, config.text.max_length, config.text.width))
        cond = Conditioning(text, jnp.ones(text.shape[:2], bool))
        if config.is_super_resolution:
            cond = cond._replace(low_res=z, aug_logsnr=logsnr)
        return stage.denoiser(params)(z, logsnr, cond).sum()

    return count_flops(jax.make_jaxpr(jax.value_and_grad(total))(params))


def count_flops(jaxpr: ClosedJaxpr) -> int:
    """Returns the operations of one run; of a `cond`, those of its largest branch.

    `jax.lax.platform_dependent` is a `cond` over platforms and counts as its default
    does: a CPU's own form may do more. What no output depends on does not count,
    because XLA drops it.

    Raises:
      ValueError: a `while` loop holds products; how often it runs is not known.
    """
    used, _ = dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.out_avals))
    return _count(used)


def _count(jaxpr: ClosedJaxpr | Jaxpr) -> int:
    if isinstance(jaxpr, ClosedJaxpr):
        jaxpr = jaxpr.jaxpr
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = _shape(equation.invars[0])
        inner = math.prod(left[axis] for axis in contracted)
        return 2 * math.prod(_shape(equation.outvars[0])) * inner
    if name == "conv_general_dilated":
        kernel = _shape(equation.invars[1])
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        per_output = math.prod(kernel) // features
        dense = 2 * math.prod(_shape(equation.outvars[0])) * per_output
        return dense // math.prod(params["lhs_dilation"])
    inside = [_count(inner) for inner in _inner_jaxprs(params)]
    if name == "cond":
        # With platforms, the default comes last.
        return inside[-1] if params.get("branches_platforms") else max(inside)
    if name == "while" and any(inside):
        raise ValueError("a while loop holds products; its length is not known")
    return params.get("length", 1) * sum(inside) if name == "scan" else sum(inside)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inner_jaxprs(params: dict) -> Iterator[ClosedJaxpr | Jaxpr]:
    """Yields the programs that an equation calls; custom rules it holds are not."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                yield item
