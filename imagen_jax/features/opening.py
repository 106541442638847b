"""Opens an extractor by its name."""

from typing import Literal, get_args

from jax.sharding import Mesh

from imagen_jax.errors import UserError
from imagen_jax.features import dinov2, efficientnet_lite, inception
from imagen_jax.features.extractor import Extractor
from imagen_jax.parallel.mesh import make_mesh

Name = Literal["inception", "efficientnet-lite0", "dinov2"]
NAMES: tuple[str, ...] = get_args(Name)


def open_extractor(
    name: str, weights: str | None = None, mesh: Mesh | None = None
) -> Extractor:
    """Returns the network of a name with its weights.

    Args:
      name: one of `NAMES`.
      weights: "inception": a file of pytorch-fid, or URL#SHA256, which is fetched into
        the cache. "dinov2": a checkpoint folder of the transformers library or a
        repository of the Hugging Face hub. "efficientnet-lite0": None for those of the
        extra `eval`, or a file.
      mesh: splits batches; None means all devices.

    Raises:
      UserError: an unknown name, weights that are needed but not given, cannot be had,
        or do not fit.
    """
    mesh = make_mesh() if mesh is None else mesh
    match name:
        case "inception":
            return inception.open_inception(weights, mesh)
        case "efficientnet-lite0":
            return efficientnet_lite.open_efficientnet_lite(weights, mesh)
        case "dinov2":
            return dinov2.open_dinov2(weights, mesh)
    raise UserError(f"there are no features {name!r}; choose {', '.join(NAMES)}")
