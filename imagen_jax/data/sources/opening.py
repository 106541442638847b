"""From a line of a config or command line to a `Source`.

index:DIR[:SPLIT]             an index of tars, Parquet files or pictures; may be a URL
folder:DIR[:SPLIT]            a folder of pictures with their captions; SPLIT is train
                              or held_out, a tenth by name (see `folder_split`)
tfds:DIR_OR_NAME[?FEATURES][:SPLIT]   a TFDS data set (see `tfds` for FEATURES)
synthetic:COUNT[:RESOLUTION]  drawn shapes, for tests and smoke runs
mixture:WEIGHT=SOURCE;...     several of these in proportion; without the WEIGHTs each
                              record once
"""

import re

from imagen_jax.data.records import Source
from imagen_jax.data.sources.folder import FolderSource
from imagen_jax.data.sources.folder_split import open_split
from imagen_jax.data.sources.indexed import IndexedSource
from imagen_jax.data.sources.mixture import MixtureSource
from imagen_jax.data.sources.tfds import TfdsSource
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.errors import UserError

FORMS = (
    "index:DIR, folder:DIR, tfds:DIR_OR_NAME[:SPLIT], synthetic:COUNT[:RESOLUTION] or "
    "mixture:WEIGHT=SOURCE;WEIGHT=SOURCE"
)

# A name or folder may hold colons ("gs://...", "openmoji/default:1.0.0"): only a last
# part that looks like splits, with colons inside [...] at most, is taken as such.
_TFDS = re.compile(r"tfds:(.+?)(?::([A-Za-z_](?:[^/:\[]|\[[^\]/]*\])*))?")
_SYNTHETIC = re.compile(r"synthetic:(\d{1,9})(?::(\d{1,5}))?")
_WEIGHTED = re.compile(r"\s*([^=:]+)=(.*)")


def open_source(text: str) -> Source:
    """Returns the source that `text` names; without a split it is "train".

    Raises:
      UserError: for any other form, or a source that cannot be opened.
    """
    if "\0" in text:
        raise UserError(f"the data source is {text!r}; no name has a zero byte")
    kind, _, rest = text.partition(":")
    match kind:
        case "index" if rest:
            return open_split(IndexedSource, rest)
        case "folder" if rest:
            return open_split(FolderSource, rest)
        case "synthetic" if match := _SYNTHETIC.fullmatch(text):
            return SyntheticSource(int(match[1]), int(match[2] or 64), seed=0)
        case "mixture" if rest:
            return _open_mixture(rest)
        case "tar" | "tars" | "webdataset" | "parquet":
            raise UserError(
                f"{text!r} would be read as a stream, whose order depends on the number"
                " of hosts; index the files once by python -m imagen_jax.prepare index "
                "--out=DIR FILES and give index:DIR"
            )
    name, splits = parse_tfds(text)
    if len(splits) > 1:
        raise UserError(f"{text!r} names several splits; give one, or join them by +")
    return TfdsSource(name, splits[0])


def _open_mixture(text: str) -> MixtureSource:
    parts = [_WEIGHTED.fullmatch(part) or part.strip() for part in text.split(";")]
    if unweighted := [part for part in parts if isinstance(part, str)]:
        if len(unweighted) < len(parts):
            raise UserError(
                f"{unweighted[0]!r}, of a mixture, has no weight and others have; give "
                "each or none one, as in mixture:0.7=index:A;0.3=folder:B"
            )
        return MixtureSource([_open_part(part) for part in unweighted], None)
    weighted = [part for part in parts if isinstance(part, re.Match)]
    weights = [_parse_weight(part[1]) for part in weighted]
    return MixtureSource([_open_part(part[2]) for part in weighted], weights)


def _open_part(text: str) -> Source:
    if text.startswith("mixture:"):
        raise UserError(
            "a mixture is part of a mixture; list all of its sources in one, separated "
            "by semicolons"
        )
    return open_source(text)


def _parse_weight(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(
            f"a weight of the mixture is {text!r}; give numbers above 0, as in "
            "mixture:0.7=index:A;0.3=folder:B"
        ) from error


def parse_tfds(text: str) -> tuple[str, list[str]]:
    """Returns (folder or name, splits) of "tfds:DIR_OR_NAME[:SPLIT,...]".

    The features stay with the name. Without splits the list is ["train"].

    Raises:
      UserError: for any other form.
    """
    match = _TFDS.fullmatch(text)
    if match is None:
        raise UserError(f"the data source is {text!r}; give {FORMS}")
    return match[1], (match[2] or "train").split(",")
