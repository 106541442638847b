"""The plan command: its lines, its exit status, each bad input it must refuse."""

import importlib.util
import json

import pytest

from imagen_jax import plan
from tests.commands.command import run
from tests.tiny import BASE, SR

CONFIG = (
    "import ml_collections\n\n\ndef get_config():\n"
    "    return ml_collections.ConfigDict({})\n"
)


@pytest.fixture(params=["base", "sr"])
def config(tmp_path, request):
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format({"base": BASE, "sr": SR}[request.param]))
    return path


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.py"
    path.write_text(CONFIG.format(BASE))
    return path


def test_estimates_need_no_compiler(tmp_path, monkeypatch, capfd, config):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, out, _ = run(
        monkeypatch,
        capfd,
        plan,
        f"--config={config}",
        "--topology=v5e:2x2",
        "--nocompile",
        "--steps=1000",
        "--mfu=0.25",
        "--price_per_chip_hour=2",
        "--captions=5000",
        f"--out={tmp_path}/plan.json",
    )
    assert status == 0
    lines = out.strip().splitlines()
    starts = [line.split("  ")[0] for line in lines[1:]]
    assert starts[0] == "parameters"
    assert {"memory", "work", "communication", "time", "cost", "text"} <= set(starts)
    assert "4 chips" in lines[0]
    assert "1,000 steps at a stated MFU of 0.25" in out
    assert "5,000 captions of 20 tokens" in out
    values = json.loads((tmp_path / "plan.json").read_text())
    assert values["chips"] == 4
    assert values["estimate"]["peak_bytes"] > values["estimate"]["memory"]["weights"]
    assert "compiled" not in values


def test_sampler_and_encoder(monkeypatch, capfd, config):
    nocompile = "--topology=v5e:2x2", "--nocompile", "--batch_size=4"
    status, out, _ = run(
        monkeypatch, capfd, plan, f"--config={config}", "--sample", *nocompile
    )
    assert status == 0
    assert "sampling 4 pictures at once" in out
    status, out, _ = run(
        monkeypatch, capfd, plan, "--encoder=t5_v1_1_small", *nocompile
    )
    assert status == 0
    assert "t5_v1_1_small in bfloat16 on v5e:2x2: 4 captions of 128 tokens" in out


def test_what_does_not_fit_ends_with_status_1_and_what_to_change(
    monkeypatch, capfd, base
):
    status, out, _ = run(
        monkeypatch,
        capfd,
        plan,
        f"--config={base}",
        "--topology=v5e:1x1",
        "--nocompile",
        "--config.resolution=256",
        "--config.network.attention=[False,False]",
        "--config.train.batch_size=4096",
    )
    assert status == 1
    last = out.strip().splitlines()[-1]
    assert last.startswith("it does not fit; add --config.network.remat=True")
    assert "--config.train.microbatches=" in last


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v5e:5x5"], "give one of v4:2x2x1,2x2x2,"),
        (["--topology=h100"], "the topology is 'h100'; give one of"),
        (["--topology=v5e:2x2", "--confg=x"], "unknown flag '--confg=x'"),
        (
            ["--topology=v5e:4x4", "--config.train.batch_size=24"],
            "train.batch_size is 24; it must be a multiple of mesh.data x mesh.fsdp, "
            "here 16",
        ),
        (
            ["--topology=v5e:2x2", "--config.mesh.fsdp=3"],
            "does not make 4 devices; set one of",
        ),
        (["--topology=v5e:2x2", "--config.networc.channels=8"], "did you mean"),
        (["--topology=v5e:2x2", "--mfu=40"], "--mfu is 40; it is a share"),
        (["--topology=v5e:2x2", "--encoder=t5_v1_1_xl"], "one of them"),
        (["--topology=v5e:2x2", "--price_per_chip_hour=-1"], "is -1; give"),
        (["--topology=v5e:2x2", "--price_per_chip_hour=nan"], "is nan; give"),
        (["--topology=v5e:2x2", "--out=/"], "--out=/ is a folder"),
        (["--topology=v5e:2x2", "--out=/dev/null/x.json"], "--out=/dev/null/x.json"),
    ],
)
def test_bad_input_is_one_sentence(monkeypatch, capfd, base, flags, message):
    flags = [f"--config={base}", "--nocompile", *flags]
    status, out, err = run(monkeypatch, capfd, plan, *flags)
    assert status == 2
    assert out == ""
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --config=FILE for a stage or --encoder=NAME"),
        (
            ["--encoder=t5_xxl", "--batch_size=4"],
            "that can be planned are t5_v1_1_small",
        ),
        (["--encoder=t5_v1_1_xl", "--batch_size=3"], "multiple of the 4 chips"),
        (["--encoder=t5_v1_1_xl", "--config.seed=3"], "go with --config, not here"),
        (["--encoder=t5_v1_1_xl", "--sample"], "go with --config, not here"),
        (["--config=nothing.py"], "no such file"),
    ],
)
def test_bad_choice_is_one_sentence(monkeypatch, capfd, flags, message):
    flags = ["--topology=v5e:2x2", "--nocompile", *flags]
    status, _, err = run(monkeypatch, capfd, plan, *flags)
    assert status == 2
    assert message in err[-1]


def test_a_missing_compiler_is_one_sentence(monkeypatch, capfd, base):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    flags = f"--config={base}", "--topology=v5e:2x2"
    status, _, err = run(monkeypatch, capfd, plan, *flags)
    assert status == 2
    assert 'pip install "imagen_jax[tpu]"' in err[-1]
    assert "--nocompile" in err[-1]
