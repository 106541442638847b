"""Pictures as raters get them: the frozen ones, and nothing but their pixels.

A file's format, its compression, its name and the notes inside it could tell a rater
which system it is from, so every picture is sent as a PNG of its pixels, under an
address that names only the trial and the place on the page.
"""

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path

from imagen_jax.data.images import decode, encode_png
from imagen_jax.data.records import BadRecordError
from imagen_jax.errors import UserError
from imagen_jax.raters.controls import Picture

CACHE_BYTES = 128 * 1024 * 1024


class ChangedPictureError(UserError):
    """A picture is no longer what it was when the study began."""


class PictureReader:
    """Reads the pictures of a study, and notices when one has changed.

    A file whose size and time of change are as before is not read again.
    """

    def __init__(self, folder: Path, cache_bytes: int = CACHE_BYTES):
        """Reads nothing yet.

        Args:
          folder: of the study.
          cache_bytes: how much of what is sent is kept in memory.
        """
        self._folder = folder
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()
        self._stamps: dict[Picture, tuple[int, int]] = {}
        self._sent: OrderedDict[Picture, bytes] = OrderedDict()

    def check(self, picture: Picture) -> None:
        """Raises `ChangedPictureError` if the file is not the one of the manifest."""
        self._read_if_new(picture)

    def read(self, picture: Picture) -> bytes:
        """Returns the picture as a PNG without metadata.

        Raises:
          ChangedPictureError: if the file is not the one of the manifest.
        """
        data = self._read_if_new(picture)
        with self._lock:
            if picture in self._sent:
                self._sent.move_to_end(picture)
                return self._sent[picture]
        try:
            png = encode_png(decode(data or (self._folder / picture.file).read_bytes()))
        except (OSError, BadRecordError) as error:
            raise self._changed(picture, str(error)) from error
        with self._lock:
            self._sent[picture] = png
            while sum(map(len, self._sent.values())) > self._cache_bytes:
                self._sent.popitem(last=False)
        return png

    def _read_if_new(self, picture: Picture) -> bytes | None:
        """Returns the checked bytes, or None if they were checked before."""
        path = self._folder / picture.file
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if self._stamps.get(picture) == stamp:
                return None
            data = path.read_bytes()
        except OSError as error:
            raise self._changed(picture, error.strerror or str(error)) from error
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise self._changed(picture, "other contents")
        self._stamps[picture] = stamp
        return data

    def _changed(self, picture: Picture, how: str) -> ChangedPictureError:
        return ChangedPictureError(
            f"the picture {self._folder / picture.file} is not what it was when the "
            f"study began ({how}); put it back: raters wait until then, and all "
            "answers are kept"
        )
