"""Muon (Jordan et al., 2024): momentum, orthogonalised, for kernels; Adam for the rest.

A kernel `[k k c d]` is a matrix from its k k c inputs to d outputs; a stacked kernel is
one matrix per layer.

Updates are those of `optax.contrib.muon` up to rounding, for less work where a model
has many small matrices: those of one size are stacked and each device of the mesh
orthogonalises its share of the stack, and a matrix that is much longer than wide is
iterated on through its Gram matrix.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from imagen_jax.parallel.mesh import AXES
from imagen_jax.parallel.sharding import is_stacked, leaf_name
from imagen_jax.stage import Params

MOMENTUM = 0.95
UPDATE_RMS = 0.2  # as large as Adam's, so that its learning rates carry over
# Of x -> a x + b x^3 + c x^5, by Jordan: five times bring [0.003, 1] near 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
_EPS = 1e-8


def muon(
    learning_rate: optax.Schedule,
    weight_decay: float,
    *,
    adam_b1: float,
    adam_b2: float,
) -> optax.GradientTransformation:
    """Returns Muon for kernels and Adam with Nesterov momentum for all else.

    Args:
      learning_rate: of both.
      weight_decay: of kernels, times the learning rate.
      adam_b1: Adam's first-moment decay.
      adam_b2: Adam's second-moment decay.
    """
    kernels = optax.chain(
        scale_by_muon(),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    rest = optax.nadam(learning_rate, adam_b1, adam_b2, _EPS)
    return optax.partition({"kernel": kernels, "rest": rest}, _labels)


def _labels(params: Params) -> Any:
    def of_leaf(keys, _) -> str:
        return "kernel" if leaf_name(keys).endswith("kernel") else "rest"

    return jax.tree_util.tree_map_with_path(of_leaf, params)


class MuonState(NamedTuple):
    """`count` updates so far, and the running mean `mu` of the gradients."""

    count: Int[Array, ""]
    mu: Params


def scale_by_muon() -> optax.GradientTransformation:
    """Returns kernels' gradients -> their momentum, orthogonalised, of `UPDATE_RMS`."""

    def init(params: Params) -> MuonState:
        return MuonState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params))

    def update(
        updates: optax.Updates, state: optax.OptState, params: Params | None = None
    ) -> tuple[optax.Updates, MuonState]:
        del params
        assert isinstance(state, MuonState)
        mu = optax.tree.update_moment(updates, state.mu, MOMENTUM, 1)
        count = state.count + 1
        ahead = jax.tree.map(  # Nesterov's: the mean one update later
            lambda m, g: MOMENTUM * m + (1 - MOMENTUM) * g,
            optax.tree.bias_correction(mu, MOMENTUM, count + 1),
            optax.tree.bias_correction(updates, MOMENTUM, count),
        )
        return orthogonal_updates(ahead), MuonState(count, mu)

    return optax.GradientTransformation(init, update)


def orthogonal_updates(momenta: Params) -> Params:
    """Returns each kernel's momentum with singular values of about one size.

    That size gives an RMS of `UPDATE_RMS`. Matrices of one shape are taken together.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(momenta)
    stacks = []
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, (keys, leaf) in enumerate(leaves):
        num_layers = leaf.shape[0] if is_stacked(leaf_name(keys)) else 1
        stack = leaf.reshape(num_layers, -1, leaf.shape[-1])
        stacks.append(stack if stack.shape[1] >= stack.shape[2] else stack.mT)
        groups.setdefault(stacks[i].shape[1:], []).append(i)

    updates: list[Any] = [None] * len(leaves)
    for (rows, columns), members in groups.items():
        group = orthogonalize(jnp.concatenate([stacks[i] for i in members]))
        group *= UPDATE_RMS * math.sqrt(rows)
        ends = np.cumsum([len(stacks[i]) for i in members])
        for i, part in zip(members, jnp.split(group, ends[:-1]), strict=True):
            shape = leaves[i][1].shape
            updates[i] = (part if shape[-1] == columns else part.mT).reshape(shape)
    return treedef.unflatten(updates)


def orthogonalize(stack: Float[Array, "k n m"]) -> Float[Array, "k n m"]:
    """Returns matrices with the same singular vectors and singular values of about 1.

    Newton-Schulz: X <- X (a + b A + c A^2) with A = X^T X, from X / |X|. A matrix at
    least twice as long as wide is not touched until the end: what it is multiplied by
    is a polynomial in the first A, and so commutes with it.

    Args:
      stack: n >= m.
    """
    a, b, c = COEFFICIENTS
    _, n, m = stack.shape
    x = _spread(_gather(stack))
    x /= jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + _EPS
    if n < 2 * m:
        for _ in range(ITERATIONS):
            gram = x.mT @ x
            x = a * x + x @ (b * gram + c * gram @ gram)
        return _gather(x)
    # Its smallest singular values enter squared: not in bfloat16, a TPU's default.
    with jax.default_matmul_precision("highest"):
        gram = x.mT @ x
        factor = jnp.eye(m)
        for i in range(ITERATIONS):
            step = a * jnp.eye(m) + b * gram + c * gram @ gram
            factor = factor @ step if i else step
            if i < ITERATIONS - 1:
                gram = step @ gram @ step
        return _gather(x @ factor)


def _spread(stack: Float[Array, "k n m"]) -> Float[Array, "k n m"]:
    """Returns `stack`, of which each device is to hold some matrices."""
    return _placed(stack, PartitionSpec(AXES))


def _gather(stack: Float[Array, "k n m"]) -> Float[Array, "k n m"]:
    return _placed(stack, PartitionSpec())


def _placed(stack: Float[Array, "k n m"], spec: PartitionSpec) -> Any:
    """Returns `stack` laid out so, where parameters are whole and each gets some."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size > len(stack) or mesh.shape["data"] < mesh.size:
        return stack
    return jax.lax.with_sharding_constraint(stack, spec)
