"""Counts the floating-point operations of a JAX program from its jaxpr.

Counted are matrix products and convolutions, a multiply-add as 2, which is what
torch.utils.flop_counter counts for the peers. Element-wise work, norms, softmax and
random numbers are not. The count is of the mathematics as traced, before XLA rewrites
it, and leaves out products with the zeros of a dilated convolution (the gradient of a
strided one).
"""

import math
from collections.abc import Iterator

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count_flops(jaxpr: ClosedJaxpr | Jaxpr) -> int:
    """Returns the operations of one run; of a `cond`, those of its largest branch.

    Raises:
      ValueError: a `while` loop holds products; how often it runs is not known.
    """
    if isinstance(jaxpr, ClosedJaxpr):
        jaxpr = jaxpr.jaxpr
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        inner = math.prod(left[axis] for axis in contracted)
        return 2 * math.prod(equation.outvars[0].aval.shape) * inner
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        per_output = math.prod(kernel) // features
        dense = 2 * math.prod(equation.outvars[0].aval.shape) * per_output
        return dense // math.prod(params["lhs_dilation"])
    inside = [count_flops(inner) for inner in _inner_jaxprs(params)]
    if name == "cond":
        return max(inside)
    if name == "while" and any(inside):
        raise ValueError("a while loop holds products; its length is not known")
    return params.get("length", 1) * sum(inside) if name == "scan" else sum(inside)


def _inner_jaxprs(params: dict) -> Iterator[ClosedJaxpr | Jaxpr]:
    """Yields the programs that an equation calls; custom rules it holds are not."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                yield item
