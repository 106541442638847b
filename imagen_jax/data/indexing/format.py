"""The format of an index, version 1.

Training reads records at random, which tars and Parquet files do not offer. So they are
scanned once, and of each record that is kept the index says in which file it lies and
where. An index is a folder, local or in a bucket:

    index.json    `Manifest`: the files, the options, the counts; written last
    records.npy   one `RECORD` each, in the order of the inputs and of their records
    texts.bin     caption and name of each record, UTF-8, one after another
    dropped.csv   file,name,reason,detail of each record that was left out
    pictures-*.bin  pictures that have no place of their own (compressed Parquet)

`records.npy` and `texts.bin` are memory-mapped: 56 bytes and a caption a record.
"""

import dataclasses
import json
from typing import Any

import numpy as np

from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.errors import UserError

VERSION = 1
MANIFEST = "index.json"
RECORDS = "records.npy"
TEXTS = "texts.bin"
DROPPED = "dropped.csv"

RECORD = np.dtype(
    [
        ("file", "<u4"),  # number in Manifest.files
        ("length", "<u4"),  # of the picture, in bytes
        ("offset", "<u8"),  # of the picture in its file
        ("text", "<u8"),  # offset of the caption in texts.bin; the name follows it
        ("caption_length", "<u4"),  # in bytes
        ("name_length", "<u4"),
        ("caption_hash", "<u8"),  # first 8 bytes of its SHA-256, as the stores' shards
        ("mtime_ns", "<i8"),  # of a picture in a folder; 0 in archives
        ("width", "<u4"),
        ("height", "<u4"),
    ]
)


@dataclasses.dataclass(frozen=True)
class IndexFile:
    """A file that records lie in, as it was when it was scanned.

    Attributes:
      path: absolute path or URL; of a "pack" its name in the index's folder.
      kind: "archive" (tar or Parquet), "folder" of pictures, or "pack", the pictures
        of the archive before it that had to be copied.
      size: in bytes; of a folder the sum over its files.
      stamp: changes with the contents: time of modification, etag, or a hash.
    """

    path: str
    kind: str
    size: int
    stamp: str = ""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What an index holds and what it was made from.

    Attributes:
      files: in the order of the inputs.
      options: what was asked for.
      num_records: records kept.
      num_captions: distinct captions among them.
      texts_size: of texts.bin, in bytes.
      dropped: number of records left out, by reason.
      version: of the format.
    """

    files: tuple[IndexFile, ...]
    options: IndexOptions
    num_records: int
    num_captions: int
    texts_size: int
    dropped: dict[str, int]
    version: int = VERSION

    @property
    def inputs(self) -> list[IndexFile]:
        """The files that were scanned."""
        return [file for file in self.files if file.kind != "pack"]


def dump_manifest(manifest: Manifest) -> bytes:
    """Returns the contents of index.json."""
    return (json.dumps(dataclasses.asdict(manifest), indent=1) + "\n").encode()


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Returns the manifest in `data`.

    Args:
      data: contents of index.json.
      where: names the index in errors.

    Raises:
      UserError: if it is damaged or of another version.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        version = fields["version"]
        if version == VERSION:
            files = tuple(IndexFile(**file) for file in fields.pop("files"))
            options = IndexOptions(**fields.pop("options"))
            manifest = Manifest(files=files, options=options, **fields)
            for part in (manifest, *files):
                _check_types(part)
            return manifest
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"the index {where} is damaged ({MANIFEST}: {type(error).__name__}: "
            f"{error}); make it again by python -m imagen_jax.prepare index"
        ) from error
    raise UserError(
        f"the index {where} is of version {version!r}, this program reads version "
        f"{VERSION}; make it again by python -m imagen_jax.prepare index"
    )


def _check_types(part: Manifest | IndexFile) -> None:
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(field.type, type) and type(value) is not field.type:
            raise TypeError(f"{field.name} is {value!r}")
