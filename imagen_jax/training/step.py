"""One training step, a pure function that the loop jits.

Paper, sections 2.2 to 2.4: draw a noise level and noise, (SR: noise the low-res picture
at a random aug_level), drop the text of 10 %, and regress.

All randomness is drawn per example of the global batch, from keys
fold_in(fold_in(root, step), example), before the batch is split into microbatches:
hence a microbatched step equals a whole one and a sharded step a single-device one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from imagen_jax.diffusion.augmentation import downsample, to_unit
from imagen_jax.diffusion.guidance import drop_text
from imagen_jax.diffusion.loss import denoising_loss, sample_times
from imagen_jax.interfaces import Batch, TextEmbeddings
from imagen_jax.stage import Params, Stage
from imagen_jax.training.ema import update_ema
from imagen_jax.training.optimizer import learning_rate
from imagen_jax.training.state import TrainState


class Examples(NamedTuple):
    """A batch with all its randomness drawn; every leaf's first axis is the example.

    `low_res`, `aug_level` and `aug_noise` are None for a base stage.
    """

    x0: Float[Array, "b h w 3"]
    eps: Float[Array, "b h w 3"]
    t: Float[Array, " b"]
    text: TextEmbeddings
    low_res: Float[Array, "b hl wl 3"] | None
    aug_level: Float[Array, " b"] | None
    aug_noise: Float[Array, "b hl wl 3"] | None


def train_step(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    root_key: jax.Array,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Returns the state after one update, and its metrics.

    An update whose loss, gradient or size is not finite is undone inside the step and
    counted.

    Args:
      stage: the stage; static.
      optimizer: from `make_optimizer`; static.
      root_key: the run's key.
      state: before the step.
      batch: the global batch, pictures as bytes.
    """
    settings = stage.config.train
    keys = jax.random.fold_in(root_key, state.step)
    examples = draw_examples(stage, keys, batch)
    loss, square_error, grads = accumulate_gradients(stage, state.params, examples)
    grad_norm = optax.tree.norm(grads)

    num_updates = state.step - state.num_skipped
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    update_norm = optax.tree.norm(updates)
    finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm) & jnp.isfinite(update_norm)
    params = optax.apply_updates(state.params, updates)
    ema_params = update_ema(state.ema_params, params, num_updates)

    def keep_if_finite(new, old):
        return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

    skipped = (~finite).astype(jnp.int32)
    new_state = TrainState(
        step=state.step + 1,
        params=keep_if_finite(params, state.params),
        ema_params=keep_if_finite(ema_params, state.ema_params),
        opt_state=keep_if_finite(opt_state, state.opt_state),
        num_skipped=state.num_skipped + skipped,
        num_skipped_in_row=(state.num_skipped_in_row + skipped) * skipped,
    )
    config = stage.config.optimizer
    metrics = {
        "loss": loss,
        "square_error": square_error,
        "grad_norm": grad_norm,
        "update_norm": update_norm,
        "learning_rate": learning_rate(config, settings.num_steps, num_updates),
        "num_skipped": new_state.num_skipped.astype(jnp.float32),
        "num_skipped_in_row": new_state.num_skipped_in_row.astype(jnp.float32),
    }
    metrics |= {f"grad_norm/{k}": optax.tree.norm(g) for k, g in grads.items()}
    return new_state, metrics


def draw_examples(stage: Stage, key: jax.Array, batch: Batch) -> Examples:
    """Returns the batch as floats with t, eps, drops and augmentation drawn.

    Args:
      stage: the stage.
      key: this step's key.
      batch: pictures as bytes; text as embeddings.
    """
    config = stage.config
    x0 = to_unit(batch.image)
    per_example = jax.vmap(lambda i: jax.random.fold_in(key, i))(
        jnp.arange(x0.shape[0])
    )
    split = jax.vmap(lambda k: jax.random.split(k, 5))(per_example)
    t_keys, eps_keys, drop_keys, level_keys, aug_keys = (split[:, i] for i in range(5))

    def normal(keys, shape):
        return jax.vmap(lambda k: jax.random.normal(k, shape))(keys)

    uniform = jax.vmap(jax.random.uniform)
    assert isinstance(batch.text, TextEmbeddings)  # the loop has encoded tokens
    drop = uniform(drop_keys) < config.diffusion.cond_drop_prob
    low_res = aug_level = aug_noise = None
    if config.is_super_resolution:
        if batch.low_res is not None:
            low_res = to_unit(batch.low_res)
        else:
            low_res = downsample(x0, config.resolution // config.low_res_resolution)
        aug_level = uniform(level_keys) * config.diffusion.aug_level_max
        aug_noise = normal(aug_keys, low_res.shape[1:])
    return Examples(
        x0=x0,
        eps=normal(eps_keys, x0.shape[1:]),
        t=sample_times(t_keys, config.diffusion.times),
        text=drop_text(batch.text, drop),
        low_res=low_res,
        aug_level=aug_level,
        aug_noise=aug_noise,
    )


def example_losses(
    stage: Stage, params: Params, examples: Examples
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Returns each example's weighted loss and its plain square error."""
    cond = stage.condition(
        examples.text, examples.low_res, examples.aug_level, examples.aug_noise
    )
    loss = denoising_loss(
        stage.denoiser(params),
        stage.schedule,
        examples.x0,
        examples.eps,
        examples.t,
        cond,
        prediction=stage.config.diffusion.prediction,
        weighting=stage.config.diffusion.weighting,
    )
    return loss.weighted, loss.square_error


def accumulate_gradients(
    stage: Stage, params: Params, examples: Examples
) -> tuple[Float[Array, ""], Float[Array, ""], Params]:
    """Returns mean loss, mean square error and the loss's gradient over the batch.

    The batch is taken in `train.microbatches` parts; sums are float32. Parts are
    strided (part i holds examples i, i + m, ...), so each device keeps its own.
    """
    parts = stage.config.train.microbatches

    def mean_loss(params, part):
        weighted, square = example_losses(stage, params, part)
        return weighted.mean(), square.mean()

    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
    if parts == 1:
        (loss, square), grads = value_and_grad(params, examples)
        return loss, square, grads

    split = jax.tree.map(
        lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), examples
    )

    def add(total, part):
        (loss, square), grads = value_and_grad(params, part)
        return jax.tree.map(jnp.add, total, (loss, square, grads)), None

    zeros = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    total, _ = jax.lax.scan(add, zeros, split, unroll=parts if stage.unroll else 1)
    return jax.tree.map(lambda x: x / parts, total)
