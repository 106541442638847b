"""The optimizers of the paper's appendix F: Adafactor for the base, Adam for SR.

Muon (Jordan et al., 2024), Adam with orthogonalised updates for matrices, is not in the
paper; the quickstart uses it.

All warm up linearly, in the paper to a peak of 1e-4 over 10,000 steps. Its listing then
decays by a cosine whose final value is misprinted (trap T2); "constant" or a cosine to
zero are the choices here.

Parameters can be frozen (`optimizer.freeze`): for the optimizer they do not exist.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from imagen_jax.errors import UserError
from imagen_jax.parallel.sharding import is_stacked, leaf_name
from imagen_jax.stage import Params
from imagen_jax.train_config import OptimizerConfig
from imagen_jax.training.muon import muon


def learning_rate(
    config: OptimizerConfig, num_steps: int, count: Int[Array, "*l"]
) -> Float[Array, "*l"]:
    """Returns the learning rate of update `count` = 0, 1, ...

    Args:
      config: peak, warm-up and decay.
      num_steps: length of the run, where a cosine reaches 0.
      count: updates applied before this one.
    """
    n = count.astype(jnp.float32)
    warmup = jnp.minimum((n + 1.0) / max(config.warmup_steps, 1), 1.0)
    if config.decay == "cosine":
        length = max(num_steps - config.warmup_steps, 1)
        progress = jnp.clip((n - config.warmup_steps) / length, 0.0, 1.0)
        warmup *= 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    return config.learning_rate * warmup


def make_optimizer(
    config: OptimizerConfig, num_steps: int
) -> optax.GradientTransformation:
    """Returns the optimizer of a stage.

    Args:
      config: kind and hyperparameters.
      num_steps: length of the run.

    Raises:
      UserError: from its `init`, if `optimizer.freeze` freezes nothing or everything.
    """

    def schedule(count):
        return learning_rate(config, num_steps, jnp.asarray(count))

    decay = config.weight_decay
    match config.kind:
        case "adam":
            rule = optax.adamw(
                schedule, config.b1, config.b2, config.eps, weight_decay=decay
            )
        case "muon":
            rule = muon(schedule, decay, adam_b1=config.b1, adam_b2=config.b2)
        case "adafactor":
            rule = per_layer(optax.adafactor(schedule, weight_decay_rate=decay or None))
    if config.clip_norm:
        rule = optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)
    return freeze(rule, config.freeze) if config.freeze else rule


def freeze(
    rule: optax.GradientTransformation, pattern: str
) -> optax.GradientTransformation:
    """Returns `rule` for all parameters but those whose path has `pattern` in it.

    Frozen ones get updates of exactly zero: no weight decay either. `rule` never sees
    them, so it keeps no moments of them and their gradients do not count in its clip.

    Args:
      rule: an optimizer.
      pattern: regular expression, searched for in "level/layer/kernel".
    """
    search = re.compile(pattern).search

    def labels(params: Params) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda keys, _: "frozen" if search(leaf_name(keys)) else "trained", params
        )

    partitioned = optax.partition(
        {"trained": rule, "frozen": optax.set_to_zero()}, labels
    )

    def init(params: Params) -> optax.OptState:
        _check_freeze(pattern, labels(params))
        return partitioned.init(params)

    return optax.GradientTransformation(init, partitioned.update)


def _check_freeze(pattern: str, labels: Any) -> None:
    """Raises a UserError unless some parameters are frozen and some are trained."""
    label_of = {
        leaf_name(keys): label
        for keys, label in jax.tree_util.tree_leaves_with_path(labels)
    }
    if len(set(label_of.values())) == 2:
        return
    paths = sorted(label_of)
    some = ", ".join(paths[:: -(-len(paths) // 8)])
    if "frozen" in label_of.values():
        problem = f"matches all {len(paths)} of them, so nothing would be trained"
    else:
        problem = "matches none of them"
    raise UserError(
        f"optimizer.freeze is {pattern!r} and is searched for in the parameters' "
        f"paths, such as {some}; it {problem}. Give another, or '' to train all"
    )


def per_layer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns `rule` applied to each layer of stacked parameters by itself.

    Adafactor clips by the RMS of a leaf and scales by the RMS of its parameter. Layers
    scanned together share a leaf; mapped over the layer axis each of them gets exactly
    the update it would get alone.
    """
    stacked = optax.GradientTransformation(
        lambda params: jax.vmap(rule.init)(params),
        lambda updates, state, params=None: jax.vmap(rule.update)(
            updates, state, params
        ),
    )

    def label(keys, leaf) -> str:
        # One group per length: a vmap needs one size of the mapped axis.
        is_stack = is_stacked(leaf_name(keys))
        return f"stacked_{leaf.shape[0]}" if is_stack else "single"

    def labels(params: Params):
        return jax.tree_util.tree_map_with_path(label, params)

    class _Rules(dict):
        def __missing__(self, key: str) -> optax.GradientTransformation:
            return stacked if key.startswith("stacked_") else rule

    def partition(params: Params) -> optax.GradientTransformation:
        names = sorted(set(jax.tree.leaves(labels(params))))
        return optax.partition({name: _Rules()[name] for name in names}, labels)

    return optax.GradientTransformation(
        lambda params: partition(params).init(params),
        lambda updates, state, params=None: partition(updates).update(
            updates, state, params
        ),
    )
