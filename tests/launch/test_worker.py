"""`launch/worker.sh setup`: a host whose Python is new enough, and one where not."""

import os
import shutil
import subprocess

import pytest

from tests.launch.fake_tools import LAUNCH

# An interpreter that says how new it is, and notes what it is to install.
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >>"$HOME/called"
case "$*" in
  *sys.exit*) exit {old} ;;
  *%d%d*) echo 312 ;;
  --version) echo Python ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >>"$HOME/called"
mkdir -p "$HOME/.local/bin" && cp "$HOME/new/bin/python" "$HOME/.local/bin/python3.12"
"""


@pytest.fixture
def host(tmp_path):
    """A home folder with the repository's scripts and fake programs."""
    shutil.copytree(LAUNCH, tmp_path / "imagen_jax" / "launch")
    (tmp_path / "imagen_jax" / "setup.py").write_text("")
    fakes = {f"bin/{name}": 1 for name in ("python3.12", "python3.11", "python3")}
    for name, old in {**fakes, "bin/python": 1, "new/bin/python": 0}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PYTHON.format(old=old))
    (tmp_path / "bin" / "uv").write_text(UV)
    for path in [*tmp_path.glob("bin/*"), *tmp_path.glob("new/bin/*")]:
        path.chmod(0o755)
    return tmp_path


def set_up(host):
    """Runs `setup text`; returns what was installed, in order."""
    done = subprocess.run(
        [host / "imagen_jax" / "launch" / "worker.sh", "setup", "text"],
        env={
            "HOME": str(host),
            "PATH": f"{host}/bin:{os.environ['PATH']}",
            "VIRTUAL_ENV": str(host / "new"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Installing imagen_jax[text]" in done.stdout
    called = (host / "called").read_text().splitlines()
    return [line for line in called if " install " in line]


def test_an_old_host_gets_python_first(host):
    (host / ".imagen_jax_secrets").write_text("HF_TOKEN=hf_1234\n")
    installed = set_up(host)
    assert installed[:2] == [
        "python3 -m pip install --quiet --user uv",
        "uv python install 3.12",
    ]
    assert installed[2].startswith("python -m pip install --quiet -c ")
    assert installed[2].endswith("--editable .[text]")
    assert (host / ".imagen_jax_secrets").stat().st_mode & 0o777 == 0o600


def test_a_new_host_keeps_its_python(host):
    shutil.copy(host / "new" / "bin" / "python", host / "bin" / "python3.11")
    (installed,) = set_up(host)
    assert installed.endswith("--editable .[text]")


def test_an_unknown_action_is_one_sentence(host):
    script = host / "imagen_jax" / "launch" / "worker.sh"
    done = subprocess.run(
        [script, "strat"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: worker.sh takes setup, start, state, log, follow or stop, not 'strat'\n"
    )
