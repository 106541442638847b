"""What launch/environment.sh sets for commands that train and sample here."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.fake_tools import LAUNCH

USE_THIS_HOST = f"""
set -euo pipefail
source {LAUNCH}/environment.sh
PYTHON={sys.executable}
use_this_host
echo "${{LD_PRELOAD:-}} ${{MALLOC_CONF:-}} $JAX_PLATFORMS"
"""


@pytest.fixture
def host(tmp_path):
    """Returns a function that gives what is set where ldconfig lists a library."""

    def settings(library, **environment):
        listed = f"\tlibjemalloc.so.2 (libc6,x86-64) => {library}" if library else ""
        ldconfig = tmp_path / "ldconfig"
        ldconfig.write_text(f"#!/bin/sh\nprintf 'libs:\\n{listed}\\n'\n")
        ldconfig.chmod(0o755)
        path = f"{tmp_path}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-c", USE_THIS_HOST],
            env={"PATH": path, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.rstrip("\n")

    return settings


@pytest.fixture
def library():
    """The path of a library that a process can preload."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if "/libc.so" in line)


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is of Linux")
def test_jemalloc_is_taken_where_the_system_has_it(host, library):
    settings = host(library)
    assert settings.startswith(f"{library} retain:true,dirty_decay_ms:-1")
    assert settings.endswith(" cpu")


def test_without_jemalloc_nothing_is_preloaded(host):
    assert host(None) == "  cpu"


def test_a_library_that_does_not_load_is_left_out(host, tmp_path):
    (tmp_path / "libjemalloc.so.2").write_text("not a library")
    assert host(tmp_path / "libjemalloc.so.2") == "  cpu"


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is of Linux")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"JAX_PLATFORMS": "tpu"}, "  tpu"), ({"LD_PRELOAD": "{}"}, "{}  cpu")],
    ids=["accelerator", "preloaded"],
)
def test_what_the_user_set_stays(host, library, environment, expected):
    environment = {key: value.format(library) for key, value in environment.items()}
    assert host(library, **environment) == expected.format(library)
