"""The sample command on tiny bundles: prompts in, pictures out, and its bad input."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from imagen_jax import embed, sample
from imagen_jax.bundle import write_bundle
from tests.commands.command import run
from tests.text.tiny_bert import CONFIG, write_folder
from tests.tiny import tiny_stage

PROMPTS = ["the red fox", "a cat on the owl"]
FEW = ("--num=2", "--steps=2", "--batch_size=8")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with an encoder and two stages that were trained with it."""
    folder = tmp_path_factory.mktemp("files")
    text = {
        "encoder": "tiny_bert",
        "width": CONFIG.width,
        "max_length": 8,
        "weights_path": str(write_folder(folder / "encoder")),
    }
    for kind in ("base", "sr"):
        stage = tiny_stage(kind, text=text)
        params = stage.init_params(jax.random.key(0))
        noise = np.random.default_rng(1)
        params = jax.tree.map(  # initialised, the last layer would answer zero
            lambda leaf, noise=noise: leaf + 0.05 * noise.standard_normal(leaf.shape),
            params,
        )
        write_bundle(stage, params, folder / kind)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    (folder / "empty.txt").write_text("\n")
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    return folder


def make_store(folder, store, monkeypatch, capfd, **changes):
    """Embeds the prompts by the command, as another machine would."""
    settings = {
        "captions": folder / "prompts.txt",
        "store": store,
        "encoder": "tiny_bert",
        "weights": folder / "encoder",
        "max_length": 8,
        **changes,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    assert run(monkeypatch, capfd, embed, *flags)[0] == 0
    return store


def pictures_in(folder):
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return entries, [read_png(folder / entry["file"]) for entry in entries]


def read_png(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_draws_each_prompt_by_both_stages_and_with_stored_embeddings(
    tmp_path, monkeypatch, capfd, files
):
    where = f"--workdirs={files}/base,{files}/sr"
    what = f"--prompts={files}/prompts.txt"
    store = make_store(files, tmp_path / "store", monkeypatch, capfd)
    made = {}
    for name, flags in {"encoder": [], "store": [f"--embeddings={store}"]}.items():
        out = [f"--out={tmp_path}/{name}.png", f"--samples={tmp_path}/{name}"]
        status, said, err = run(
            monkeypatch, capfd, sample, where, what, *FEW, *out, *flags
        )
        assert status == 0, err
        assert "4 pictures" in said
        assert read_png(tmp_path / f"{name}.png").shape[1] > 100
        made[name] = pictures_in(tmp_path / name)
    entries, pictures = made["encoder"]
    assert [e["prompt"] for e in entries if e["stage"] == "base"] == [
        prompt for prompt in PROMPTS for _ in range(2)
    ]
    assert [picture.shape[0] for picture in pictures] == [8] * 4 + [16] * 4
    assert len({picture.tobytes() for picture in pictures}) == 8
    for from_encoder, from_store in zip(pictures, made["store"][1], strict=True):
        difference = np.abs(from_encoder.astype(int) - from_store)
        assert (difference <= 1).mean() > 0.99


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdirs={files}/nowhere"], "give the workdir of a training run"),
        (["--workdirs={files}/sr,{files}/base"], "needs a low-res picture"),
        (["--workdirs={files}/base,{files}/base"], "takes 0-pixel"),
        (["--prompts={files}/empty.txt"], "has no prompt"),
        (["--prompts={files}/latin.txt"], "cannot be read"),
        (["--num=0"], "must be at least 1"),
        (["--steps=2,2,2"], "must be one number, or 2 by commas"),
        (["--sampler=dpm++"], "must be one of ddpm, ddim, dpmpp_2m, unipc, heun, or 2"),
        (["--sampler=unipc,heun,ddim"], "or 2 by commas"),
        (["--embeddings={files}/base"], "embedding store"),
        (["--encoder_weights={files}/base"], "has no weights"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, files, flags, message):
    """Exit status 2, the last line says it, no traceback, no picture."""
    arguments = [flag.format(files=files) for flag in flags]
    given = {argument.split("=")[0] for argument in arguments}
    if "--workdirs" not in given:
        arguments.append(f"--workdirs={files}/base,{files}/sr")
    if "--prompts" not in given:
        arguments.append("--prompt=a fox")
    arguments.append(f"--out={tmp_path}/grid.png")
    status, _, err = run(monkeypatch, capfd, sample, *arguments)
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 5}, "max_length 5, not 8"),
        ({"cleaning": "basic"}, "cleaning 'basic', not 'none'"),
        ({"encoder": "other"}, "encoder 'other', not 'tiny_bert'"),
    ],
)
def test_embeddings_made_differently_are_refused(
    tmp_path, monkeypatch, capfd, files, changes, message
):
    store = make_store(files, tmp_path / "store", monkeypatch, capfd, **changes)
    status, _, err = run(
        *(monkeypatch, capfd, sample, f"--workdirs={files}/base", "--prompt=a fox"),
        *(f"--embeddings={store}", f"--out={tmp_path}/grid.png"),
    )
    assert status == 2
    assert message in err[-1]
    assert not (tmp_path / "grid.png").exists()


def test_a_prompt_that_is_not_in_the_store_is_named(
    tmp_path, monkeypatch, capfd, files
):
    store = make_store(files, tmp_path / "store", monkeypatch, capfd)
    status, _, err = run(
        *(monkeypatch, capfd, sample, f"--workdirs={files}/base", "--prompt=an elk"),
        *(f"--embeddings={store}", f"--out={tmp_path}/grid.png"),
    )
    assert status == 2
    assert "an elk" in err[-1]
