"""Fake gcloud, kubectl, sbatch and git, and a small repository for the scripts.

Each fake notes its words as a line of JSON and answers as it was told to. After
`add_hosts` the fake gcloud runs here, once per host, what it is to run over ssh.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

LAUNCH = Path(__file__).parents[2] / "launch"
TOOLS = ("gcloud", "git", "kubectl", "sbatch", "scancel", "squeue")

FAKE = """#!{python} -ISs
import json, os, signal, subprocess, sys
from pathlib import Path

folder = Path({folder!r})
words = [Path(sys.argv[0]).name, *sys.argv[1:]]
with (folder / "calls.jsonl").open("a") as calls:
    print(json.dumps(words), file=calls)
file = folder / "answers.json"
answers = json.loads(file.read_text())
line = " ".join(words)
for answer in answers:
    if answer["match"] in line and answer["turns"]:
        turn = answer["turns"][0]
        if len(answer["turns"]) > 1 or answer["once"]:
            answer["turns"].pop(0)
        file.write_text(json.dumps(answers))
        sys.stdout.write(turn.get("stdout", ""))
        sys.stderr.write(turn.get("stderr", ""))
        if turn.get("terminates"):
            os.kill(os.getppid(), signal.SIGTERM)
        sys.exit(turn.get("status", 0))
command = [w.partition("=")[2] for w in words if w.startswith("--command=")]
into = [w.partition("=")[2] for w in words if w.startswith("--output-directory=")]
for host in sorted((folder / "hosts").glob("*")):
    if command:
        done = subprocess.run(
            ["bash", "-c", command[0]],
            cwd=host, env={{**os.environ, "HOME": str(host)}},
            stdout=subprocess.PIPE, text=True, timeout=60,
        )
        if into:
            Path(into[0], host.name + ".log").write_text(done.stdout)
        else:
            sys.stdout.write(done.stdout)
        if done.returncode:
            sys.exit(1)
"""

# Stands for imagen_jax.train: says what it was given, then works until it is done.
JOB = """
import os, signal, sys, time
print("given", *sys.argv[1:])
print("secret", os.environ.get("HF_TOKEN"), file=sys.stderr)
signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(0)))
for argument in sys.argv[1:]:
    if argument.startswith("--ends="):
        sys.exit(int(argument.partition("=")[2]))
time.sleep(60)
"""


class FakeTools:
    """The fakes' folder, and the copy of launch/ that runs with them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.root = folder / "root"
        shutil.copytree(LAUNCH, self.root / "launch")
        for module in ("train", "embed", "sample"):
            file = self.root / "imagen_jax" / f"{module}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(JOB)
        (self.root / "configs").mkdir()
        (self.root / "configs" / "base.py").write_text("")
        self.programs = folder / "bin"
        self.programs.mkdir()
        for tool in TOOLS:
            fake = self.programs / tool
            fake.write_text(FAKE.format(python=sys.executable, folder=str(folder)))
            fake.chmod(0o755)
        self._answers: list[dict] = []
        self._write()

    def _write(self) -> None:
        (self.folder / "answers.json").write_text(json.dumps(self._answers))

    def answer(self, match: str, *turns: dict, once: bool = False) -> None:
        """Calls whose words contain `match` are answered by turns; the last one stays.

        A turn has `stdout`, `stderr`, `status`, `terminates` (SIGTERM to the script).
        """
        self._answers.append({"match": match, "turns": list(turns), "once": once})
        self._write()

    def add_hosts(self, count: int) -> list[Path]:
        """Makes home folders of hosts, each with the repository in place."""
        hosts = [self.folder / "hosts" / str(i) for i in range(count)]
        for host in hosts:
            host.mkdir(parents=True)
            (host / "imagen_jax").symlink_to(self.root)
        return hosts

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs launch/`script`; what it wrote is text."""
        return subprocess.run(
            [self.root / "launch" / script, *arguments],
            env={
                **os.environ,
                "PATH": f"{self.programs}:{os.environ['PATH']}",
                "VIRTUAL_ENV": sys.prefix,
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @property
    def calls(self) -> list[list[str]]:
        """The words of each call so far, the tool's name first."""
        file = self.folder / "calls.jsonl"
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text().splitlines()]


def assert_refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    """Exit status 2, and the last line of stderr says it all."""
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
