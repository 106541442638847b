"""Kills trainings of two processes at random moments; nothing may come of it.

    python -m tests.kill --times=50 --seed=0

Two processes with 2 virtual devices each train a tiny stage together. One of them is
killed (SIGKILL) at a random moment: while starting, at a step of any epoch, while a
checkpoint is written. The other one is given up to 2 seconds to do harm, and killed;
both are started again, and so on. The first run is also stopped by a notice (SIGTERM)
to one process, upon which both must write a checkpoint and end with status 0. All
losses, previews and the whole train state must in the end be bitwise those of a run
that was never interrupted.

Then one process with 4 devices and another mesh takes up a checkpoint of the two; it
must read the same records and compute the same losses within 1e-4.
"""

import argparse
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hosts import (
    BATCH_SIZE,
    CHECKPOINT_EVERY,
    DEADLINE_SEC,
    KEEP,
    NUM_RECORDS,
    NUM_STEPS,
    ONE_HOST,
    PREVIEW_EVERY,
    Job,
    NotConnectedError,
    end_all,
    write_files,
)

SURVIVAL_SEC = 2.0
MAX_STARTS = 5


def until_connected(run: Callable[[], str | None]) -> str | None:
    """Returns what `run` does; starts it again where its processes did not connect."""
    for _ in range(MAX_STARTS - 1):
        try:
            return run()
        except NotConnectedError:
            print("the two did not connect in time: started again", flush=True)
    return run()


def wait_for_step(job: Job, processes: list[subprocess.Popen], step: int) -> bool:
    """Returns True when the step is logged, or False if the job has ended before.

    The processes must have been started just now: what an earlier start logged beyond
    its last checkpoint does not count, and goes when the new one opens the file.
    """
    path = job.workdir / "metrics.jsonl"
    old_file = path.stat().st_ino if path.exists() else None
    deadline = time.monotonic() + DEADLINE_SEC
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            job.wait(processes)
            return False
        if path.exists() and path.stat().st_ino != old_file:
            metrics = job.metrics()
            if metrics and metrics[-1]["step"] >= step:
                return True
        time.sleep(0.01)
    end_all(processes)
    raise RuntimeError(f"step {step} was not reached in {DEADLINE_SEC:.0f} s")


def kill_once(
    job: Job, rng: np.random.Generator, start_sec: float, while_starting: bool
) -> str | None:
    """Starts the job and kills it; returns where, or None if it ended before.

    Args:
      job: the run.
      rng: chooses moment and victim.
      start_sec: how long a start takes.
      while_starting: whether the moment is to be within it.
    """
    resumed = max(job.checkpoint_steps(), default=0)
    step = resumed + int(rng.integers(1, CHECKPOINT_EVERY + 2))
    processes = job.start()
    if while_starting:
        time.sleep(rng.uniform(0, start_sec))
        where = f"while starting from step {resumed}"
    elif not wait_for_step(job, processes, step):
        return None
    else:
        time.sleep(rng.uniform(0, 0.05))  # anywhere in a step
        step = job.metrics()[-1]["step"]
        epoch = step * BATCH_SIZE // NUM_RECORDS + 1
        where = f"after step {step}, epoch {epoch}, begun at step {resumed}"
    victim = int(rng.integers(2))
    processes[victim].send_signal(signal.SIGKILL)
    time.sleep(rng.uniform(0, SURVIVAL_SEC))
    end_all(processes)
    return f"process {victim} {where}"


def assert_same_run(job: Job, whole: Job) -> None:
    """Compares two finished runs, bitwise; neither may have left anything behind."""
    assert [step for step, _ in job.losses()] == list(range(1, NUM_STEPS + 1))
    assert job.losses() == whole.losses()
    assert job.checkpoint_steps()[-1] == NUM_STEPS
    assert len(job.checkpoint_steps()) == KEEP
    state, expected = job.state(), whole.state()
    assert len(expected) > 50
    assert state.keys() == expected.keys()
    for name, leaf in expected.items():
        assert state[name].tobytes() == leaf.tobytes(), name
    for path in whole.workdir.glob("previews/*.png"):
        assert (job.workdir / "previews" / path.name).read_bytes() == path.read_bytes()
    records, expected_records = job.read_records(), whole.read_records()
    assert records.items() <= expected_records.items()
    left_over = [p for p in job.workdir.rglob("*") if "tmp" in p.name]
    assert left_over + list(job.workdir.glob(".claim*")) == []


def run_whole(files: Path, workdir: Path) -> tuple[Job, float]:
    """Returns a run that was not interrupted, and the seconds to its first step."""
    job = Job(files, workdir)
    began = time.monotonic()
    processes = job.start()
    wait_for_step(job, processes, 1)
    start_sec = time.monotonic() - began
    job.wait(processes)
    assert job.checkpoint_steps()[-1] == NUM_STEPS
    assert len(job.read_records()) == NUM_STEPS * BATCH_SIZE
    assert len(list(workdir.glob("previews/*.png"))) == NUM_STEPS // PREVIEW_EVERY
    return job, start_sec


def stop(job: Job) -> None:
    """Starts the job and sends one of its processes a notice to stop; both must."""
    processes = job.start(delay=1.0)
    assert wait_for_step(job, processes, 3)
    processes[1].send_signal(signal.SIGTERM)
    job.wait(processes)
    stopped, _ = job.losses()[-1]
    assert 3 <= stopped < NUM_STEPS
    assert job.checkpoint_steps()[-1] == stopped
    for index in range(2):
        assert f"stopped by signal at step {stopped}" in job.log(index).read_text()
    print(f"notice to process 1: both stopped at step {stopped}", flush=True)


def check_interruptions(whole: Job, start_sec: float, times: int, seed: int) -> None:
    """Stops once and kills `times` times, in as many runs as that takes.

    Every run is compared with `whole`.
    """
    rng = np.random.default_rng(seed)
    done = runs = 0
    while done < times:
        runs += 1
        job = Job(whole.files, whole.workdir.with_name(f"interrupted-{runs}"))
        if runs == 1:
            stop(job)
        while done < times and (
            where := until_connected(
                lambda job=job, starting=done % 5 == 3: kill_once(
                    job, rng, start_sec, while_starting=starting
                )
            )
        ):
            done += 1
            print(f"kill {done} of {times}: run {runs}, {where}", flush=True)
        # Does nothing if it had ended already.
        until_connected(lambda job=job: job.wait(job.start()))
        assert_same_run(job, whole)
        shutil.rmtree(job.workdir)
    print(f"{times} kills in {runs} runs: all equal bitwise", flush=True)


def check_other_hosts(whole: Job) -> None:
    """Takes a checkpoint of two processes up with one, on another mesh."""
    job = Job(whole.files, whole.workdir.with_name("alone"))
    shutil.copytree(whole.workdir, job.workdir)
    first, *later = job.checkpoint_steps()
    for step in later:
        shutil.rmtree(job.workdir / "checkpoints" / str(step))
    job.wait(job.start(1, ONE_HOST))
    records, expected = job.read_records(), whole.read_records()
    assert sorted(records) == list(range(first * BATCH_SIZE, NUM_STEPS * BATCH_SIZE))
    assert records.items() <= expected.items()
    ours, theirs = (np.array(run.losses()) for run in (job, whole))
    np.testing.assert_array_equal(ours[:first], theirs[:first])
    np.testing.assert_allclose(ours[first:], theirs[first:], rtol=1e-4)
    assert (ours[first:, 1] != theirs[first:, 1]).any()  # it was computed anew
    name = f"previews/step_{NUM_STEPS:08d}.png"
    grids = [np.asarray(Image.open(run.workdir / name), int) for run in (job, whole)]
    assert np.abs(grids[0] - grids[1]).max() <= 2  # of 255
    largest = float(np.abs(ours / theirs - 1).max())
    print(
        f"from step {first} on one process: same records, losses within {largest:.1e}"
    )


def check_all(folder: Path, times: int, seed: int) -> None:
    """Runs all checks in `folder`, with `times` kills."""
    write_files(folder)
    whole, start_sec = run_whole(folder, folder / "whole")
    check_interruptions(whole, start_sec, times, seed)
    check_other_hosts(whole)


def main() -> None:
    """Runs all checks in a folder of their own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        check_all(folder, flags.times, flags.seed)
        print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
