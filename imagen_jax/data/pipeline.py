"""Batches of a run: batch k is a pure function of (seed, k).

The run reads an endless stream of positions p = 0, 1, 2, ...; batch k holds the
positions k B to (k + 1) B - 1 of the global batch size B. Position p belongs to epoch
p // n (n records) and reads the record at place p mod n of that epoch's permutation,
so each record appears exactly once an epoch, also when a batch straddles two epochs.
Each host takes its parts of the batch. The state of the data is therefore one integer,
k, the same on every host and for every number of hosts.

A bad record is counted, named in the log and replaced at the same position by the next
good record in storage order: replaced, never skipped, because skipping would shift all
later positions, and would make hosts drift apart.
"""

import collections
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from imagen_jax.data import images
from imagen_jax.data.crops import CropSpec, crop_offset, crop_pair
from imagen_jax.data.records import BadRecordError, Source
from imagen_jax.errors import UserError
from imagen_jax.interfaces import Batch, TextEmbeddings, TextTokens
from imagen_jax.optional import import_optional

_log = logging.getLogger(__name__)

TextFn = Callable[[Sequence[str]], TextEmbeddings | TextTokens]
"""Captions to numpy arrays: embeddings out of a store, or tokens to encode later."""

_MIN_READ = 1000  # reads before a share of bad records means something


@functools.lru_cache(maxsize=2)  # a batch can straddle two epochs
def _permutation(num_records: int, seed: int, epoch: int) -> Int64[np.ndarray, " n"]:
    # 8 bytes a record: 3 GB for 400 M records, made once an epoch.
    bits = np.random.Philox(np.random.SeedSequence((seed, epoch)))
    return np.random.Generator(bits).permutation(num_records)


def rows_of_batch(
    num_records: int, batch_size: int, seed: int, k: int
) -> Int64[np.ndarray, " b"]:
    """Returns the records that global batch `k` reads, in order.

    Args:
      num_records: of the source, at least 1; may be smaller than a batch.
      batch_size: the global one.
      seed: of the run's data order, at least 0.
      k: number of the batch, from 0.
    """
    positions = np.arange(k * batch_size, (k + 1) * batch_size, dtype=np.int64)
    epochs, places = np.divmod(positions, num_records)
    rows = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        rows[here] = _permutation(num_records, seed, int(epoch))[places[here]]
    return rows


class _Example(NamedTuple):
    image: UInt8[np.ndarray, "r r 3"]
    caption: str


class BatchMaker:
    """Makes this host's part of any batch; safe to call from several threads.

    Attributes:
      bad: number of distinct bad records met so far, by reason.
    """

    def __init__(
        self,
        source: Source,
        text_fn: TextFn,
        *,
        resolution: int,
        batch_size: int,
        seed: int,
        shard: tuple[tuple[int, ...], int] = ((0,), 1),
        crop: CropSpec | None = None,
        cache: bool = False,
        max_bad_share: float = 0.01,
    ):
        """Makes the maker; reads nothing yet.

        Args:
          source: where records come from.
          text_fn: captions to what a batch carries of them.
          resolution: side of the pictures in pixels.
          batch_size: the global one, a multiple of the shard count.
          seed: of the data order, at least 0.
          shard: (parts, count): this host takes these of `count` even parts of every
            batch.
          crop: train on crops of the pictures; None on whole ones.
          cache: keep decoded pictures in memory (3 resolution^2 bytes a record), so
            that small sets are decoded once.
          max_bad_share: share of unreadable records, in [0, 1], above which the run
            ends.

        Raises:
          UserError: if the source is empty or the batch does not divide.
        """
        parts, count = shard
        if not all(0 <= part < count for part in parts):
            raise UserError(
                f"shard is {shard}; it must be (parts, count), each part < count"
            )
        if batch_size % count:
            raise UserError(
                f"batch_size is {batch_size}; it must be a multiple of the {count} "
                "parts that it is split into"
            )
        if len(source) == 0:
            raise UserError("the data source holds no record; prepare the data first")
        self.bad: collections.Counter[str] = collections.Counter()
        self._source = source
        self._text_fn = text_fn
        self._batch_size = batch_size
        self._seed = seed
        places = np.arange(batch_size).reshape(count, -1)
        self._places = places[list(parts)].reshape(-1)  # of this host, in the batch
        self._crop = crop
        self._resolution = resolution
        self._cache: dict[int, _Example] | None = {} if cache else None
        self._max_bad_share = max_bad_share
        self._bad_rows: set[int] = set()
        self._num_read = 0
        self._lock = threading.Lock()

    def batch(self, k: int) -> Batch:
        """Returns this host's part of batch `k`, numpy arrays.

        Args:
          k: number of the batch, from 0; any order, any number of times.

        Raises:
          UserError: if more than `max_bad_share` of the records are bad, or a caption
            has no embedding.
        """
        rows = rows_of_batch(len(self._source), self._batch_size, self._seed, int(k))
        examples = [self._example(int(row)) for row in rows[self._places]]
        self._check_bad_share()
        text = self._text_fn([example.caption for example in examples])
        pictures = [example.image for example in examples]
        low_res = None
        if self._crop:
            positions = int(k) * self._batch_size + self._places
            pictures, small = zip(
                *(
                    self._cropped(picture, int(position), self._crop)
                    for picture, position in zip(pictures, positions, strict=True)
                ),
                strict=True,
            )
            low_res = np.stack(small)
        # The containers' fields are jax arrays; these become so on the mesh.
        return Batch(np.stack(pictures), text, low_res)  # pyright: ignore[reportArgumentType]

    def _cropped(
        self, picture: np.ndarray, position: int, crop: CropSpec
    ) -> tuple[np.ndarray, np.ndarray]:
        offset = crop_offset(self._seed, position, self._resolution, crop)
        return crop_pair(picture, offset, crop)

    def _example(self, row: int) -> _Example:
        """Returns record `row`, or the nearest good one after it in storage order."""
        num_records = len(self._source)
        for candidate in range(row, row + min(num_records, _MIN_READ)):
            example = self._read(candidate % num_records)
            if example is not None:
                return example
        raise UserError(
            f"record {row} and all after it are bad ({self._bad_text()}); "
            "check that this is the right data and prepare it again"
        )

    def _read(self, row: int) -> _Example | None:
        """Returns record `row`, or None if it is bad (then counted and logged)."""
        with self._lock:
            self._num_read += 1
            if row in self._bad_rows:
                return None
            if self._cache is not None and row in self._cache:
                return self._cache[row]
        name = f"record {row}"
        try:
            record = self._source[row]
            name = record.name
            image = images.decode_square(record.image, self._resolution)
        except BadRecordError as error:
            self._count_bad(row, name, error)
            return None
        example = _Example(image, record.caption)
        if self._cache is not None:
            with self._lock:
                self._cache[row] = example
        return example

    def _count_bad(self, row: int, name: str, error: BadRecordError) -> None:
        with self._lock:
            if row in self._bad_rows:  # another thread met it at the same time
                return
            self._bad_rows.add(row)
            self.bad[error.reason] += 1
        _log.warning("bad record %s, replaced by the next one: %s", name, error)

    def _check_bad_share(self) -> None:
        with self._lock:
            num_bad = len(self._bad_rows)
            num_read = min(self._num_read, len(self._source))
        # One bad record among the first ten says nothing yet.
        enough = num_read >= min(_MIN_READ, len(self._source))
        if enough and num_bad > self._max_bad_share * num_read:
            raise UserError(
                f"{num_bad} of {num_read} records are bad ({self._bad_text()}), more "
                f"than max_bad_share = {self._max_bad_share} allows; the log names "
                "them: repair the data or raise max_bad_share"
            )

    def _bad_text(self) -> str:
        with self._lock:
            return ", ".join(f"{reason}: {num}" for reason, num in self.bad.items())


def iterate(
    maker: BatchMaker, start: int, stop: int, num_threads: int = 2
) -> Iterator[Batch]:
    """Yields batches `start` to `stop` - 1 in order, made ahead by threads.

    Args:
      maker: what makes a batch.
      start: first batch; that of the step to resume from.
      stop: one past the last.
      num_threads: how many batches are made at once; twice as many are kept ready.
    """
    grain = import_optional("grain", "quickstart")
    options = grain.ReadOptions(
        num_threads=num_threads, prefetch_buffer_size=2 * num_threads
    )
    batches = grain.MapDataset.range(start, stop).map(maker.batch)
    yield from batches.to_iter_dataset(options)
