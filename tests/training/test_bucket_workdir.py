"""Training with its workdir in a bucket: killed, resumed elsewhere, nothing lost.

On local servers of s3:// and gs://. A machine is its cache folder: a resumed run has
another one, so all that it knows is what was in the bucket.
"""

import json
import signal
import time

import pytest

from imagen_jax import sample, train
from imagen_jax.data.checkpoint_parts import CheckpointParts
from imagen_jax.data.remote import open_folder
from imagen_jax.data.synthetic import SyntheticSource
from tests.commands.command import run
from tests.emulators import new_bucket
from tests.hosts import (
    CHECKPOINT_EVERY,
    DEADLINE_SEC,
    KEEP,
    NUM_RECORDS,
    NUM_STEPS,
    ONE_HOST,
    TWO_HOSTS,
    Job,
    end_all,
    write_files,
)
from tests.kill import assert_same_run

# The clients' own threads and sockets outlive a test.
pytestmark = pytest.mark.filterwarnings("default")


def kill_between_checkpoints(job, machine, url, processes):
    """Kills the last process when a later step is logged than the newest checkpoint."""
    parts = CheckpointParts(f"{url}/checkpoints", 0, 1)
    deadline = time.monotonic() + DEADLINE_SEC
    saved = step = 0
    while not saved or step <= saved or step % CHECKPOINT_EVERY == 0:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes), job.log(0)
        time.sleep(0.2)
        saved = max(parts.losses(), default=0)
        for path in machine.glob("workdirs/*/process-0/metrics.jsonl"):
            lines = path.read_text().splitlines()
            step = max(
                (json.loads(x)["step"] for x in lines if x[-1] == "}"), default=0
            )
    processes[-1].send_signal(signal.SIGKILL)
    time.sleep(0.5)  # time for the others to do harm
    end_all(processes)
    assert step < NUM_STEPS
    return saved, step


def download(url, folder):
    """Makes of a run in a bucket one on this disk."""
    root = open_folder(url)
    parts = CheckpointParts(f"{url}/checkpoints", 0, 1)
    for step in parts.losses():
        parts.fetch(step, folder / "checkpoints" / str(step))
    for name in ("config.json", "metrics.jsonl"):
        (folder / name).write_bytes(root.read(name))
    (folder / "previews").mkdir()
    for name in open_folder(f"{url}/previews").names():
        (folder / "previews" / name).write_bytes(root.read(f"previews/{name}"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "num_processes", "flags"),
    [("s3", 1, ONE_HOST), ("gs", 2, TWO_HOSTS)],
)
def test_killed_and_resumed_on_another_machine_equals_uninterrupted(
    tmp_path, monkeypatch, capfd, scheme, num_processes, flags
):
    write_files(tmp_path)
    whole = Job(tmp_path, tmp_path / "whole")
    whole.wait(whole.start(num_processes, flags))
    with new_bucket(scheme, monkeypatch) as url:
        url += "/some/run"
        job = Job(tmp_path, tmp_path / "run")
        flags = (*flags, f"--workdir={url}")
        machine = tmp_path / "machine-1"
        monkeypatch.setenv("IMAGEN_JAX_CACHE", str(machine))
        processes = job.start(num_processes, flags, delay=0.3)
        saved, step = kill_between_checkpoints(job, machine, url, processes)
        monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "machine-2"))
        job.wait(job.start(num_processes, flags))

        job.workdir.mkdir()
        download(url, job.workdir)
        print(f"{scheme}: killed after step {step}, resumed from {saved}")
        assert len(job.checkpoint_steps()) == KEEP
        assert_same_run(job, whole)
        root = open_folder(url)
        expected = {"checkpoints", "config.json", "logs", "metrics.jsonl", "previews"}
        assert root.names() == expected
        # One file per start, the killed one's too.
        assert len(open_folder(f"{url}/logs").names()) == 2

        drawn = []
        caption = SyntheticSource(NUM_RECORDS, 8)[0].caption
        for workdir in (url, whole.workdir):
            out = tmp_path / f"{len(drawn)}.png"
            status, _, err = run(
                monkeypatch,
                capfd,
                sample,
                f"--workdirs={workdir}",
                f"--embeddings={tmp_path}/store",
                f"--prompt={caption}",
                f"--out={out}",
            )
            assert status == 0, err
            drawn.append(out.read_bytes())
        assert drawn[0] == drawn[1]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_part_of_many_mb_comes_back_as_it_was(tmp_path, monkeypatch, scheme):
    """Such a file is sent in pieces, unlike those of a tiny stage."""
    with new_bucket(scheme, monkeypatch) as url:
        parts = CheckpointParts(f"{url}/run/checkpoints", 0, 1)
        (tmp_path / "part").mkdir()
        data = bytes(range(256)) * 2**18  # 64 MB
        (tmp_path / "part" / "file").write_bytes(data)
        parts.put(1, "a", tmp_path / "part")
        parts.commit(1, "a", None)
        parts.fetch(1, tmp_path / "back")
        assert (tmp_path / "back" / "file").read_bytes() == data


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_that_is_not_there_is_one_sentence(
    tmp_path, monkeypatch, capfd, scheme
):
    write_files(tmp_path)
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path / "cache"))
    url = f"{scheme}://nowhere/run"
    with new_bucket(scheme, monkeypatch):
        for command, flags in (
            (train, (f"--config={tmp_path}/config.py", f"--workdir={url}")),
            (sample, (f"--workdirs={url}", "--prompt=x")),
        ):
            status, _, err = run(monkeypatch, capfd, command, *flags)
            assert status == 2
            assert err[-1].startswith(f"error: {url}")
            assert not any("Traceback" in line for line in err)


def test_a_scheme_that_nothing_opens_is_one_sentence(tmp_path, monkeypatch, capfd):
    pytest.importorskip("fsspec")
    write_files(tmp_path)
    for command, flags in (
        (train, (f"--config={tmp_path}/config.py", "--workdir=ftpx://b/run")),
        (sample, ("--workdirs=ftpx://b/run", "--prompt=x")),
    ):
        status, _, err = run(monkeypatch, capfd, command, *flags)
        assert status == 2
        assert "give a local folder, gs://... or s3://..." in err[-1]
        assert not any("Traceback" in line for line in err)
