"""A cascade's bundle: a reader of 20 lines reads it, and damage is found."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from imagen_jax import bundle
from imagen_jax.bundle import load_stage, write_cascade
from imagen_jax.bundle_folder import find_stages
from imagen_jax.errors import UserError
from tests.cascades import write_cascade_files
from tests.commands.command import run

DEMO = Path(__file__).parent.parent / "docs" / "demo"


def read_bundle(folder):
    """Returns {stage: (config, {name: float32})}, with nothing but numpy and json."""
    stages = {}
    for name in json.loads((folder / "bundle.json").read_text())["stages"]:
        config = json.loads((folder / name / "config.json").read_text())
        raw = np.fromfile(folder / name / "ema.safetensors", np.uint8)
        start = 8 + int(raw[:8].view("<u8")[0])
        header = json.loads(raw[8:start].tobytes())
        header.pop("__metadata__", None)
        tensors = {}
        for key, entry in header.items():
            assert entry["dtype"] == "BF16"
            begin, end = (start + offset for offset in entry["data_offsets"])
            halves = raw[begin:end].copy().view("<u2").astype("<u4")
            tensors[key] = (halves << 16).view("<f4").reshape(entry["shape"])
        stages[name] = config, tensors
    return stages


@pytest.fixture(scope="module")
def files(tmp_path_factory, fill_params):
    """A folder with base/, sr/ and encoder/."""
    return write_cascade_files(tmp_path_factory.mktemp("files"), fill_params)


@pytest.fixture
def made(files, tmp_path):
    """A bundle of the two stages."""
    stages = [str(files / kind) for kind in ("base", "sr")]
    write_cascade(stages, tmp_path / "made", about="Licence: CC BY-SA 4.0")
    return tmp_path / "made"


def test_a_reader_of_twenty_lines_reads_all(files, made):
    stages = read_bundle(made)
    assert list(stages) == ["base", "sr16"]
    for kind, (config, tensors) in zip(("base", "sr"), stages.values(), strict=True):
        assert config == json.loads((files / kind / "config.json").read_text())
        _, params = load_stage(files / kind)
        wanted = {
            jax.tree_util.keystr(keys, simple=True, separator="/"): leaf
            for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
        }
        assert tensors.keys() == wanted.keys()
        for name, leaf in wanted.items():
            np.testing.assert_array_equal(tensors[name], leaf)


def test_the_bundle_holds_stages_card_tokenizer_and_hashes(files, made):
    names = {path.relative_to(made).as_posix() for path in made.rglob("*.*")}
    assert names == {
        "bundle.json",
        "README.md",
        "tokenizer/tokenizer.json",
        *(f"{stage}/config.json" for stage in ("base", "sr16")),
        *(f"{stage}/ema.safetensors" for stage in ("base", "sr16")),
    }
    vocabulary = (files / "encoder" / "tokenizer.json").read_bytes()
    assert (made / "tokenizer" / "tokenizer.json").read_bytes() == vocabulary
    hashes = json.loads((made / "bundle.json").read_text())["sha256"]
    assert hashes.keys() == names - {"bundle.json"}
    found = find_stages([made])
    assert [folder.name for folder in found.folders] == ["base", "sr16"]
    assert found.tokenizer == str(made / "tokenizer")


def test_the_card_says_what_was_trained_on_what(made):
    card = (made / "README.md").read_text()
    for text in (
        "Licence: CC BY-SA 4.0",
        "### base",
        "### sr16",
        "text to 8 x 8 pixels",
        "text and 8 x 8 pixels to 16",
        "12 steps of 8 pictures",
        "tiny_bert, frozen: width 24, at most 8 tokens",
        "its vocabulary is (`tokenizer.json sha256:",
        "uint8 [2 16 16 3]",
    ):
        assert text in card


def test_the_demo_loads_without_a_list():
    found = find_stages([DEMO])
    assert [config.name for config in found.configs] == ["base", "sr256"]
    assert found.tokenizer == ""


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("sr16/ema.safetensors", b"x", "damaged: sr16/ema.safetensors has changed"),
        ("base/config.json", b" ", "damaged: base/config.json has changed"),
        ("tokenizer/tokenizer.json", None, "tokenizer/tokenizer.json is missing"),
        ("sr16/config.json", None, "sr16/config.json is missing"),
        ("bundle.json", b"{", "not the list of a bundle's files"),
    ],
)
def test_damage_is_found(made, name, damage, message):
    path = made / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + damage)
    with pytest.raises(UserError, match=message):
        find_stages([made])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"stages": []}, "not the list"),
        ({"stages": ["../base"]}, "not the list"),
        ({"stages": ["/etc"]}, "not the list"),
        ({"stages": ["other"]}, "other/config.json is not listed"),
        ({"sha256": {"a": 1}}, "not the list"),
        ({"sha256": []}, "not the list"),
    ],
)
def test_a_malformed_list_is_refused(made, change, message):
    manifest = json.loads((made / "bundle.json").read_text())
    (made / "bundle.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(UserError, match=message):
        find_stages([made])


def test_the_card_may_be_written_anew(made):
    (made / "README.md").write_text("# My model\n")
    assert len(find_stages([made]).folders) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdirs={files}/sr,{files}/base"], "stage base takes 0-pixel"),
        (["--workdirs={files}/base,{files}/base"], "takes 0-pixel"),
        (["--workdirs={files}/base,{files}/nowhere"], "cannot be read"),
        (["--tokenizer={files}/nowhere"], "there is no such file or folder"),
        (["--tokenizer={files}/base"], "holds no vocabulary"),
        (["--about={files}/nowhere.md"], "--about="),
    ],
)
def test_bad_input_is_one_sentence(files, tmp_path, monkeypatch, capfd, flags, message):
    flags = [flag.format(files=files) for flag in flags]
    if not flags[0].startswith("--workdirs"):
        flags.append(f"--workdirs={files}/base,{files}/sr")
    out = tmp_path / "out"
    status, _, err = run(monkeypatch, capfd, bundle, *flags, f"--out={out}")
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not list(tmp_path.iterdir())  # nothing half-written either


def test_another_vocabulary_than_the_recorded_one_is_refused(
    files, tmp_path, fill_params
):
    text = {"tokenizer": "tokenizer.json sha256:0"}
    other = write_cascade_files(tmp_path / "other", fill_params)
    for kind in ("base", "sr"):
        path = other / kind / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "text": {**config["text"], **text}}))
    with pytest.raises(UserError, match="and the stages know tokenizer"):
        write_cascade([str(other / "base")], tmp_path / "out")
    assert not (tmp_path / "out").exists()
