"""The folder that holds a whole cascade: what is in it, and that it is unharmed.

    FOLDER/bundle.json            the stages from the base up, the sha256 of every file
    FOLDER/README.md              the model card
    FOLDER/STAGE/config.json      the resolved settings of a stage
    FOLDER/STAGE/ema.safetensors  its averaged parameters, bfloat16
    FOLDER/tokenizer/             the text encoder's vocabulary, where it was at hand

A folder without bundle.json whose subfolders are stages is read too, in the order of
their resolutions; then nothing tells whether its files are unharmed.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.cache import cache_dir
from imagen_jax.config import StageConfig, TextConfig
from imagen_jax.config_file import read_config
from imagen_jax.errors import UserError
from imagen_jax.text.catalog import CATALOG
from imagen_jax.text.minilm import REQUIREMENT
from imagen_jax.text.tokenizer import FILES, load_tokenizer
from imagen_jax.version import __version__
from imagen_jax.weights.hub import COMPANIONS

MANIFEST, CARD, TOKENIZER = "bundle.json", "README.md", "tokenizer"
WEIGHTS = "ema.safetensors"  # of a stage
FORMAT = 1


class FoundStages(NamedTuple):
    """The stages that folders hold.

    Attributes:
      folders: one per stage, each with a config.json.
      configs: what these say.
      tokenizer: folder of the vocabulary; "" where a bundle has none.
    """

    folders: tuple[Path, ...]
    configs: tuple[StageConfig, ...]
    tokenizer: str


def find_stages(folders: Sequence[Path]) -> FoundStages:
    """Returns the stages of a bundle, or of several workdirs or bundles in turn.

    Args:
      folders: at least one.

    Raises:
      UserError: a folder has no stage, or a bundle's files are not those that were
        written.
    """
    found: list[Path] = []
    tokenizer = ""
    for folder in folders:
        if (folder / MANIFEST).exists():
            found += [folder / name for name in _checked_stages(folder)]
            if (folder / TOKENIZER).is_dir():
                tokenizer = str(folder / TOKENIZER)
        else:
            found += _unlisted_stages(folder)
    configs = [read_config(folder / "config.json") for folder in found]
    return FoundStages(tuple(found), tuple(configs), tokenizer)


def write_manifest(folder: Path, stages: Sequence[str]) -> None:
    """Writes bundle.json; every other file of the folder must be there already.

    Args:
      folder: of the bundle.
      stages: names of its subfolders, from the base up.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    manifest = {
        "format": FORMAT,
        "imagen_jax": __version__,
        "stages": list(stages),
        "sha256": names,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


def file_sha256(path: Path) -> str:
    """Returns the hash of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_tokenizer(config: TextConfig, given: str, folder: Path) -> str | None:
    """Returns the id of the vocabulary put into `folder`; None if none is at hand.

    Args:
      config: names the encoder; one that it records is compared.
      given: file or folder of the vocabulary; "" looks where the encoder of this
        machine is, and never at the network.
      folder: made if a vocabulary is found.

    Raises:
      UserError: what was given is no vocabulary, or what was found is not the recorded
        one.
    """
    place = Path(given) if given else _local_encoder(config)
    if place is None or not place.exists():
        if given:
            raise UserError(f"--tokenizer={given}: there is no such file or folder")
        return None
    files = [place] if place.is_file() else [place / name for name in COMPANIONS]
    files = [file for file in files if file.is_file() and file.name != "config.json"]
    if not {file.name for file in files} & set(FILES[""]):
        if given:
            raise UserError(
                f"--tokenizer={given} holds no vocabulary; give {', '.join(FILES[''])} "
                "or the folder of one"
            )
        return None
    folder.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)
    id = load_tokenizer("", folder, config.max_length, config.cleaning).id
    if config.tokenizer not in ("", id):
        raise UserError(
            f"the vocabulary in {place} is {id}, and the stages know "
            f"{config.tokenizer}; give the file or folder of that one by --tokenizer"
        )
    return id


def _local_encoder(config: TextConfig) -> Path | None:
    """Returns where this machine would have the encoder's files."""
    for path in (config.tokenizer_path, config.weights_path):
        if path and Path(path).expanduser().exists():
            return Path(path).expanduser()
    if config.encoder not in CATALOG or config.weights_path:
        return None
    if repository := CATALOG[config.encoder].repository:
        return cache_dir() / repository.replace("/", "--")
    return cache_dir() / f"minilm-{REQUIREMENT.rpartition('==')[2]}"


def _unlisted_stages(folder: Path) -> list[Path]:
    if (folder / "config.json").exists():
        return [folder]
    inner = [path.parent for path in sorted(folder.glob("*/config.json"))]
    if not inner:
        raise UserError(
            f"{folder / 'config.json'} cannot be read (no such file), nor are there "
            "stages in subfolders; give the workdir of a training run or a bundle"
        )
    return sorted(inner, key=lambda path: read_config(path / "config.json").resolution)


def _checked_stages(folder: Path) -> list[str]:
    """Returns the subfolders that a bundle lists, all its files compared.

    Raises:
      UserError: it is malformed, or files are missing or have changed; all are named.
    """
    manifest = _read_manifest(folder / MANIFEST)
    hashes: Mapping[str, str] = manifest["sha256"]
    faults = [
        f"{name} is missing" for name in hashes if not (folder / name).is_file()
    ] or [
        f"{name} has changed"
        for name, wanted in hashes.items()
        # What is written into the card does not change the model.
        if name != CARD and file_sha256(folder / name) != wanted
    ]
    unlisted = [
        f"{name}/config.json is not listed"
        for name in manifest["stages"]
        if f"{name}/config.json" not in hashes
    ]
    if faults or unlisted:
        raise UserError(
            f"the bundle {folder} is damaged: {'; '.join(faults + unlisted)}; copy it "
            "again"
        )
    return manifest["stages"]


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text("utf-8"))
        version = manifest["format"]
        names = [*manifest["stages"], *manifest["sha256"], *manifest["sha256"].values()]
        # Only names: a path could lead out of the folder.
        is_manifest = manifest["stages"] and all(
            isinstance(name, str) and ".." not in name and not name.startswith("/")
            for name in names
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        is_manifest = version = False
    if not is_manifest:
        raise UserError(f"{path} is not the list of a bundle's files; copy it again")
    if version != FORMAT:
        raise UserError(
            f"{path} has the format {version!r}, this version reads {FORMAT}; install "
            "the version of imagen_jax that wrote it"
        )
    return manifest
