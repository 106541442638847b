"""Finds weights on this machine, or fetches them from the Hugging Face hub.

A repository OWNER/NAME ends in the folder $IMAGEN_JAX_CACHE/OWNER--NAME. If that is
there already, fetched before or put there by hand, the network is not touched. A
download goes into a folder beside it, OWNER--NAME.partial, which gets its final name
when all is there; so an interrupted one is never taken for a whole one, and the next
call fetches the files that are missing. A file that broke off begins anew: newer
huggingface_hub keeps no halves (huggingface/huggingface_hub#4306).

Of a repository only the small files that an encoder needs are fetched and one form of
the weights: safetensors if it has them, else torch's .bin.
"""

import fnmatch
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from imagen_jax.cache import cache_dir
from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional
from imagen_jax.weights.folder import INDEX, WEIGHT_FILES

COMPANIONS = (
    "config.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
"""The files beside the weights that an encoder and its tokenizer are built from."""

_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?", re.ASCII)


def find_weights(text: str, patterns: Sequence[str] = COMPANIONS) -> Path:
    """Returns a file or folder of weights, fetched now if it is not there yet.

    Args:
      text: a path that exists, or a repository of the hub: OWNER/NAME, or
        OWNER/NAME@REVISION for a branch, tag or commit other than main.
      patterns: which files to fetch beside the weights, as glob patterns.

    Raises:
      UserError: if the text is neither, or if the hub cannot be reached, has no such
        repository or breaks off; the text names the files and where to put them.
    """
    path = Path(text).expanduser()
    if text and path.exists():
        return path
    match = _REPOSITORY.fullmatch(text)
    if not match:
        raise UserError(
            f"{text} is neither a file or folder on this machine nor a repository of "
            "the Hugging Face hub; give a path, OWNER/NAME or OWNER/NAME@REVISION"
        )
    folder = cache_dir() / text.replace("/", "--")
    if not folder.is_dir():
        _fetch(match[1], match[2], patterns, folder)
    return folder


def _fetch(
    name: str, revision: str | None, patterns: Sequence[str], folder: Path
) -> None:
    hub = import_optional("huggingface_hub", "text-hf")
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        listing = hub.HfApi(endpoint=endpoint).model_info(name, revision=revision)
        files = _choose([file.rfilename for file in listing.siblings], patterns)
        if files:
            hub.snapshot_download(
                name,
                revision=listing.sha,
                local_dir=partial,
                allow_patterns=files,
                endpoint=endpoint,
            )
    except hub.errors.RevisionNotFoundError as error:
        raise UserError(
            f"the repository {name} at {endpoint} has no revision {revision}; give one "
            "of its branches, tags or commits"
        ) from error
    except hub.errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no repository {name} at {endpoint}, or it needs a login; check "
            "the name, and run `hf auth login` if its page asks for consent"
        ) from error
    except Exception as error:  # its own, httpx's or the system's, by version
        raise UserError(_by_hand(name, endpoint, error, folder)) from error
    if not files:
        raise UserError(
            f"the repository {name} at {endpoint} has none of "
            f"{', '.join(WEIGHT_FILES)}; choose one that has"
        )
    _move_into_place(partial, folder, name, files)


def _choose(files: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Returns the files to fetch; none if there are no weights among them."""
    form = next((name for name in WEIGHT_FILES if name in files), None)
    if form is None:
        return []
    wanted = [form, *patterns]
    if form.endswith(INDEX):
        stem, suffix = os.path.splitext(form.removesuffix(INDEX))
        wanted.append(f"{stem}-*-of-*{suffix}")
    return [name for name in files if any(fnmatch.fnmatch(name, p) for p in wanted)]


def _by_hand(name: str, endpoint: str, error: Exception, folder: Path) -> str:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return (
        f"{name} could not be fetched from {endpoint} ({reason}); try again, which "
        "fetches only the files still missing, or put config.json, the tokenizer's "
        "files and the weights (model.safetensors, or shards and their index) into "
        f"{folder}"
    )


def _move_into_place(
    partial: Path, folder: Path, name: str, files: Sequence[str]
) -> None:
    missing = [file for file in files if not (partial / file).is_file()]
    if missing:
        raise UserError(
            f"the download of {name} into {partial} is without {', '.join(missing)}; "
            "run the command again to fetch the rest"
        )
    # huggingface_hub's notes, and halves of files that a killed process left behind.
    shutil.rmtree(partial / ".cache", ignore_errors=True)
    try:
        partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was first
            raise UserError(f"{partial} cannot be renamed: {error}") from error
