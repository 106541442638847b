"""From a line of a config or command line to a `Source`.

tfds:DIR_OR_NAME[:SPLIT]     a TFDS data set stored as array_record
synthetic:COUNT[:RESOLUTION] drawn shapes, for tests and smoke runs
"""

import re

from imagen_jax.data.records import Source
from imagen_jax.data.sources.tfds import TfdsSource
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.errors import UserError

# A name or folder may hold colons ("gs://...", "openmoji/default:1.0.0"): only a last
# part that looks like splits, with colons inside [...] at most, is taken as such.
_TFDS = re.compile(r"tfds:(.+?)(?::([A-Za-z_](?:[^/:\[]|\[[^\]/]*\])*))?")
_SYNTHETIC = re.compile(r"synthetic:(\d+)(?::(\d+))?")


def open_source(text: str) -> Source:
    """Returns the source that `text` names; without a split it is "train".

    Raises:
      UserError: for any other form, or a source that cannot be opened.
    """
    if match := _SYNTHETIC.fullmatch(text):
        return SyntheticSource(int(match[1]), int(match[2] or 64), seed=0)
    name, splits = parse_tfds(text)
    if len(splits) > 1:
        raise UserError(f"{text!r} names several splits; give one, or join them by +")
    return TfdsSource(name, splits[0])


def parse_tfds(text: str) -> tuple[str, list[str]]:
    """Returns (folder or name, splits) of "tfds:DIR_OR_NAME[:SPLIT,...]".

    Without splits the list is ["train"].

    Raises:
      UserError: for any other form.
    """
    match = _TFDS.fullmatch(text)
    if match is None:
        raise UserError(
            f"the data source is {text!r}; give tfds:DIR_OR_NAME[:SPLIT] or "
            "synthetic:COUNT[:RESOLUTION]"
        )
    return match[1], (match[2] or "train").split(",")
