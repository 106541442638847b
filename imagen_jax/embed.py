"""Embeds captions with a frozen text encoder into a store, once for all runs.

    python -m imagen_jax.embed --source=tfds:DIR_OR_NAME[:SPLIT,...] --store=DIR
    python -m imagen_jax.embed --captions=FILE.{txt,csv,tsv,jsonl} --store=DIR
    python -m imagen_jax.embed --verify --store=DIR

--store may be gs://BUCKET/DIR or s3://BUCKET/DIR. Killed, the same command goes on
where it was; a store that has all captions already is kept, so running it twice is
harmless. The captions are sorted on the local disk ($TMPDIR) first.

Several machines fill one store together. On a TPU pod run the command on all of them
with --coordinator=auto; elsewhere with --coordinator=HOST:PORT --num_processes=N
--process_id=I, or, where they cannot reach each other, with --hosts=I/N. Each encodes
whole shards on its own devices.
"""

import argparse
import sys
import time

from imagen_jax.data.captions import read_captions
from imagen_jax.data.store_format import DTYPES
from imagen_jax.embedding.job import fill_store, wait_until_finished
from imagen_jax.embedding.machine import join_hosts, load_here
from imagen_jax.embedding.sources import open_captions
from imagen_jax.embedding.verify import verify_store
from imagen_jax.errors import UserError, run_command
from imagen_jax.parallel.distributed import add_flags
from imagen_jax.text.catalog import NAMES


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m imagen_jax.embed",
        description="Embeds captions with a frozen text encoder into a store.",
    )
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument(
        "--source",
        help="as config key data.source; several splits: tfds:DIR_OR_NAME:SPLIT,...; "
        "or seqio:[MODULE@]NAME:SPLIT[:FEATURE]",
    )
    task.add_argument("--captions", help="file: .txt, .csv, .tsv or .jsonl, UTF-8")
    task.add_argument("--verify", action="store_true", help="check a finished store")
    flag = parser.add_argument
    flag("--store", required=True, help="folder of the store, or its URL")
    flag("--column", help="column or field of --captions; without it, caption")
    flag("--encoder", default="minilm", help=", ".join(NAMES))
    flag("--weights", default="", help="folder, T5X checkpoint or hub name")
    flag("--tokenizer", default="", help="file or folder; without it, the weights'")
    flag("--cleaning", default="none", help="none, or basic: no HTML, no URLs")
    flag("--max_length", type=int, default=128, help="tokens per caption")
    flag("--compute_dtype", default="float32", help="float32, or bfloat16 (TPU, GPU)")
    flag("--dtype", default="bfloat16", help=f"of the store: {', '.join(DTYPES)}")
    flag("--batch_size", type=int, default=64, help="captions a call, on this machine")
    flag("--num_shards", type=int, help="files of the store; default by the captions")
    flag("--hosts", metavar="I/N", help="this is machine I (from 0) of N")
    add_flags(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Runs the command line."""
    flags = _parse(sys.argv[1:])
    if flags.verify:
        manifest = verify_store(flags.store)
        print(
            f"all is well: {manifest.num_captions} captions in {manifest.num_shards} "
            f"shards: {flags.store}"
        )
        return
    if flags.column is not None and flags.captions is None:
        raise UserError("--column names a column of --captions=FILE; give that")
    host = join_hosts(
        flags.hosts, flags.coordinator, flags.num_processes, flags.process_id
    )
    start = time.monotonic()
    encoder = load_here(
        flags.encoder,
        flags.max_length,
        flags.batch_size,
        weights=flags.weights,
        tokenizer=flags.tokenizer,
        cleaning=flags.cleaning,
        dtype=flags.compute_dtype,
    )
    outcome = fill_store(
        encoder,
        open_captions(flags.source)
        if flags.captions is None
        else read_captions(flags.captions, flags.column),
        flags.store,
        num_shards=flags.num_shards,
        dtype=flags.dtype,
        batch_size=flags.batch_size,
        host=host,
    )
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
    if not outcome.finished:
        print("other machines have shards to do; the last one finishes the store")
        if flags.coordinator:  # no process may leave the others
            wait_until_finished(flags.store)


if __name__ == "__main__":
    run_command(main)
