"""A tiny cascade and its encoder as files, for the tests of all that samples."""

from pathlib import Path

import jax

from imagen_jax.bundle import write_bundle
from tests.text.tiny_bert import CONFIG, write_folder
from tests.tiny import ONE_LEVEL, tiny_stage

PROMPTS = ["the red fox", "a cat on the owl"]
KINDS = ("base", "sr")
LONG = "a red fox on the blue cat on a red owl"  # more than the tokens there are


def write_cascade_files(folder: Path, fill_params, **changes) -> Path:
    """Returns `folder` with encoder/, base/ and sr/, which were trained with it.

    Args:
      folder: made if missing.
      fill_params: the fixture.
      **changes: of both stages' configs.
    """
    text = changes.pop("text", {})
    network = changes.pop("network", {})
    text = {
        "encoder": "tiny_bert",
        "width": CONFIG.width,
        "max_length": 8,
        "weights_path": str(write_folder(folder / "encoder")),
        **text,
    }
    for seed, kind in enumerate(KINDS, 1):
        stage = tiny_stage(
            kind, text=text, network={**ONE_LEVEL[kind], **network}, **changes
        )
        abstract = jax.eval_shape(stage.init_params, jax.random.key(0))
        write_bundle(stage, fill_params(abstract, seed), folder / kind)
    return folder
