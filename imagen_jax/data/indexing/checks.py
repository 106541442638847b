"""A record that a scanner has found, and the checks that decide whether it is kept."""

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from imagen_jax.data import images
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import BadRecordError

_HEAD = 64 * 1024  # where the size of nearly every picture stands
_MAX_PICTURE = 2**32 - 1  # bytes; what RECORD can say


class Candidate(NamedTuple):
    """A picture with its caption, as found.

    `offset` is its place in the file; None if it has none and is to be copied.
    `read(n)` returns the picture's first n bytes. `mtime_ns` is that of a picture which
    is a file of its own.
    """

    name: str
    caption: str
    offset: int | None
    length: int
    read: Callable[[int], bytes]
    mtime_ns: int = 0


class Dropped(NamedTuple):
    """A record that is left out; `name` "" stands for the rest of its file."""

    name: str
    reason: str
    detail: str = ""


def check(candidate: Candidate, options: IndexOptions) -> tuple[int, int]:
    """Returns (width, height) of a record that is kept.

    Raises:
      BadRecordError: with the reason why it is not.
    """
    num_characters = len(candidate.caption)
    if num_characters < options.min_caption:
        raise BadRecordError("caption too short", f"{num_characters} characters")
    if options.max_caption and num_characters > options.max_caption:
        raise BadRecordError("caption too long", f"{num_characters} characters")
    width, height = _picture_size(candidate)
    if min(width, height) < options.min_size:
        raise BadRecordError("picture too small", f"{width} x {height}")
    long, short = max(width, height), min(width, height)
    if options.max_aspect and long > options.max_aspect * short:
        raise BadRecordError("picture too narrow", f"{width} x {height}")
    if options.decode:
        images.decode(candidate.read(candidate.length))
    return width, height


def _picture_size(candidate: Candidate) -> tuple[int, int]:
    if candidate.length > _MAX_PICTURE:
        raise BadRecordError("picture too large", f"{candidate.length} bytes")
    try:
        return images.picture_size(candidate.read(_HEAD))
    except BadRecordError as error:
        if error.reason == "picture too large" or candidate.length <= _HEAD:
            raise
    # Large metadata before the size, or a format that is read whole.
    return images.picture_size(candidate.read(candidate.length))


def parse_caption(data: bytes) -> str:
    """Returns a caption without the blanks around it.

    Raises:
      BadRecordError: "caption is not UTF-8" or "no caption" (nothing but blanks).
    """
    try:
        caption = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BadRecordError("caption is not UTF-8", str(error)) from error
    if not caption:
        raise BadRecordError("no caption")
    return caption


def parse_json_caption(data: bytes, key: str, index: int) -> str:
    """Returns the caption in a JSON object that stands beside a picture.

    Args:
      data: the file.
      key: under which it stands; "" is "caption" or "text".
      index: of the record, for `choose_caption`.

    Raises:
      BadRecordError: "caption is malformed", or as `parse_caption`.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
        raise BadRecordError("caption is malformed", f"{error}") from error
    if not isinstance(fields, dict):
        raise BadRecordError("caption is malformed", "the JSON is no object")
    keys = [key] if key else ["caption", "text"]
    value: Any = next((fields[k] for k in keys if fields.get(k)), None)
    if isinstance(value, list):
        value = choose_caption(value, index)
    if value is None:
        raise BadRecordError("no caption")
    if not isinstance(value, str):
        raise BadRecordError("caption is malformed", "it is no string")
    try:
        return parse_caption(value.encode())
    except UnicodeEncodeError as error:  # half a character, written as \ud800
        raise BadRecordError("caption is not UTF-8", str(error)) from error


def choose_caption(captions: Sequence[Any], index: int) -> Any:
    """Returns one of a record's captions, always the same one of the same record.

    Args:
      captions: any number; None is returned if there is none.
      index: of the record; decides which, so that a set's records take theirs from
        all places.
    """
    if not captions:
        return None
    return captions[zlib.crc32(index.to_bytes(8, "little")) % len(captions)]


def printable(name: str) -> str:
    """Returns a name that may hold bytes which are not UTF-8, with these escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
