"""Packages that only some users need: imported late, missed in one clear sentence."""

import importlib
from types import ModuleType

from imagen_jax.errors import UserError


def import_optional(module: str, extra: str) -> ModuleType:
    """Returns the imported module.

    Args:
      module: dotted name, e.g. "tensorflow_datasets".
      extra: the extra of this package that installs it, e.g. "quickstart".

    Raises:
      UserError: if the module is not installed; the text names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise  # installed, but broken: hiding that would mislead
        raise UserError(
            f"the Python package {error.name} is not installed; it comes with "
            f'pip install "imagen_jax[{extra}]"'
        ) from error
