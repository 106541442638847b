"""Records of a Parquet file: img2dataset's and Hugging Face's layouts.

    img2dataset    the picture's bytes in a column named by the format (jpg), `caption`
    Hugging Face   `image`, a struct of bytes and path, and `text` or `caption`

A caption column may hold lists, of which one caption is taken. Parquet compresses many
pictures together, so that none can be read alone. Where the column is stored without
compression, a picture stands in the file as it is and is addressed there. Others have
no place of their own, and the index keeps a copy.
"""

import mmap
from collections.abc import Iterator
from typing import Any, NamedTuple

from imagen_jax.data.indexing.checks import (
    Candidate,
    Dropped,
    choose_caption,
    parse_caption,
)
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional

_IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "image_bytes", "bytes")
_CAPTION_COLUMNS = ("caption", "captions", "text", "TEXT")
_BATCH = 16  # rows in memory at once; a picture may be some MB


class _Columns(NamedTuple):
    image: str
    caption: str
    leaf: str  # what holds the bytes: `image`, or a field of it


def scan_parquet(path: str, options: IndexOptions) -> Iterator[Candidate | Dropped]:
    """Yields the records of a local Parquet file, in order.

    A damaged file or row group gives one `Dropped` without a name.

    Raises:
      UserError: if it has no column of pictures or captions, or pyarrow is missing.
    """
    pyarrow: Any = import_optional("pyarrow", "parquet")
    parquet: Any = import_optional("pyarrow.parquet", "parquet")
    # What pyarrow raises on damaged files.
    damage = (pyarrow.ArrowException, OSError, ValueError)
    try:
        file = parquet.ParquetFile(path)
    except damage as error:
        yield Dropped("", "archive is damaged", f"{type(error).__name__}: {error}")
        return
    with file, open(path, "rb") as raw:
        columns = _find_columns(path, file.schema_arrow, options)
        with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
            row = 0
            for group in range(file.num_row_groups):
                num_rows = file.metadata.row_group(group).num_rows
                try:
                    yield from _scan_group(file, group, row, columns, data)
                except damage as error:
                    detail = f"in rows {row} to {row + num_rows - 1}: {error}"
                    yield Dropped("", "archive is damaged", detail)
                row += num_rows


def _find_columns(path: str, schema: Any, options: IndexOptions) -> _Columns:
    pyarrow: Any = import_optional("pyarrow", "parquet")

    def is_bytes(kind: Any) -> bool:
        return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)

    def is_text(kind: Any) -> bool:
        if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
            kind = kind.value_type
        return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)

    images, captions = {}, []
    for field in schema:
        if is_bytes(field.type):
            images[field.name] = field.name
        elif pyarrow.types.is_struct(field.type):
            index = field.type.get_field_index("bytes")
            if index >= 0 and is_bytes(field.type.field(index).type):
                images[field.name] = f"{field.name}.bytes"
        elif is_text(field.type):
            captions.append(field.name)
    image = _choose(path, "image", options.image_column, _IMAGE_COLUMNS, [*images])
    caption = _choose(
        path, "caption", options.caption_column, _CAPTION_COLUMNS, captions
    )
    return _Columns(image, caption, images[image])


def _choose(
    path: str, what: str, wanted: str, usual: tuple[str, ...], found: list[str]
) -> str:
    names = [wanted] if wanted else usual
    for name in names:
        if name in found:
            return name
    raise UserError(
        f"{path} has no {what} column {' or '.join(map(repr, names))}; the columns "
        f"that could be it are {', '.join(map(repr, found)) or 'none'}, so name one by "
        f"--{what}_column"
    )


def _scan_group(
    file: Any, group: int, row: int, columns: _Columns, data: mmap.mmap
) -> Iterator[Candidate | Dropped]:
    places = None
    batches = file.iter_batches(
        _BATCH, [group], [columns.leaf, columns.caption], use_threads=False
    )
    for batch in batches:
        # Not before the first batch: where the metadata of a column are damaged,
        # reading it raises, and asking for them ends the process.
        places = places or _Places(data, file, group, columns.leaf)
        images = batch.column(columns.image)
        if columns.leaf != columns.image:
            images = images.field("bytes")  # null where the struct is
        for image, caption in zip(images, batch.column(columns.caption), strict=True):
            name = f"row {row}"
            try:
                yield _candidate(name, image, _caption_bytes(caption, row), places)
            except BadRecordError as error:
                yield Dropped(name, error.reason, str(error))
            row += 1


def _candidate(name: str, image: Any, caption: bytes, places: "_Places") -> Candidate:
    if not image.is_valid or not (picture := image.as_buffer().to_pybytes()):
        raise BadRecordError("no picture")
    return Candidate(
        name,
        parse_caption(caption),
        places.find(picture),
        len(picture),
        lambda num_bytes: picture[:num_bytes],
    )


def _caption_bytes(value: Any, row: int) -> bytes:
    # The bytes, because whether they are UTF-8 is checked here and nowhere before.
    if value.is_valid and not hasattr(value, "as_buffer"):  # a list
        value = choose_caption([*value.values], row)
    if value is None or not value.is_valid:
        raise BadRecordError("no caption")
    return value.as_buffer().to_pybytes()


class _Places:
    """Where the pictures of a row group stand in the file, if they do."""

    def __init__(self, data: mmap.mmap, file: Any, group: int, leaf: str):
        leaves = [column.path for column in file.schema]
        chunk = file.metadata.row_group(group).column(leaves.index(leaf))
        starts = [chunk.data_page_offset]
        if chunk.dictionary_page_offset is not None:
            starts.append(chunk.dictionary_page_offset)
        self._data = data
        self._next = self._start = min(starts)
        self._end = self._start + chunk.total_compressed_size
        self._searched = chunk.compression == "UNCOMPRESSED"

    def find(self, picture: bytes) -> int | None:
        """Returns the offset of these bytes in the file, None if they are nowhere.

        Whatever the encoding, a place that holds the very bytes is a right answer.
        Pictures stand in the order of their rows, so the search is short; one that
        occurs twice may stand before (in a dictionary).
        """
        if not self._searched:
            return None
        for start in (self._next, self._start):
            place = self._data.find(picture, start, self._end)
            if place >= 0:
                self._next = max(self._next, place + len(picture))
                return place
        self._searched = False  # an encoding that cuts values: searching would be slow
        return None
