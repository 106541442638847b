"""A tiny training by several processes of this machine, for tests.

Its processes are hosts that share 4 virtual devices; `Job` starts them and reads what
they wrote. A worker is `python -m tests.hosts RECORDS DELAY ...`: the train command,
with the records of each batch written down.
"""

import dataclasses
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
BATCH_SIZE, NUM_RECORDS, NUM_STEPS = 8, 40, 16  # 5 steps are an epoch
CHECKPOINT_EVERY, KEEP, PREVIEW_EVERY = 3, 4, 8
TWO_HOSTS = ("--config.mesh.data=1", "--config.mesh.fsdp=4")
ONE_HOST = ("--config.mesh.data=2", "--config.mesh.fsdp=2")
DEADLINE_SEC = 300.0
# What JAX's transport on CPUs says where a busy machine starts one process much later
# than the other. A launcher starts such a job again, and so do these tests.
_NOT_CONNECTED = "Gloo context initialization failed"
_START = "== start\n"  # a line of a process's log
NUM_DEVICES = 4


def write_files(folder: Path) -> None:
    """Writes config.py and the embedding store of the tiny run."""
    from imagen_jax.data.synthetic import SyntheticSource
    from tests.commands.test_train_command import write_tiny_store
    from tests.tiny import BASE

    pictures = SyntheticSource(NUM_RECORDS, 8)
    captions = {pictures[i].caption for i in range(NUM_RECORDS)}
    write_tiny_store(folder / "store", captions=sorted(captions))
    source = f"synthetic:{NUM_RECORDS}:8"
    # Collectives between processes are slow on few cores, so few parameters.
    network = {"channel_mults": [1], "num_res_blocks": [1], "attention": [False]}
    train = {
        "ema_decays": [0.9],
        "batch_size": BATCH_SIZE,
        "num_steps": NUM_STEPS,
        "checkpoint_every": CHECKPOINT_EVERY,
        "keep_checkpoints": KEEP,
        "preview_every": PREVIEW_EVERY,
    }
    tree = {
        **BASE,
        "data": {"source": source, "store": str(folder / "store")},
        "preview": {"source": source, "count": 4, "num_steps": 2},
        "network": {**BASE["network"], **network},
        "train": {**BASE["train"], **train},
    }
    (folder / "config.py").write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({tree!r})\n"
    )


class NotConnectedError(RuntimeError):
    """The processes did not find each other in time; nothing was computed yet."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A run: where its files are and how its processes are started."""

    files: Path
    workdir: Path

    def start(
        self,
        num_processes: int = 2,
        flags: tuple[str, ...] = TWO_HOSTS,
        *,
        delay: float = 0.0,
        own_flags: tuple[str, ...] = (),
    ) -> list[subprocess.Popen]:
        """Starts the processes.

        Args:
          num_processes: hosts, among which 4 virtual devices are shared.
          flags: of the train command.
          delay: seconds that each batch takes longer.
          own_flags: one more flag for each process, where they are to differ.
        """
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax_tests"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XLA_FLAGS": "--xla_force_host_platform_device_count="
            f"{NUM_DEVICES // num_processes} "
            "--xla_backend_optimization_level=0 "
            "--xla_cpu_collective_call_terminate_timeout_seconds=600",
        }
        coordinator = f"127.0.0.1:{_free_port()}"
        processes = []
        for index in range(num_processes):
            command = [
                *(sys.executable, "-m", "tests.hosts"),
                *(str(self.records), str(delay)),
                f"--config={self.files}/config.py",
                f"--workdir={self.workdir}",
                *flags,
                *own_flags[index : index + 1],
            ]
            if num_processes > 1:
                command += [
                    f"--coordinator={coordinator}",
                    f"--num_processes={num_processes}",
                    f"--process_id={index}",
                ]
            with self.log(index).open("a") as log:
                log.write(_START)
                log.flush()
                processes.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=environment, stdout=log, stderr=log
                    )
                )
        return processes

    def log(self, index: int) -> Path:
        """Returns the file with what process `index` printed."""
        return self.workdir.with_name(f"{self.workdir.name}-{index}.log")

    @property
    def records(self) -> Path:
        """The file with the records of each batch that was read."""
        return self.workdir.with_name(f"{self.workdir.name}-records.jsonl")

    def wait(self, processes: list[subprocess.Popen]) -> None:
        """Waits until all have ended well; else ends all that still run.

        Raises:
          NotConnectedError: they did not find each other.
          RuntimeError: one did not end well.
        """
        deadline = time.monotonic() + DEADLINE_SEC
        try:
            while any(process.poll() is None for process in processes):
                if any(process.poll() for process in processes):
                    break  # the others may wait for it for ever
                if time.monotonic() > deadline:
                    raise RuntimeError(f"no end after {DEADLINE_SEC} s:\n{self.logs()}")
                time.sleep(0.05)
        finally:
            statuses = [process.poll() for process in processes]
            end_all(processes)
        if any(statuses):
            logs = [self.log(i).read_text() for i in range(len(processes))]
            if any(_NOT_CONNECTED in log.rpartition(_START)[2] for log in logs):
                raise NotConnectedError(self.logs())
            raise RuntimeError(f"ended with statuses {statuses}:\n{self.logs()}")

    def logs(self) -> str:
        """Returns the end of what each process printed."""
        paths = sorted(self.workdir.parent.glob(f"{self.workdir.name}-*.log"))
        return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in paths)

    def metrics(self) -> list[dict[str, float]]:
        """Returns the logged metrics, previews left out."""
        path = self.workdir / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        # The last line may be half-written still.
        entries = [json.loads(line) for line in lines if line.endswith("}")]
        return [entry for entry in entries if "loss" in entry]

    def losses(self) -> list[tuple[int, float]]:
        """Returns (step, loss) of every step."""
        return [(int(entry["step"]), entry["loss"]) for entry in self.metrics()]

    def checkpoint_steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, in order."""
        folder = self.workdir / "checkpoints"
        names = [path.name for path in folder.glob("*")] if folder.exists() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def state(self) -> dict[str, np.ndarray]:
        """Returns the newest checkpoint's leaves by name."""
        import jax
        import orbax.checkpoint as ocp

        folder = self.workdir / "checkpoints" / str(self.checkpoint_steps()[-1])
        with ocp.PyTreeCheckpointer() as reader:
            shapes = reader.metadata(folder / "state").item_metadata.tree
            as_numpy = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes
            )
            tree = reader.restore(folder / "state", restore_args=as_numpy)
        return {
            jax.tree_util.keystr(path): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }

    def read_records(self) -> dict[int, str]:
        """Returns the record read for each position of the stream, by all processes.

        Raises:
          AssertionError: two processes read different records for one position.
        """
        found: dict[int, str] = {}
        for line in self.records.read_text().splitlines():
            entry = json.loads(line)
            for position, record in zip(
                entry["positions"], entry["records"], strict=True
            ):
                assert found.setdefault(position, record) == record, position
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_all(processes: list[subprocess.Popen]) -> None:
    """Kills what still runs."""
    for process in processes:
        process.kill()
        process.wait()


def work(records: Path, delay: float, arguments: list[str]) -> None:
    """Runs the train command; appends to `records` what each batch holds."""
    # tensorboardX imports it where it is installed, which takes seconds.
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    from imagen_jax import train
    from imagen_jax.data.pipeline import BatchMaker
    from imagen_jax.errors import run_command
    from imagen_jax.parallel import sharding

    class LoggedBatchMaker(BatchMaker):
        def __init__(self, *positional, shard, **named):
            super().__init__(*positional, shard=shard, **named)
            self._shard = shard

        def batch(self, k):
            time.sleep(delay)
            batch = super().batch(k)
            parts, count = self._shard
            places = np.arange(BATCH_SIZE).reshape(count, -1)[list(parts)]
            names = [
                hashlib.sha256(image.tobytes() + embed.tobytes()).hexdigest()[:16]
                for image, embed in zip(batch.image, batch.text.embed, strict=True)
            ]
            positions = (k * BATCH_SIZE + places).reshape(-1).tolist()
            line = json.dumps({"positions": positions, "records": names}) + "\n"
            with records.open("a") as file:
                file.write(line)
            return batch

    train.BatchMaker = LoggedBatchMaker
    sharding.MIN_FSDP_SIZE = 2**10  # split a few of these small parameters as well
    sys.argv = ["train", *arguments]
    run_command(train.main)


if __name__ == "__main__":
    work(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
