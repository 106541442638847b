"""The matrix product of a layer: float32 sums whatever the type, and its gradients.

JAX's own gradients are the same sums; two things differ, for the sake of XLA on CPUs. A
product there uses a CPU's bfloat16 instructions only where its result is float32, and
is otherwise computed in float32. And the kernel's gradient is taken as x^T grad, where
JAX takes (grad^T x)^T and XLA then transposes the larger factor. With both, a dense
layer takes 0.8 of the time in float32, 0.3 to 0.4 in bfloat16, where a CPU has
instructions for it (benchmarks/layers.py).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.custom_vjp
def product(x: Float[Array, "*b c"], kernel: Float[Array, "c d"]) -> Array:
    """Returns x kernel, [*b d] in the type of x; both have one type."""
    return _contracted(x, kernel, (x.ndim - 1,), (0,)).astype(x.dtype)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows = tuple(range(x.ndim - 1))
    of_x = _contracted(grad, kernel, (x.ndim - 1,), (1,))
    of_kernel = _contracted(x, grad, rows, rows)
    return of_x.astype(x.dtype), of_kernel.astype(kernel.dtype)


def _contracted(
    a: Array, b: Array, axes_a: tuple[int, ...], axes_b: tuple[int, ...]
) -> Array:
    """Returns the sums over these axes of both, float32."""
    axes = ((axes_a, axes_b), ((), ()))
    return lax.dot_general(a, b, axes, preferred_element_type=jnp.float32)


product.defvjp(_forward, _backward)
