"""Records of an index: one read each, at random, from tars, Parquet files and folders.

`imagen_jax.data.indexing.format` says what an index is.
"""

import hashlib
import os

import numpy as np

from imagen_jax.data.indexing.checks import printable
from imagen_jax.data.indexing.files import check_unchanged, read_part
from imagen_jax.data.indexing.format import (
    MANIFEST,
    RECORD,
    RECORDS,
    TEXTS,
    IndexFile,
    parse_manifest,
)
from imagen_jax.data.records import BadRecordError, Record
from imagen_jax.data.remote import open_folder
from imagen_jax.errors import UserError


class IndexedSource:
    """What `python -m imagen_jax.prepare index` has kept; implements `Source`.

    The index is memory-mapped; of one in a bucket, its two files are copied to the
    local disk once. Files are opened for each read and none is kept open, so there is
    no limit on their number; pickling sends the path only.

    Attributes:
      manifest: what the index was made from.
    """

    def __init__(self, path: str):
        """Opens the index and checks that no archive has changed since it was made.

        Args:
          path: folder or URL of the index.

        Raises:
          UserError: if there is no index, it is damaged, or an archive has changed.
        """
        self._path = path
        folder = open_folder(path)
        data = folder.read(MANIFEST)
        if data is None:
            raise UserError(
                f"{path} is no index (it has no {MANIFEST}); make one by "
                f"python -m imagen_jax.prepare index --out={path} FILES"
            )
        self.manifest = parse_manifest(data, path)
        check_unchanged(self.manifest.files, path)
        key = hashlib.sha256(data).hexdigest()
        try:
            records = np.load(folder.local(RECORDS, key), mmap_mode="r")
            texts = np.memmap(folder.local(TEXTS, key), np.uint8, "r")
        except Exception as error:  # a damaged header raises many built-in exceptions
            raise UserError(self._damaged(str(error))) from error
        found = (records.dtype, records.shape, texts.size)
        made = (RECORD, (self.manifest.num_records,), self.manifest.texts_size)
        if found != made:
            raise UserError(self._damaged(f"{found}, not {made}"))
        # Plain arrays over the same mapping: indexing a memmap is several times slower.
        self._records, self._texts = np.asarray(records), np.asarray(texts)

    def _damaged(self, detail: str) -> str:
        return (
            f"the index {self._path} is damaged ({detail}); delete it and make it "
            "again by python -m imagen_jax.prepare index"
        )

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._records)

    def name(self, index: int) -> str:
        """Returns the name of record `index` in its folder or archive."""
        return self._text(index)[1]

    def caption(self, index: int) -> str:
        """Returns the caption of record `index` without reading its picture."""
        return self._text(index)[0]

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        caption, name = self._text(index)
        record = self._records[index]
        if record["file"] >= len(self.manifest.files) or record["offset"] >= 2**63:
            raise UserError(self._damaged(f"record {index}: {record}"))
        file = self.manifest.files[record["file"]]
        image = self._read(file, name, record)
        return Record(image, caption, printable(f"{file.path}[{name}]"))

    def _text(self, index: int) -> tuple[str, str]:
        """Returns (caption, name) of record `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        record = self._records[index]
        start = int(record["text"])
        middle = start + int(record["caption_length"])
        end = middle + int(record["name_length"])
        try:
            caption = self._texts[start:middle].tobytes().decode()
        except UnicodeDecodeError as error:
            raise UserError(self._damaged(f"record {index}: {error}")) from error
        name = self._texts[middle:end].tobytes().decode("utf-8", "surrogateescape")
        if "\0" in name:  # no file's
            raise UserError(self._damaged(f"record {index}: {name!r}"))
        return caption, name

    def _read(self, file: IndexFile, name: str, record: np.void) -> bytes:
        path, length = file.path, int(record["length"])
        match file.kind:
            case "folder":
                path = os.path.join(path, name)
                self._check_picture(path, record)
            case "pack":
                path = f"{self._path}/{path}"
        image = read_part(path, int(record["offset"]), length)
        if len(image) != length:
            raise BadRecordError("truncated file", f"{len(image)} of {length} bytes")
        return image

    def _check_picture(self, path: str, record: np.void) -> None:
        """Refuses a picture of a folder that is not what was indexed."""
        try:
            status = os.stat(path)
        except OSError as error:
            change = f"cannot be read ({error.strerror})"
        else:
            now = (status.st_size, status.st_mtime_ns)
            if now == (record["length"], record["mtime_ns"]):
                return
            change = "has changed since it was indexed"
        raise UserError(
            f"{path}, of the index {self._path}, {change}; put it back, or make the "
            "index again by python -m imagen_jax.prepare index"
        )

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """Returns how to open it again in another process."""
        return type(self), (self._path,)
