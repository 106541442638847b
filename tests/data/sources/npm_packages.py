"""Small npm packages in the layouts of the real ones, in a registry of files."""

import base64
import hashlib
import io
import json
import tarfile

import numpy as np
from PIL import Image

from imagen_jax.data.sources import emoji
from imagen_jax.data.sources.npm import NpmPackage


def tarball(files):
    """Returns a .tgz with these files in the folder package/."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(f"package/{name}")
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return data.getvalue()


def integrity(data):
    return base64.b64encode(hashlib.sha512(data).digest()).decode()


def square(colour):
    """A drawing of iconify: a square that fills the box."""
    return {"body": f'<path fill="{colour}" d="M0 0h32v32H0z"/>'}


def icons():
    """Four drawings are to be taken of these six."""
    drawings = {
        "fox": square("#ff0000"),
        "owl": square("#00ff00") | {"width": 64},
        "flag-for-togo": square("#0000ff"),
        "one": square("#000000"),
        "owl-dark": square("#00ff00"),
        "secret": square("#00ff00") | {"hidden": True},
    }
    names = {"1f98a": "fox", "1f989": "owl", "1f989-1f3ff": "owl-dark"}
    document = {"prefix": "noto", "icons": drawings, "width": 32, "height": 32}
    return {
        "icons.json": json.dumps(document).encode(),
        "chars.json": json.dumps(names).encode(),
    }


def renders():
    """Three drawings are to be taken of these five."""
    data = io.BytesIO()
    rgba = np.zeros((16, 16, 4), np.uint8)
    rgba[:, :8] = (255, 0, 0, 255)
    Image.fromarray(rgba).save(data, "WEBP", lossless=True)
    points = ("1f98a", "1f1f9-1f1ec", "1f3f4-e0067_e0062_e0065_e006e_e0067_e007f")
    toned, unknown = "1f44b-1f3ff", "1234"
    return {
        f"assets/{name}.webp": data.getvalue() for name in (*points, toned, unknown)
    }


def serve(monkeypatch, tmp_path):
    """Makes two styles come from a registry of files, into a cache of its own."""
    styles = {"openmoji": emoji.STYLES["openmoji"]}
    for style, files in (("noto", icons()), ("fluent-3d", renders())):
        real = emoji.STYLES[style]
        assert real.package is not None
        data = tarball(files)
        base = real.package.name.rpartition("/")[2]
        path = tmp_path / "registry" / real.package.name / "-" / f"{base}-1.0.0.tgz"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        package = NpmPackage(real.package.name, "1.0.0", integrity(data))
        styles[style] = real._replace(package=package)
    monkeypatch.setattr(emoji, "STYLES", styles)
    monkeypatch.setenv("npm_config_registry", f"file://{tmp_path}/registry/")
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
