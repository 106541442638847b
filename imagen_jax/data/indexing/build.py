"""Makes an index: all inputs scanned, in several processes, and written in order."""

import collections
import csv
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from imagen_jax.data.indexing.files import find_inputs
from imagen_jax.data.indexing.format import (
    DROPPED,
    MANIFEST,
    RECORD,
    RECORDS,
    TEXTS,
    IndexFile,
    Manifest,
    dump_manifest,
    parse_manifest,
)
from imagen_jax.data.indexing.options import IndexOptions
from imagen_jax.data.indexing.scan import Scanned, scan_input
from imagen_jax.data.remote import open_folder
from imagen_jax.data.sources.folder import folder_stamp
from imagen_jax.errors import UserError

_REPORT_EVERY_SEC = 30.0


def build_index(
    patterns: Sequence[str],
    out: str,
    options: IndexOptions,
    workers: int = 1,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[Manifest, bool]:
    """Returns (the index's manifest, whether it was made now).

    An index of the same unchanged inputs and the same options is left alone.

    Args:
      patterns: inputs; see `find_inputs`.
      out: folder or URL of the index.
      options: which records are kept.
      workers: processes that scan, at least 1; 1 scans in this one.
      report: is called with a line on progress now and then.

    Raises:
      UserError: if an input cannot be used, no record is kept, or `out` holds another
        index.
    """
    if workers < 1:
        raise UserError(f"--workers is {workers}; it must be at least 1")
    inputs = find_inputs(patterns)
    folder = open_folder(out)
    if (there := folder.read(MANIFEST)) is not None:
        manifest = parse_manifest(there, out)
        if manifest.options != options or manifest.inputs != _stamped(inputs):
            raise UserError(
                f"{out} holds an index of other files or options; give another --out, "
                "or delete that one if nothing trains on it"
            )
        return manifest, False
    with folder.scratch() as scratch:
        packs = [os.path.join(scratch, f"pictures-{i}.bin") for i in range(len(inputs))]
        scans = _scan_all(inputs, options, packs, workers)
        manifest = _write(scans, scratch, options, _Progress(len(inputs), report))
        written = [RECORDS, TEXTS, DROPPED]
        written += [file.path for file in manifest.files if file.kind == "pack"]
        for name in written:
            folder.put(os.path.join(scratch, name), name)
    folder.write(MANIFEST, dump_manifest(manifest))
    return manifest, True


def _stamped(inputs: list[IndexFile]) -> list[IndexFile]:
    return [
        IndexFile(file.path, "folder", *folder_stamp(file.path))
        if file.kind == "folder"
        else file
        for file in inputs
    ]


def _scan_all(
    inputs: list[IndexFile], options: IndexOptions, packs: list[str], workers: int
) -> Iterator[Scanned]:
    """Yields each input's scan, in their order."""
    workers = min(workers, len(inputs))
    jobs = (inputs, [options] * len(inputs), packs)
    if workers == 1:
        yield from map(scan_input, *jobs)
        return
    # Spawned: a program that has loaded JAX must not fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield from pool.map(scan_input, *jobs)
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that scanned has died ({error}): memory ran out, or a file is "
            "so damaged that its reader crashed; give fewer --workers, or fewer files "
            "to find it"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Progress:
    def __init__(self, num_inputs: int, report: Callable[[str], None]):
        self._num_inputs, self._report = num_inputs, report
        self._num_done, self._last = 0, time.monotonic()

    def step(self, num_kept: int, num_dropped: int) -> None:
        self._num_done += 1
        if time.monotonic() - self._last >= _REPORT_EVERY_SEC:
            self._last = time.monotonic()
            self._report(
                f"{self._num_done} of {self._num_inputs} inputs: {num_kept} records "
                f"kept, {num_dropped} dropped"
            )


def _write(
    scans: Iterator[Scanned], folder: str, options: IndexOptions, progress: _Progress
) -> Manifest:
    """Writes all files but the manifest into a local folder; returns the manifest."""
    files: list[IndexFile] = []
    dropped: collections.Counter[str] = collections.Counter()
    num_records = texts_size = 0
    with (
        open(os.path.join(folder, RECORDS), "w+b") as records_file,
        open(os.path.join(folder, TEXTS), "wb") as texts_file,
        # Names may hold bytes that are not UTF-8.
        open(
            os.path.join(folder, DROPPED),
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            newline="",
        ) as dropped_file,
    ):
        _write_header(records_file, 0)
        table = csv.writer(dropped_file, lineterminator="\n")
        table.writerow(["file", "name", "reason", "detail"])
        for scan in scans:
            path = scan.files[0].path
            table.writerows((path, *drop) for drop in scan.dropped)
            dropped.update(drop.reason for drop in scan.dropped)
            records = scan.records.copy()
            records["file"] += len(files)
            records["text"] += texts_size
            records_file.write(records.tobytes())
            texts_file.write(scan.texts)
            files.extend(scan.files)
            num_records += len(records)
            texts_size += len(scan.texts)
            progress.step(num_records, dropped.total())
        _write_header(records_file, num_records)
    if not num_records:
        raise UserError(
            f"no record is kept ({counts_text(dropped) or 'there is none'}); check the "
            "files and the options"
        )
    records = np.load(os.path.join(folder, RECORDS), mmap_mode="r")
    num_captions = len(np.unique(records["caption_hash"]))
    return Manifest(
        tuple(files), options, num_records, num_captions, texts_size, dict(dropped)
    )


def _write_header(file: Any, num_records: int) -> None:
    """Writes the .npy header at the start of a file.

    NumPy pads it so that it is as long for any number of records.
    """
    file.seek(0)
    header = {"descr": RECORD.descr, "fortran_order": False, "shape": (num_records,)}
    np.lib.format.write_array_header_1_0(file, header)


def counts_text(dropped: dict[str, int]) -> str:
    """Returns e.g. "no caption: 3, picture too small: 1", the most frequent first."""
    counts = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason}: {num}" for reason, num in counts)
