"""`evaluate ablate`: what it leaves, that it goes on, bad input."""

import json

import pytest

from imagen_jax.evaluate import ablate as job
from imagen_jax.evaluate import command
from tests.commands.command import run as run_command
from tests.text.tiny_bert import CONFIG, write_folder


@pytest.fixture
def run(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(job, "keep_compiled", lambda: None)

    def call(*arguments):
        flags = [f"--out={tmp_path / 'out'}", *arguments]
        return run_command(monkeypatch, capfd, command, "ablate", *flags)

    return call


@pytest.mark.slow
def test_conditioning_runs_and_goes_on(run, monkeypatch, tmp_path):
    weights = write_folder(tmp_path / "encoder")
    flags = ["--only=conditioning", "--smoke", "--seeds=0", "--source=synthetic:32:64"]
    for change in (
        "text.on_the_fly=True",
        "text.encoder=tiny_bert",
        f"text.width={CONFIG.width}",
        f"text.weights_path={weights}",
        "network.channels=8",
        "network.head_dim=8",
        "network.norm_groups=4",
        "network.patch_size=8",
        "network.channel_mults=[1]",
        "network.num_res_blocks=[1]",
        "network.attention=[True]",
        "optimizer.kind=adam",  # the quickest to compile, by far
        "train.batch_size=8",
    ):
        flags.append(f"--set={change}")
    status, out, err = run(*flags)
    assert status == 0, err
    report = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert list(report["arms"]) == [
        "cross_attention",
        "attention_pooling",
        "mean_pooling",
    ]
    assert report["steps"] == 4
    assert (tmp_path / "out" / "sheet.png").exists()
    assert "| cross_attention - mean_pooling | **object_accuracy** | " in out
    assert set(report["arms"]["mean_pooling"]) >= {"loss", "step_sec"}

    def trained_again(*given):
        raise AssertionError("a finished arm was trained again")

    monkeypatch.setattr(job, "train_arm", trained_again)
    assert run(*flags)[0] == 0
    status, _, err = run(*flags, "--set=optimizer.learning_rate=0.1")
    assert status == 2
    assert "other settings" in err[-1]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("--only=conditionning",), "did you mean 'conditioning'?"),
        (("--only=conditioning",), "--source is not given"),
        (("--only=conditioning", "--steps=0"), "--steps=0; it must be at least 1"),
        (("--only=thresholding", "--num=0"), "--num=0; it must be at least 1"),
        (("--only=thresholding", "--seeds=0,0"), "give different whole numbers"),
        (("--only=thresholding", "--seeds=a"), "give different whole numbers"),
    ],
)
def test_bad_input_is_one_sentence(run, tmp_path, flags, expected):
    status, _, err = run(*flags)
    assert status == 2
    assert expected in err[-1]
    assert "Traceback" not in "".join(err)
    assert not (tmp_path / "out").exists()
