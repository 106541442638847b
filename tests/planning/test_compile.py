"""Tiny programs compiled for v5e:2x2 by libtpu, which needs no TPU.

`.ci/run` runs them by themselves, since libtpu is large: `pytest -m tpu`. Each is
compiled in a process of its own, as the tests' own process has 8 CPU devices.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import BASE, SR

ROOT = Path(__file__).parent.parent.parent

pytestmark = [
    pytest.mark.tpu,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
    ),
]


def planned(tmp_path, *flags):
    """Returns (exit status, stdout, values) of the command, in its own process."""
    out = tmp_path / "plan.json"
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    result = subprocess.run(
        [sys.executable, "-m", "imagen_jax.plan", f"--out={out}", *map(str, flags)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in result.stderr, result.stderr
    values = json.loads(out.read_text()) if out.exists() else {}
    return result.returncode, result.stdout, values


@pytest.fixture
def write(tmp_path):
    def to_file(tree):
        path = tmp_path / "config.py"
        path.write_text(
            "import ml_collections\n\n\ndef get_config():\n"
            f"    return ml_collections.ConfigDict({tree!r})\n"
        )
        return f"--config={path}"

    return to_file


@pytest.mark.parametrize("tree", [BASE, SR], ids=["base", "sr"])
def test_the_train_step_compiles_and_splits(tmp_path, write, tree):
    split = "--config.mesh.fsdp=2"
    status, out, plan = planned(tmp_path, write(tree), "--topology=v5e:2x2", split)
    assert status == 0
    assert "compiled       peak" in out
    report = plan["compiled"]
    assert report["fits"]
    assert report["effort"] == "fast"
    # The state goes in, so the peak is above it.
    state = sum(plan["estimate"]["memory"][k] for k in ("weights", "moments", "ema"))
    assert report["argument_bytes"] >= 0.95 * state
    assert report["peak_bytes"] > state
    # What data parallelism sends at least: the gradients, summed over all chips.
    assert sum(report["sent_bytes"].values()) > 0


def test_sampler_and_encoder_compile(tmp_path, write):
    flags = "--topology=v5e:2x2", "--batch_size=4"
    status, _, plan = planned(tmp_path, write(SR), "--sample", *flags)
    assert status == 0
    assert plan["compiled"]["peak_bytes"] > plan["estimate"]["memory"]["weights"]
    status, _, plan = planned(tmp_path, "--encoder=t5_v1_1_small", *flags)
    assert status == 0
    assert plan["compiled"]["peak_bytes"] > plan["estimate"]["memory"]["weights"]


def test_what_the_compiler_cannot_place_ends_with_status_1(tmp_path):
    """The table of tokens of one large batch is above the memory of a chip."""
    flags = "--encoder=t5_v1_1_small", "--topology=v5e:1x1", "--length=512"
    status, out, plan = planned(tmp_path, *flags, "--batch_size=16384")
    assert status == 1
    assert not plan["compiled"]["fits"]
    assert plan["compiled"]["peak_bytes"] > 15 * 2**30
    assert out.strip().splitlines()[-1].startswith("it does not fit; take fewer")
