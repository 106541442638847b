"""A tiny cascade of three stages, and a studio that draws with it, for the tests."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import jax

import imagen_jax
from imagen_jax.app.requests import Limits
from imagen_jax.app.serving import make_app
from imagen_jax.app.studio import Remarks, Studio
from imagen_jax.bundle import write_bundle
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.web import listen, make_server
from tests.cascades import write_cascade_files
from tests.text.tiny_bert import CONFIG
from tests.tiny import ONE_LEVEL, tiny_stage

SIZES = (8, 16, 32)
STEPS = (2, 4)


def write_three_stages(folder: Path, fill_params) -> list[Path]:
    """Returns the stages' folders, from the base up: 8, 16 and 32 pixels.

    Args:
      folder: for them and their encoder.
      fill_params: the fixture.
    """
    write_cascade_files(folder, fill_params)
    text = {
        "encoder": "tiny_bert",
        "width": CONFIG.width,
        "max_length": 8,
        "weights_path": str(folder / "encoder"),
    }
    stage = tiny_stage(
        "sr",
        name="sr32",
        resolution=32,
        low_res_resolution=16,
        text=text,
        network=ONE_LEVEL["sr"],
    )
    abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
    write_bundle(stage, fill_params(abstract, 3), folder / "sr32")
    return [folder / name for name in ("base", "sr", "sr32")]


def make_studio(folders: list[Path], files: Path, **settings) -> Studio:
    """Returns a studio of these stages on one device.

    Args:
      folders: of the stages.
      files: folder for its files.
      **settings: queue_limit, say.
    """
    remarks = Remarks()
    mesh = make_mesh(devices=jax.devices()[:1])
    model = imagen_jax.load(*folders, mesh=mesh, say=remarks)
    settings = {"queue_limit": 2, "batch_size": 2, **settings}
    limits = Limits(len(model.names), STEPS)
    return Studio(model, remarks, limits, folder=files, **settings)


@contextlib.contextmanager
def served(studio: Studio) -> Iterator[str]:
    """Serves a studio in this process; yields the address."""
    with listen("127.0.0.1", 0) as listener:
        server = make_server(*make_app(studio))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
