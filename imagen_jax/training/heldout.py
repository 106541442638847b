"""The loss on held-out pictures with the averaged weights, whole and by log-SNR.

Every call takes the same pictures, crops, times and noise, so two values differ by what
was learned between them and not by luck. The draws belong to the picture and the seed:
another mesh or microbatch size changes nothing but rounding.

Which times those are, and how they count, says `imagen_jax.training.heldout_draws`.
Captions are never dropped.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from imagen_jax.data.crops import CropSpec
from imagen_jax.data.pipeline import BatchMaker, TextFn
from imagen_jax.data.records import Record, Source
from imagen_jax.errors import UserError
from imagen_jax.interfaces import Batch, TextEmbeddings, TextTokens
from imagen_jax.parallel.distributed import raise_together
from imagen_jax.parallel.mesh import data_shard, num_batch_shards
from imagen_jax.parallel.sharding import replicated, to_global
from imagen_jax.stage import Params, Stage
from imagen_jax.training.heldout_draws import draw_means
from imagen_jax.training.state import ema_names
from imagen_jax.training.step import Examples, draw_examples, example_losses

# The step's keys are fold_in(root, step) with step < 2^31; this is another one.
_KEY = 2**31 + 0x4E1D


class EvenlySpaced:
    """Some records of a source, evenly spaced; implements `Source`."""

    def __init__(self, source: Source, count: int):
        """Takes `count` of the records, or all where there are fewer."""
        self._source = source
        num = min(count, len(source))
        self._rows = np.linspace(0, len(source) - 1, num).astype(int)

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        return self._source[int(self._rows[index])]


class HeldoutLoss:
    """The loss of a stage on held-out pictures; all processes must make and call it."""

    def __init__(
        self,
        stage: Stage,
        mesh: Mesh,
        source: Source,
        text_fn: TextFn,
        *,
        encode_fn: Callable[[TextTokens], TextEmbeddings] | None = None,
        crop: CropSpec | None = None,
    ):
        """Reads the pictures; each host keeps those that its devices will take.

        Args:
          stage: the stage that is trained.
          mesh: that it is trained on.
          source: of held-out pictures; `config.heldout.count` are taken.
          text_fn: captions to what a training batch carries.
          encode_fn: as in training: tokens to embeddings, None where `text_fn` gives
            embeddings.
          crop: of the pictures, as in training.

        Raises:
          UserError: the source is empty, too many records are bad, or a caption has no
            embedding; on all processes.
        """
        self._mesh, self._encode_fn = mesh, encode_fn
        self._names = ema_names(stage.config.train)
        self._num_times = stage.config.heldout.times
        chosen = EvenlySpaced(source, stage.config.heldout.count)
        self._batch_size = _batch_size(stage, mesh, len(chosen))
        self._batches: list[Batch] = []

        def read() -> None:
            self._batches += read_batches(
                stage, mesh, chosen, text_fn, self._batch_size, crop
            )

        raise_together(read)
        self._metrics, times, weights = draw_means(stage, len(chosen))
        # Pictures that fill the last batch up count nothing.
        missing = len(self._batches) * self._batch_size - len(chosen)
        times = np.pad(times, ((0, 0), (0, missing)))
        weights = np.pad(weights, ((0, 0), (0, 0), (0, missing)))
        self._partial_means = jax.jit(
            functools.partial(partial_means, stage, times, weights),
            out_shardings=replicated(mesh),
        )

    def __call__(self, ema_params: dict[str, Params]) -> dict[str, float]:
        """Returns the losses by name; call it with the mesh set, as in training.

        Args:
          ema_params: the averages by decay, sharded as in training.

        Returns:
          Of the first decay "heldout/loss" and "heldout/loss_logsnr_LOW_HIGH" for each
          bin that holds a draw; of each further one "heldout/DECAY/loss".
        """
        first, *others = self._names
        means = self._means(ema_params[first])
        values = dict(zip(self._metrics, means.tolist(), strict=True))
        for name in others:
            values[f"heldout/{name}/loss"] = float(self._means(ema_params[name])[0])
        return values

    def _means(self, params: Params) -> Float[np.ndarray, " k"]:
        parts = []
        for number, host_batch in enumerate(self._batches):
            batch = to_global(host_batch, self._mesh)
            if self._encode_fn:
                batch = batch._replace(text=self._encode_fn(batch.text))
            place = np.int32(number * self._batch_size)
            # One after another; `parallel.checksums` has the reason.
            parts += [
                jax.device_get(
                    self._partial_means(params, batch, place, np.int32(time))
                )
                for time in range(self._num_times)
            ]
        return np.stack(parts).sum(axis=0, dtype=np.float64)


def _batch_size(stage: Stage, mesh: Mesh, count: int) -> int:
    """Returns how many pictures are taken at once: as in training, which fits."""
    train, shards = stage.config.train, num_batch_shards(mesh)
    size = max(min(count, train.batch_size // train.microbatches), 1)
    return -(-size // shards) * shards


def read_batches(
    stage: Stage,
    mesh: Mesh,
    source: Source,
    text_fn: TextFn,
    batch_size: int,
    crop: CropSpec | None,
) -> list[Batch]:
    """Returns this host's rows of as many batches as hold all pictures of the source.

    They come from the pipeline of training, which begins again after the last picture.

    Raises:
      UserError: as `HeldoutLoss`, on this process.
    """
    config = stage.config
    try:
        maker = BatchMaker(
            source,
            text_fn,
            resolution=config.resolution,
            batch_size=batch_size,
            seed=config.seed,
            shard=data_shard(mesh),
            crop=crop,
            max_bad_share=config.data.max_bad_share,
        )
        return [maker.batch(k) for k in range(-(-len(source) // batch_size))]
    except UserError as error:
        raise UserError(f"heldout.source {config.heldout.source!r}: {error}") from error


def partial_means(
    stage: Stage,
    times: Float[np.ndarray, "times n"],
    weights: Float[np.ndarray, "k times n"],
    params: Params,
    batch: Batch,
    first: Int[Array, ""],
    time: Int[Array, ""],
) -> Float[Array, " k"]:
    """Returns what a batch at one of its times adds to each of the k means.

    Args:
      stage: the stage; static, as are the tables.
      times: of every picture.
      weights: of every picture and time in each mean; 0 where it has no part.
      params: of the network.
      batch: the global batch of pictures `first`, `first` + 1, ...
      first: number of its first picture.
      time: which of the times.
    """
    size = batch.image.shape[0]
    t = jax.lax.dynamic_slice_in_dim(jnp.asarray(times)[time], first, size)
    weight = jax.lax.dynamic_slice_in_dim(
        jnp.asarray(weights)[:, time], first, size, axis=1
    )
    root_key = jax.random.fold_in(jax.random.key(stage.config.seed), _KEY)
    time_key = jax.random.fold_in(root_key, time)

    def draw(number: Int[Array, ""], picture: Batch) -> Examples:
        alone = jax.tree.map(lambda x: x[None], picture)
        key = jax.random.fold_in(time_key, number)
        return jax.tree.map(lambda x: x[0], draw_examples(stage, key, alone))

    examples = jax.vmap(draw)(first + jnp.arange(size), batch)
    assert isinstance(batch.text, TextEmbeddings)  # tokens were encoded
    loss, _ = example_losses(stage, params, examples._replace(t=t, text=batch.text))
    # Not a product of matrices: a TPU would round the losses to bfloat16. And a loss
    # that is not finite shows in its own bins only.
    return jnp.where(weight > 0, weight * loss, 0.0).sum(axis=1)
