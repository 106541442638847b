"""Where captions come from, by the one line that names them on a command line."""

import logging
from collections.abc import Iterator

from imagen_jax.data.records import BadRecordError, Source
from imagen_jax.data.sources.opening import open_source, parse_tfds
from imagen_jax.data.sources.seqio_task import parse_seqio, seqio_captions
from imagen_jax.data.sources.tfds import TfdsSource

_log = logging.getLogger(__name__)


def open_captions(text: str) -> Iterator[str]:
    """Yields the captions of a source, one of its records at a time.

    Args:
      text: what the config key data.source takes; several splits of a TFDS data set,
        tfds:DIR_OR_NAME:SPLIT,..., one after another; or
        seqio:[MODULE@]NAME:SPLIT[:FEATURE].

    Raises:
      UserError: if it names no source that can be opened.
    """
    match text.partition(":")[0]:
        case "seqio":
            yield from seqio_captions(*parse_seqio(text))
        case "tfds":
            name, splits = parse_tfds(text)
            for split in splits:
                yield from captions_of(TfdsSource(name, split))
        case _:
            yield from captions_of(open_source(text))


def captions_of(source: Source) -> Iterator[str]:
    """Yields the caption of each record; a bad record is logged and left out.

    Leaving it out shifts nothing here: a store has no order that anything relies on.
    A source that has its captions apart (an index) is asked for them by `caption(i)`,
    so that no picture is read.
    """
    read = getattr(source, "caption", lambda index: source[index].caption)
    for index in range(len(source)):
        try:
            yield read(index)
        except BadRecordError as error:
            _log.warning("record %d has no usable caption: %s", index, error)
