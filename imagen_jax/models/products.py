"""The matrix product of a layer: float32 sums whatever the type, and its gradients.

JAX's own gradients are the same sums; two things differ, for the sake of XLA on CPUs. A
product there uses a CPU's bfloat16 instructions only where its result is float32, and
is otherwise computed in float32. And the kernel's gradient is taken as x^T grad, where
JAX takes (grad^T x)^T and XLA then transposes the larger factor: a dense layer's
forward and backward pass took 1.3 to 1.8 times as long (benchmarks/products.py).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


@jax.custom_vjp
def product(x: Float[Array, "*b c"], kernel: Float[Array, "c d"]) -> Array:
    """Returns x kernel, [*b d] in the type of x; both have one type."""
    y = jnp.dot(x, kernel, preferred_element_type=jnp.float32)
    return y.astype(x.dtype)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rows = tuple(range(x.ndim - 1))
    of_kernel = lax.dot_general(
        x, grad, ((rows, rows), ((), ())), preferred_element_type=jnp.float32
    )
    return product(grad, kernel.T), of_kernel.astype(kernel.dtype)


product.defvjp(_forward, _backward)
