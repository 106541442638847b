"""The sample command on tiny bundles: prompts in, pictures out, and its bad input."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from imagen_jax import embed, sample
from imagen_jax.bundle import write_cascade
from imagen_jax.prompts import Picture, first_seed
from imagen_jax.sampling.png_text import read_png as read_recipe
from imagen_jax.sampling.png_text import write_png
from tests.cascades import LONG, PROMPTS, write_cascade_files
from tests.commands.command import run

FEW = ("--num=2", "--steps=2", "--batch_size=8")


@pytest.fixture(scope="module")
def files(tmp_path_factory, fill_params):
    """A folder with an encoder, two stages that were trained with it, and prompts."""
    folder = write_cascade_files(tmp_path_factory.mktemp("files"), fill_params)
    write_cascade([str(folder / kind) for kind in ("base", "sr")], folder / "bundle")
    shutil.copytree(folder / "bundle", folder / "damaged")
    weights = folder / "damaged" / "sr16" / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    write_cascade_files(folder / "narrow", fill_params, text={"width": 12})
    (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    (folder / "empty.txt").write_text("\n")
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (folder / "bad.csv").write_text("prompt,seed\na fox,-1\n")
    write_png(folder / "plain.png", np.zeros((8, 8, 3), np.uint8))
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
        out = [f"--out={tmp_path}/{name}.png", f"--samples={tmp_path}/by_{name}"]
        status, said, err = run(
            monkeypatch, capfd, sample, where, what, *FEW, *out, *flags
        )
        assert status == 0, err
        assert "4 pictures" in said
        assert read_png(tmp_path / f"{name}.png").shape[1] > 100
        made[name] = pictures_in(tmp_path / f"by_{name}")
    entries, pictures = made["encoder"]
    assert [e["prompt"] for e in entries if e["stage"] == "base"] == [
        prompt for prompt in PROMPTS for _ in range(2)
    ]
    assert [picture.shape[0] for picture in pictures] == [8] * 4 + [16] * 4
    assert len({picture.tobytes() for picture in pictures}) == 8
    for from_encoder, from_store in zip(pictures, made["store"][1], strict=True):
        difference = np.abs(from_encoder.astype(int) - from_store)
        assert (difference <= 1).mean() > 0.99


def test_a_gallerys_picture_is_repeated_bitwise_by_its_png(
    tmp_path, monkeypatch, capfd, files
):
    where, folder = f"--bundle={files}/bundle", tmp_path / "gallery"
    status, _, err = run(
        *(monkeypatch, capfd, sample, where, f"--prompts={files}/prompts.txt", *FEW),
        *(f"--samples={folder}", f"--out={tmp_path}/grid.png", "--negative=a cat"),
        *("--sampler=dpmpp_2m", "--set=guidance_interval=(-3,5),()", "--seed=4"),
        "--set=guidance_kind=oscillating,own",
    )
    assert status == 0, err
    like, again = folder / "sr16" / "00003.png", tmp_path / "again.png"
    picture, recipe = read_recipe(like)
    assert recipe.prompt == PROMPTS[1]
    assert recipe.seed == first_seed(PROMPTS[1], 4) + 1
    assert recipe.samplers["base"]["guidance_interval"] == [-3.0, 5.0]
    assert recipe.samplers["base"]["guidance"] == "oscillating"
    assert recipe.samplers["sr16"]["guidance"] == "constant"
    status, said, err = run(
        monkeypatch, capfd, sample, where, f"--like={like}", f"--out={again}"
    )
    assert status == 0, err
    assert "bitwise the same" in said
    assert err == []
    repeated, its_recipe = read_recipe(again)
    np.testing.assert_array_equal(repeated, picture)
    assert its_recipe == recipe


def test_two_hosts_share_a_gallery_and_its_sheet_is_repeated_bitwise(
    tmp_path, monkeypatch, capfd, files
):
    where = f"--bundle={files}/bundle"
    sheet, again = tmp_path / "sheet.png", tmp_path / "again.png"
    err = []
    for host, words in enumerate(("other machines have pictures", "10 pictures; grid")):
        status, said, err = run(
            *(monkeypatch, capfd, sample, where, f"--prompts={files}/prompts.txt"),
            *("--num=5", "--steps=2", "--batch_size=8", "--seed=4", f"--out={sheet}"),
            *(f"--samples={tmp_path}/gallery", f"--hosts={host}/2"),
        )
        assert status == 0, err
        assert words in said
    assert len(pictures_in(tmp_path / "gallery")[0]) == 20
    assert re.search(r"\d\.\d+(s/picture|picture/s)", "".join(err))
    with Image.open(sheet) as image:
        assert image.text["prompt"] == "\n".join(PROMPTS)
        seeds = [int(seed) for seed in image.text["seed"].split(",")]
    assert seeds == [first_seed(p, 4) + i for p in PROMPTS for i in range(5)]
    status, said, err = run(
        monkeypatch, capfd, sample, where, f"--like={sheet}", f"--out={again}"
    )
    assert status == 0, err
    assert "bitwise the same" in said
    assert again.read_bytes() == sheet.read_bytes()


def test_a_gallery_goes_on_where_it_stopped(tmp_path, monkeypatch, capfd, files):
    folder = tmp_path / "gallery"
    flags = [f"--bundle={files}/bundle", f"--prompts={files}/prompts.txt", *FEW]
    flags += [f"--samples={folder}", f"--out={tmp_path}/grid.png"]
    assert run(monkeypatch, capfd, sample, *flags)[0] == 0
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    manifest = (folder / "manifest.jsonl").read_bytes()
    kept = folder / "base" / "00000.png"
    for path in (folder / "sr16" / "00002.png", folder / "manifest.jsonl"):
        path.unlink()
    assert run(monkeypatch, capfd, sample, *flags)[0] == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before
    assert (folder / "manifest.jsonl").read_bytes() == manifest
    stamp = kept.stat().st_mtime_ns
    assert run(monkeypatch, capfd, sample, *flags)[0] == 0
    assert kept.stat().st_mtime_ns == stamp  # all there: nothing drawn
    status, _, err = run(monkeypatch, capfd, sample, *flags, "--guidance=2")
    assert status == 2
    assert "pictures of another job, which differs in samplers" in err[-1]
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before


def test_an_empty_and_a_long_prompt_are_drawn_and_said_so(
    tmp_path, monkeypatch, capfd, files
):
    (tmp_path / "prompts.csv").write_text(f"prompt,num\n,1\n{LONG},1\n")
    status, said, err = run(
        *(monkeypatch, capfd, sample, f"--bundle={files}/bundle", *FEW),
        *(f"--prompts={tmp_path}/prompts.csv", f"--out={tmp_path}/grid.png"),
    )
    assert status == 0
    assert "2 pictures" in said
    text = "\n".join(err)
    assert "the prompt '' is empty: its pictures are drawn from the null text" in text
    assert "is longer than the 8 tokens that the stages know: it is cut there" in text


def test_without_a_folder_only_the_grids_pictures_are_drawn():
    pictures = [Picture(f"prompt {i // 5}", "", i) for i in range(50)]
    assert sample.spread(pictures, 50) == list(range(50))
    chosen = sample.spread(pictures, 13)
    assert len(chosen) == 13
    assert {pictures[i].prompt for i in chosen} == {f"prompt {i}" for i in range(10)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdirs={files}/nowhere"], "give the workdir of a training run"),
        (["--workdirs={files}/base,"], "a folder's name is empty among"),
        (["--bundle="], "a folder's name is empty among ''"),
        (["--workdirs={files}/sr,{files}/base"], "needs a low-res picture"),
        (["--workdirs={files}/base,{files}/base"], "takes 0-pixel"),
        (["--bundle={files}/damaged"], "sr16/ema.safetensors has changed"),
        (["--workdirs={files}/narrow/base"], "width 24, not 12"),
        (["--workdirs={files}/base,{files}/narrow/sr"], "text.width 24 and 12"),
        (["--prompts={files}/bad.csv"], "line 2: seed is '-1'"),
        (["--like={files}/plain.png"], "does not say how it was drawn"),
        (["--like={files}/nowhere.png"], "no PNG that can be read"),
        (["--steps=200000"], "take fewer steps"),
        (["--guidance=1e400"], "guidance_weight is inf; it must be a finite number"),
        (["--seed=4294967296"], "the seed in [0, 2^32)"),
        (["--num=1000000000"], "at most 1000000 can be in a run"),
        (["--out={files}"], "is a folder; give the file to write"),
        (["--out={files}/grid.jpg"], "must end in .png"),
        (["--out={files}/empty.txt/grid.png"], "empty.txt is a file; give another"),
        (["--samples={files}/empty.txt"], "empty.txt is a file; give another place"),
        (["--blend=2"], "blend is 2.0"),
        (["--sampler=euler"], "must be one of"),
        (["--set=percentil=3"], "did you mean 'percentile'"),
        (["--set=percentile"], "write --set KEY=VALUE"),
        (["--hosts=0/2"], "give --samples=DIR"),
        (["--sweep", "aug_level"], "give each setting once"),
        (["--sweep", "aug_levle=1", "guidance=2"], "did you mean aug_level?"),
        (["--sweep", "steps=2,3", "--samples={files}/x"], "without --samples"),
        (["--hosts=2/2"], "numbered from 0 to N - 1"),
        (["--hosts=0"], "give I/N, such as 0/4"),
        (["--prompts={files}/empty.txt"], "has no prompt"),
        (["--prompts={files}/latin.txt"], "cannot be read"),
        (["--num=0"], "must be at least 1"),
        (["--steps=2,2,2"], "it must be one, or 2 by commas"),
        (["--embeddings={files}/base"], "embedding store"),
        (["--encoder_weights={files}/base"], "has no weights"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, monkeypatch, capfd, files, flags, message):
    """Exit status 2, the last line says it, no traceback, no picture."""
    arguments = [flag.format(files=files) for flag in flags]
    given = {argument.split("=")[0] for argument in arguments}
    if not given & {"--workdirs", "--bundle"}:
        arguments.append(f"--workdirs={files}/base,{files}/sr")
    if not given & {"--prompts", "--like"}:
        arguments.append("--prompt=a fox")
    if "--out" not in given:
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
