"""The train command with a held-out loss and a profile, and what it must refuse."""

import json

import numpy as np
import pytest

from imagen_jax import train
from imagen_jax.errors import UserError
from tests.commands.command import run
from tests.commands.test_train_command import SOURCE, write_tiny_store
from tests.tiny import BASE, tiny_config

SMALLEST = {"channel_mults": [1], "num_res_blocks": [1], "attention": [False]}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    store = str(write_tiny_store(folder / "store"))
    tree = {
        **BASE,
        "network": {**BASE["network"], **SMALLEST},
        "data": {"source": SOURCE, "store": store},
        "heldout": {"source": SOURCE, "count": 5, "times": 4},
        "train": {**BASE["train"], "num_steps": 5, "heldout_every": 2},
    }
    (folder / "config.py").write_text(
        "import ml_collections\n\n\ndef get_config():\n"
        f"    return ml_collections.ConfigDict({tree!r})\n"
    )
    return folder / "config.py"


@pytest.mark.slow
def test_held_out_losses_and_a_profile_are_written(
    tmp_path, monkeypatch, capfd, config
):
    flags = (f"--config={config}", f"--workdir={tmp_path}/run", "--profile=2:4")
    status, _, err = run(monkeypatch, capfd, train, *flags)
    assert status == 0, err
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    heldout = [entry for entry in entries if "heldout/loss" in entry]
    assert [entry["step"] for entry in heldout] == [2, 4, 5]
    assert heldout[0].keys() > {"heldout/loss_logsnr_-5_0", "heldout/0.99/loss"}
    assert np.ptp([entry["heldout/loss"] for entry in heldout]) > 0
    assert all(entry["flops_per_sec"] > 0 for entry in entries if "loss" in entry)
    assert not any("mfu" in entry for entry in entries)  # no data-sheet peak of a CPU
    assert len(list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))) == 1


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--profile=5:3", "--profile is '5:3'; give START:STOP"),
        ("--profile=6:9", "--profile is '6:9' and train.num_steps 5; START must be"),
        ("--config.heldout.source=''", "train.heldout_every is 2; set heldout.source"),
        ("--config.heldout.source=nowhere", "the data source is 'nowhere'"),
        ("--config.heldout.count=0", "heldout.count is 0"),
        ("--config.heldout.times=0", "heldout.times is 0"),
        ("--config.train.heldout_every=-1", "train.heldout_every is -1"),
        ("--config.train.heldout_every=x", "it must be of type int"),
        (
            "--config.heldout.source=synthetic:500:8",
            "heldout.source 'synthetic:500:8': the embedding store",
        ),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, config, flag, message):
    flags = (f"--config={config}", f"--workdir={tmp_path}/run", flag)
    status, _, err = run(monkeypatch, capfd, train, *flags)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("every", [0, 3, 8])
def test_keeping_the_best_needs_a_loss_at_every_checkpoint(every):
    train = {"keep_best": True, "checkpoint_every": 4}
    heldout = {"source": SOURCE}
    for good in (2, 4):
        tiny_config(train={**train, "heldout_every": good}, heldout=heldout)
    with pytest.raises(UserError) as error:
        tiny_config(train={**train, "heldout_every": every}, heldout=heldout)
    assert str(error.value) == (
        f"train.keep_best needs train.heldout_every, now {every}, to divide "
        "train.checkpoint_every, 4"
    )
