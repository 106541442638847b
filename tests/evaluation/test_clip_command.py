"""`python -m imagen_jax.evaluate clip`: its figures, what it notes, bad input."""

import json

import numpy as np
import pytest
from PIL import Image

from imagen_jax.evaluate import command
from imagen_jax.evaluation.sweep_scores import score_clip
from imagen_jax.features.clip import open_clip
from tests.commands.command import run as run_command
from tests.features.tiny_clip import TEXTS, write_clip

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder)
    return folder


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    lines = ["file,caption"]
    for number, (picture, text) in enumerate(zip(PICTURES, TEXTS, strict=True)):
        Image.fromarray(picture).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{text}")
    (folder / "captions.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def run(monkeypatch, capfd):
    return lambda *flags: run_command(monkeypatch, capfd, command, "clip", *flags)


def test_the_three_scales_with_all_they_depend_on(run, weights, pictures, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "clip.json"
    flags = [f"--pictures={pictures}", f"--weights={weights}", f"--out={out}"]
    status, said, _ = run(*flags, "--prefix=the ")
    assert status == 0
    report = json.loads(out.read_text())
    model = transformers.CLIPModel.from_pretrained(weights)
    clip = open_clip(str(weights))
    pixels = np.stack([clip.prepare(picture) for picture in PICTURES])
    # "the", then 1, 3 or 5 words
    rows = [[2, 5, *range(4, 4 + k), 3] for k in (1, 3, 5)]
    ids = torch.tensor([row + [0] * (8 - len(row)) for row in rows])
    with torch.no_grad():
        found = model(
            input_ids=ids, pixel_values=torch.tensor(pixels.transpose(0, 3, 1, 2))
        )
    cosines = (found.image_embeds * found.text_embeds).sum(-1).numpy()
    assert [each["cosine"] for each in report["pictures"]] == pytest.approx(
        list(cosines), abs=2e-5
    )
    scores = {name: score["mean"] for name, score in report["scores"].items()}
    assert scores == pytest.approx(
        {
            "cosine": cosines.mean(),
            "times_100": 100 * cosines.mean(),
            "clipscore": 2.5 * np.maximum(cosines, 0).mean(),
        },
        abs=2e-3,
    )
    low, high = (report["scores"]["cosine"][end] for end in ("low", "high"))
    assert low < scores["cosine"] < high
    assert (report["prefix"], report["count"]) == ("the ", 3)
    assert report["clip"] == json.loads(json.dumps(clip.identity))
    assert "prefix 'the '" in said
    assert f"mean cosine: {scores['cosine']:.4f} (" in said


def test_texts_that_are_cut_and_a_single_picture_are_warned_of(
    run, weights, pictures, tmp_path
):
    long = "the fox " * 20
    (pictures / "captions.csv").write_text(f"file,caption\n0.png,{long}\n")
    _, said, _ = run(f"--pictures={pictures}", f"--weights={weights}")
    assert "warning: 1 distinct texts are longer than the model reads" in said
    assert "warning: one picture has no interval" in said


def test_a_sweep_scores_by_clip(weights):
    clip = open_clip(str(weights))
    score = score_clip(clip, TEXTS)
    drawn = {"base": PICTURES[::-1], "sr": PICTURES}
    vectors = clip.embed_texts(TEXTS)
    prepared = np.zeros((clip.multiple, 32, 32, 3), np.float32)
    prepared[:3] = [clip.prepare(picture) for picture in PICTURES]
    cosines = (clip.embed_pictures(prepared)[:3] * vectors).sum(1)
    assert score(drawn) == {"clip_score": pytest.approx(100 * cosines.mean(), abs=1e-3)}


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        ("file,caption\n0.png,\n", [], "1 pictures have no text"),
        ("file,caption\n", [], "lists no picture; sample some first"),
        ("file,text\n0.png,a\n", [], "must have file and caption"),
        (None, ["--batch_size=0"], "--batch_size is 0"),
        (None, ["--stage=sr"], "no pictures of stage 'sr'"),
        (None, ["--out=/proc/nothing/x.json"], "cannot write"),
        (None, ["--weights=/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_is_one_sentence(run, weights, pictures, change, flags, words):
    if change is not None:
        (pictures / "captions.csv").write_text(change)
    status, _, errors = run(f"--pictures={pictures}", f"--weights={weights}", *flags)
    assert status == 2
    assert words in errors[-1]
    assert not any("Traceback" in line for line in errors)
