"""Hands damaged input of every kind to the library; nothing may come of it.

    python -m tests.fuzz --n=5000 --seed=0
    python -m tests.fuzz --seed=0 --only=1234      that case again, with its traceback

Every case must end in success, in drops that are counted by reason, or in a UserError:
never in a traceback, the end of the process or a hang, never in something lost without
a count, and with no file outside of the case's own folder. Case k is a function of
(seed, k) and of the kinds that are asked for. `tests/fuzzing` has the kinds.

All cases run in one process; a second one watches it, and starts it again behind a case
that has ended it. Prints a line for each fault and one of all counts; the exit status
is 1 if there was a fault.
"""

import argparse
import collections
import contextlib
import importlib
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

KINDS = (
    *("configs.damaged_config", "configs.source_line", "pictures.picture"),
    *("pictures.folder_of_pictures", "archives.tar", "archives.parquet"),
    *("archives.index", "tables.captions", "tables.metrics", "tables.probe"),
    *("stores.store", "stores.unfinished_store", "checkpoints.bundle"),
    *("checkpoints.weights", "checkpoints.checkpoint"),
)
HANG_SEC = 60.0  # of a case; the first of a process also imports the library
MAX_MEMORY = 16 << 30  # bytes of addresses; more is refused, not swapped
FAULT = "FAULT"


def run_case(kinds: Sequence[str], seed: int, number: int, folder: Path) -> str:
    """Returns FINE, DROPPED, REFUSED, or FAULT and what it is.

    Args:
      kinds: "module.function" of `tests.fuzzing`; case k is of kind k modulo their
        number.
      seed: of all cases.
      number: of the case.
      folder: an empty one; all that the case writes must be in its sub-folder "case".
    """
    from imagen_jax.errors import UserError
    from tests.fuzzing import REFUSED, LostError

    module, name = kinds[number % len(kinds)].split(".")
    case = getattr(importlib.import_module(f"tests.fuzzing.{module}"), name)
    rng = np.random.default_rng([seed, number])
    where = folder / "case"
    where.mkdir()
    outside = set(os.listdir(folder))
    try:
        outcome = case(rng, where)
    except UserError as error:
        outcome = REFUSED if str(error).strip() else f"{FAULT}: refused without a word"
    except LostError as error:
        outcome = f"{FAULT}: lost silently: {error}"
    except BaseException as error:
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        outcome = f"{FAULT}: {type(error).__name__} at {place}: {error}"
    if found := set(os.listdir(folder)) - outside - {"tmp"}:
        outcome = f"{FAULT}: wrote {sorted(found)} outside of its folder"
    shutil.rmtree(where)
    return outcome


def work(
    pipe: Connection,
    kinds: Sequence[str],
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    quiet: bool,
) -> None:
    """Runs cases and sends the outcome of each; what they print goes nowhere."""
    with contextlib.suppress(ValueError, OSError):  # not on every system
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    (folder / "tmp").mkdir(exist_ok=True)
    if quiet:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # libraries in C print too
            os.dup2(nowhere, stream)
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
    for number in numbers:
        pipe.send(run_case(kinds, seed, number, folder))


def watch(
    kinds: Sequence[str],
    seed: int,
    numbers: Sequence[int],
    folder: Path,
    hang_sec: float = HANG_SEC,
    quiet: bool = True,
) -> Iterator[tuple[int, str]]:
    """Yields (number, outcome) of every case, whatever happens to the process."""
    context = multiprocessing.get_context("spawn")
    done = 0
    while done < len(numbers):
        where = Path(tempfile.mkdtemp(prefix="cases-", dir=folder))
        ours, theirs = context.Pipe(duplex=False)
        arguments = (theirs, kinds, seed, numbers[done:], where, quiet)
        process = context.Process(target=work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        while done < len(numbers):
            try:
                if ours.poll(hang_sec):
                    outcome = ours.recv()
                else:
                    outcome = f"{FAULT}: does not end within {hang_sec:g} s"
            except EOFError:
                process.join()
                outcome = f"{FAULT}: the process has ended ({process.exitcode})"
            yield numbers[done], outcome
            done += 1
            if process.exitcode is not None or "does not end" in outcome:
                break
        process.kill()
        process.join()
        shutil.rmtree(where, ignore_errors=True)


def main() -> int:
    """Runs the cases that the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="cases 0 to n - 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this case, with all that it prints")
    parser.add_argument("--kinds", default=",".join(KINDS), help="module.function,...")
    parser.add_argument("--hang_sec", type=float, default=HANG_SEC)
    flags = parser.parse_args()
    kinds = flags.kinds.split(",")
    numbers = range(flags.n) if flags.only is None else [flags.only]
    counts: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="imagen_jax-fuzz-") as name:
        cases = watch(
            kinds, flags.seed, numbers, Path(name), flags.hang_sec, flags.only is None
        )
        for number, outcome in cases:
            if outcome.startswith(FAULT):
                kind = kinds[number % len(kinds)]
                text = " ".join(outcome.split())[:400]
                print(f"case {number} ({kind}): {text}", flush=True)
                outcome = FAULT
            counts[outcome] += 1
    print(
        f"{counts.total()} cases of seed {flags.seed}: {counts['fine']} fine, "
        f"{counts['dropped']} with drops that are counted, {counts['refused']} refused "
        f"in a sentence, {counts[FAULT]} faults; {time.monotonic() - began:.0f} s"
    )
    return 1 if counts[FAULT] else 0


if __name__ == "__main__":
    sys.exit(main())
