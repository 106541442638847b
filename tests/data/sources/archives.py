"""Small pictures, tars, Parquet files and folders for the tests of sources."""

import io
import tarfile

import numpy as np
from PIL import Image


def picture(number, height=8, width=8):
    """A flat picture of level `number`."""
    return np.full((height, width, 3), number, np.uint8)


def png(number, height=8, width=8):
    """The same as a PNG file."""
    return encoded(picture(number, height, width), "PNG")


def encoded(image, form, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


def write_tar(path, members, form=tarfile.DEFAULT_FORMAT):
    """Writes (name or TarInfo, contents) of each member, in this order."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members:
            header = (
                name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            )
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return str(path)


def numbered(first, last):
    """Members of the records `first` to `last` - 1: picture i, caption "picture i"."""
    for i in range(first, last):
        yield f"{i:05}.png", png(i)
        yield f"{i:05}.txt", f"picture {i}".encode()


def write_folder(path, first, last):
    """Writes the same records as files."""
    path.mkdir(parents=True, exist_ok=True)
    for name, data in numbered(first, last):
        (path / name).write_bytes(data)
    return str(path)
