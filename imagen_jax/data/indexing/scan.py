"""One input of an index, scanned: which records are kept, and where they lie."""

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from imagen_jax.data.indexing.checks import Candidate, Dropped, check
from imagen_jax.data.indexing.files import local_copy
from imagen_jax.data.indexing.format import RECORD, IndexFile
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.records import BadRecordError
from imagen_jax.data.sources.folder import folder_stamp, scan_folder
from imagen_jax.data.sources.parquet import scan_parquet
from imagen_jax.data.sources.tars import scan_tar


class Scanned(NamedTuple):
    """What a scan found.

    `records` are `RECORD`s whose `file` is a number in `files`, and whose `text` is an
    offset in `texts`. The second of `files`, if there is one, is the pack that was
    written.
    """

    files: list[IndexFile]
    records: np.ndarray
    texts: bytes
    dropped: list[Dropped]


def scan_input(file: IndexFile, options: IndexOptions, pack: str) -> Scanned:
    """Returns what is kept of one archive or folder.

    Args:
      file: from `find_inputs`.
      options: which records are kept.
      pack: file to write pictures to that have no place of their own; made only if
        there are any.

    Raises:
      UserError: if the input cannot be used at all.
    """
    if file.kind == "folder":
        size, stamp = folder_stamp(file.path)
        file = IndexFile(file.path, "folder", size, stamp)
        return _scan(file, scan_folder(file.path, options), options, pack)
    with local_copy(file.path) as path:
        is_tar = path.lower().endswith(".tar")
        scan = scan_tar if is_tar else scan_parquet
        return _scan(file, scan(path, options), options, pack)


def _scan(
    file: IndexFile,
    found: Iterator[Candidate | Dropped],
    options: IndexOptions,
    pack: str,
) -> Scanned:
    rows, texts, dropped = [], bytearray(), []
    packed = 0
    for candidate in found:
        if isinstance(candidate, Dropped):
            dropped.append(candidate)
            continue
        try:
            width, height = check(candidate, options)
        except BadRecordError as error:
            dropped.append(Dropped(candidate.name, error.reason, str(error)))
            continue
        number, offset = 0, candidate.offset
        if offset is None:
            _append(pack, candidate.read(candidate.length))
            number, offset = 1, packed
            packed += candidate.length
        caption = candidate.caption.encode()
        name = candidate.name.encode("utf-8", "surrogateescape")
        rows.append(
            (
                number,
                candidate.length,
                offset,
                len(texts),
                len(caption),
                len(name),
                int.from_bytes(hashlib.sha256(caption).digest()[:8], "big"),
                candidate.mtime_ns,
                width,
                height,
            )
        )
        texts += caption + name
    files = [file]
    if packed:
        files.append(IndexFile(os.path.basename(pack), "pack", packed))
    return Scanned(files, np.array(rows, RECORD), bytes(texts), dropped)


def _append(path: str, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)
