"""The format of an embedding store, version 2: what each file and record holds.

The frozen text encoder is the same for every picture that has a caption and for every
epoch, so its output is computed once. A store is a folder, local or in a bucket:

    plan.json                            what will make it, written first (`Manifest`)
    shard-00003-of-00016.array_record    records, one a group, not compressed
    shard-00003-of-00016.index.npy       sorted hashes and record numbers
    shard-00003-of-00016.json            `Marker`: that shard is done; written last
    manifest.json                        what made it and how much; written at the end

A caption's hash is sha256 of its UTF-8, cut to 16 bytes; its shard the first 8 of them,
as a big-endian integer, modulo the number of shards. So a caption is stored once,
however often it occurs, and every host knows which shard is whose. Inside a shard,
captions are sorted by their token count (they are encoded in batches of nearly one
length), then by hash.

`store_records` says what a record is. The empty caption is never stored. It is the null
text, which has one definition: zero embeddings, mask true at position 0 only (see
`imagen_jax.diffusion.guidance`). A caption that the encoder's cleaning leaves empty is
stored, as one zero token.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from imagen_jax.data.remote import Folder
from imagen_jax.errors import UserError

VERSION = 2
DTYPES = ("bfloat16", "int8")
MANIFEST = "manifest.json"
PLAN = "plan.json"

_MAX_CAPTION = 2**28  # numbers; 512 tokens of T5-XXL are 2**21
_MAX_SHARDS = 100_000  # as many as the names of the files have places for

_IDENTITY = (
    "encoder",
    "weights_sha256",
    "tokenizer",
    "cleaning",
    "width",
    "max_length",
)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What made a store, and what is in it.

    Attributes:
      encoder: name of the text encoder.
      weights_sha256: hash of its weights, in hex.
      tokenizer: its file and hash.
      width: of the embeddings.
      max_length: number of tokens captions are cut and padded to.
      dtype: one of `DTYPES`.
      cleaning: what was done to a caption before it was tokenized.
      num_shards: at least 1 in a store.
      captions_digest: sum of the hashes of all captions given, whatever their order;
        "" where it is not known.
      num_captions: distinct ones; the counts are 0 in a plan.
      num_truncated: those of them that were cut to max_length.
      shard_sha256: of each shard's marker, which has the hashes of its two files.
      version: of the format.
    """

    encoder: str
    weights_sha256: str
    tokenizer: str
    width: int
    max_length: int
    dtype: str = "bfloat16"
    cleaning: str = "none"
    num_shards: int = 0
    captions_digest: str = ""
    num_captions: int = 0
    num_truncated: int = 0
    shard_sha256: tuple[str, ...] = ()
    version: int = VERSION

    def identity(self) -> dict[str, str | int]:
        """Returns the fields that decide an embedding's value, up to its rounding."""
        return {name: getattr(self, name) for name in _IDENTITY}


class Marker(NamedTuple):
    """Says that a shard is complete, and what it must look like."""

    num_captions: int
    num_truncated: int
    records_sha256: str
    index_sha256: str


def differences(made: Manifest, fields: Mapping[str, str | int]) -> str:
    """Returns "max_length 6, now 5; ..." for the fields that differ, "" if none does.

    Args:
      made: what made the store.
      fields: what is wanted now, by the names of `Manifest`'s fields.
    """
    return "; ".join(
        f"{name} {getattr(made, name)!r}, now {value!r}"
        for name, value in fields.items()
        if getattr(made, name) != value
    )


def dump_json(value: Manifest | Marker) -> bytes:
    """Returns a manifest, plan or marker as it is written, the same on every host."""
    as_dict = (
        value._asdict() if isinstance(value, Marker) else dataclasses.asdict(value)
    )
    return (json.dumps(as_dict, indent=2) + "\n").encode("utf-8")


def parse_manifest(data: bytes, path: str) -> Manifest:
    """Returns a manifest or plan.

    Args:
      data: the file's contents.
      path: the file's name, for the message.

    Raises:
      UserError: if the file is damaged or of another version.
    """
    fields = _parse(data, path)
    if fields.get("version") != VERSION:
        raise UserError(
            f"{path} is of version {fields.get('version')}, this program reads version "
            f"{VERSION}; delete that store and embed the captions again"
        )
    try:
        fields["shard_sha256"] = tuple(fields["shard_sha256"])
        manifest = Manifest(**fields)
        for field in dataclasses.fields(Manifest):
            if field.name != "shard_sha256":
                _check(field.name, fields.get(field.name, field.default), field.type)
        _check_sizes(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not what this program writes ({error}); delete that store and "
            "embed the captions again"
        ) from error
    return manifest


def _check(name: str, value: Any, kind: Any) -> None:
    if type(value) is not kind or (kind is int and value < 0):
        raise ValueError(f"{name} is {value!r}")


def _check_sizes(manifest: Manifest) -> None:
    """Refuses numbers that no store can have, before memory is asked for them."""
    hashes, num_shards = manifest.shard_sha256, manifest.num_shards
    if hashes and len(hashes) != num_shards:
        raise ValueError(f"{len(hashes)} hashes of {num_shards} shards")
    if not all(type(text) is str for text in hashes):
        raise ValueError("shard_sha256 holds no texts")
    if not 1 <= manifest.width * manifest.max_length <= _MAX_CAPTION:
        raise ValueError(f"width is {manifest.width}, max_length {manifest.max_length}")
    if manifest.dtype not in DTYPES or not 1 <= num_shards <= _MAX_SHARDS:
        raise ValueError(f"dtype is {manifest.dtype!r}, num_shards {num_shards}")


def parse_marker(data: bytes, path: str) -> Marker:
    """Returns a shard's marker; arguments and errors as `parse_manifest`."""
    fields = _parse(data, path)
    try:
        for name, kind in Marker.__annotations__.items():
            _check(name, fields.get(name), kind)
        return Marker(**fields)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not what this program writes ({error}); delete it and "
            f"{MANIFEST}, then embed the captions again"
        ) from error


def _parse(data: bytes, path: str) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError as error:
        fields = error
    if not isinstance(fields, dict):
        raise UserError(
            f"{path} is not JSON of an embedding store ({fields}); delete that store "
            "and embed the captions again"
        )
    return fields


def read_manifest(folder: Folder) -> Manifest:
    """Returns the manifest of a finished store.

    Raises:
      UserError: if there is no finished store of this version.
    """
    data = folder.read(MANIFEST)
    if data is None:
        begun = ", though one was begun" if folder.read(PLAN) is not None else ""
        raise UserError(
            f"{folder.path} is no finished embedding store: it has no {MANIFEST}"
            f"{begun}; run python -m imagen_jax.embed to its end"
        )
    return parse_manifest(data, f"{folder.path}/{MANIFEST}")


def caption_hash(caption: str) -> bytes:
    """Returns the 16 bytes by which a caption is found."""
    return hashlib.sha256(caption.encode("utf-8")).digest()[:16]


def shard_of(key: bytes, num_shards: int) -> int:
    """Returns the shard of the caption with this hash."""
    return int.from_bytes(key[:8]) % num_shards


def shard_stem(shard: int, num_shards: int) -> str:
    """Returns what the names of a shard's three files begin with."""
    return f"shard-{shard:05d}-of-{num_shards:05d}"
