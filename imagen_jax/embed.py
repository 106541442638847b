"""Embeds captions with a frozen text encoder into a store, once for all runs.

    python -m imagen_jax.embed --source=tfds:DIR_OR_NAME[:SPLIT,...] --store=DIR
    python -m imagen_jax.embed --captions=FILE.txt --store=DIR

Further flags: --encoder=minilm, --max_length=32. FILE.txt has one caption a line, in
UTF-8. Splits are TFDS's, e.g. train,held_out or train[:10%], and their captions are
united; --source also takes whatever the config key data.source does. A store that has
all captions already is kept, so running it twice is harmless.
"""

import argparse
import sys
import time
from collections.abc import Iterator

from imagen_jax.data.sources.opening import open_source, parse_tfds
from imagen_jax.data.sources.tfds import TfdsSource
from imagen_jax.embedding.job import fill_store, read_captions
from imagen_jax.errors import UserError, run_command
from imagen_jax.text.encoder import NAMES, load_encoder
from imagen_jax.weights.safetensors import read_safetensors


def read_lines(path: str) -> Iterator[str]:
    """Yields the lines of a text file without their line ends, otherwise untouched.

    Raises:
      UserError: if the file cannot be read or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:  # a byte order mark is no text
            for line in file:
                yield line.removesuffix("\n")
    except OSError as error:
        raise UserError(f"--captions={path} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"--captions={path} is not UTF-8 ({error}); save it as UTF-8"
        ) from error


def _source_captions(text: str) -> Iterator[str]:
    if not text.startswith("tfds:"):
        yield from read_captions(open_source(text))
        return
    name, splits = parse_tfds(text)
    for split in splits:
        yield from read_captions(TfdsSource(name, split))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.embed",
        description="Embeds captions with a frozen text encoder into a store.",
    )
    captions = parser.add_mutually_exclusive_group(required=True)
    captions.add_argument(
        "--source",
        help="as config key data.source, or several splits: tfds:DIR_OR_NAME:SPLIT,...",
    )
    captions.add_argument("--captions", help="text file, one caption a line")
    parser.add_argument("--store", required=True, help="folder of the store")
    parser.add_argument("--encoder", default="minilm", help=", ".join(NAMES))
    parser.add_argument(
        "--max_length", type=int, default=32, help="tokens per caption, at least 3"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command line."""
    flags = _parse(sys.argv[1:])
    start = time.monotonic()
    if flags.captions is not None:
        captions = list(read_lines(flags.captions))
    else:
        captions = list(_source_captions(flags.source))
    encoder = load_encoder(flags.encoder, flags.max_length, read_safetensors)
    outcome = fill_store(encoder, captions, flags.store)
    if outcome.kept:
        print(f"the store has all {outcome.num_captions} captions: {flags.store}")
        return
    print(
        f"embedded {outcome.num_captions} distinct captions with {encoder.name} in "
        f"{time.monotonic() - start:.1f} s: {flags.store}"
    )
    if outcome.num_truncated:
        print(
            f"{outcome.num_truncated} of them were cut to {encoder.max_length} tokens; "
            "--max_length raises that"
        )


if __name__ == "__main__":
    run_command(main)
