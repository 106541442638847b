"""A cascade's diagnosis: planted faults are named; the command as a user meets it."""

import json

import numpy as np
import pytest

from imagen_jax.data.images import box_downsample
from imagen_jax.data.sources import openmoji
from imagen_jax.evaluate import command
from imagen_jax.evaluation.diagnosis import (
    GENERATED,
    OBJECT,
    SPECTRUM,
    TRUE,
    DiagnosedStage,
    diagnose,
)
from imagen_jax.evaluation.diagnosis_table import (
    describe_swap,
    diagnosis_record,
    format_diagnosis,
)
from imagen_jax.evaluation.diagnosis_verdict import difference, losses, verdict
from imagen_jax.evaluation.spectrum import spectrum_distances, true_distances
from imagen_jax.evaluation.stage_drawer import stage_drawer
from imagen_jax.evaluation.super_resolution import upsample_bicubic
from imagen_jax.loading import load
from tests.cascades import PROMPTS, write_cascade_files
from tests.commands.command import run

NUM, SIZE = 6, 128
PAIRS = openmoji.pairs("default")[:NUM]
CAPTIONS = [pair.caption for pair in PAIRS]


def drawings(variant: int, size: int):
    """Returns a real drawing of each caption."""
    return np.stack(
        [openmoji.compose_variant(pair, variant, "control", size) for pair in PAIRS]
    )


def noise(size: int):
    return np.random.default_rng(size).integers(0, 256, (NUM, size, size, 3), np.uint8)


def good_base(low_res):
    """Draws what the captions say, though not the held-out pictures."""
    return drawings(1, 64)


def noise_base(low_res):
    return noise(64)


def good_sr(low_res):
    return upsample_bicubic(low_res, SIZE)


def random_sr(low_res):
    """What a stage with random weights makes: nothing of its input."""
    return noise(SIZE)


def stages(base, sr, /, **swapped):
    return [
        DiagnosedStage("base", 64, base, swapped.get("base")),
        DiagnosedStage("sr", SIZE, sr, swapped.get("sr")),
    ]


def other_captions():
    """The same pictures under captions that no template knows."""
    return [f"picture {i}" for i in range(NUM)]


@pytest.mark.parametrize("captions", [CAPTIONS, other_captions()])
@pytest.mark.parametrize(
    ("base", "sr", "culprit"),
    [(noise_base, good_sr, "base"), (good_base, random_sr, "sr")],
)
def test_a_planted_fault_is_named(captions, base, sr, culprit):
    """By object accuracy where captions are known, by the spectrum elsewhere."""
    rows = diagnose(stages(base, sr), drawings(0, SIZE), captions)
    assert verdict(rows).startswith(f"{culprit} loses most: ")
    figure = OBJECT if captions is CAPTIONS else SPECTRUM
    assert {loss["figure"] for loss in losses(rows)} == {figure}
    by_name = {loss["stage"]: loss for loss in losses(rows)}
    if figure == OBJECT:
        healthy = {"base": "sr", "sr": "base"}[culprit]
        assert by_name[culprit]["own"]["mean"] > 80
        assert by_name[healthy]["own"]["mean"] < 20
        # What a base of noise spoils shows in the next stage as inherited.
        assert (by_name["sr"]["inherited"]["mean"] > 50) == (culprit == "base")


def test_a_healthy_cascade_has_no_culprit():
    rows = diagnose(stages(good_base, good_sr), drawings(0, SIZE), CAPTIONS)
    assert verdict(rows).startswith("No stage loses more than its interval")


def test_two_equally_bad_stages_are_not_told_apart():
    rows = diagnose(stages(noise_base, random_sr), drawings(0, SIZE), CAPTIONS)
    assert "is not decided" in verdict(rows)


def test_figures_of_a_stage_that_copies():
    """Fed with true low-res it is bicubic, so it gains 0; consistency is its own."""
    rows = diagnose(stages(good_base, good_sr), drawings(0, SIZE), CAPTIONS)
    paths = {(row.stage, row.feed): row.values for row in rows}
    np.testing.assert_allclose(paths["sr", TRUE]["gain_db"], 0, atol=1e-9)
    assert paths["sr", TRUE]["consistency_db"].min() > 25
    assert paths["sr", TRUE]["colour_levels"].max() < 1
    assert "psnr_db" not in paths["sr", GENERATED]  # there is no truth to be near to
    assert "consistency_db" not in paths["base", "text"]


@pytest.mark.parametrize(("name", "healthy"), [("base", good_base), ("sr", good_sr)])
def test_a_swapped_checkpoint_mends_its_stage(name, healthy):
    broken = {"base": (noise_base, good_sr), "sr": (good_base, random_sr)}[name]
    rows = diagnose(stages(*broken, **{name: healthy}), drawings(0, SIZE), CAPTIONS)
    assert f"With the swapped checkpoint {name} loses" in describe_swap(rows)
    assert describe_swap(rows).endswith("less.")
    feeds = [row.feed for row in rows if row.stage == "sr"]
    assert ("low-res of the swapped base" in feeds) == (name == "base")


def test_table_and_json_hold_every_row():
    rows = diagnose(stages(good_base, random_sr), drawings(0, SIZE), CAPTIONS)
    record = diagnosis_record(rows, {"num": NUM})
    text = format_diagnosis(json.loads(json.dumps(record)), ["few."])
    assert text.count("\n| base |") == 2 + 1
    assert text.count("\n| sr |") == 3 + 1
    assert record["verdict"] in text
    assert "Warning: few." in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| sr")}
    assert widths == {len(record["figures"]) + 4, 4}


def test_few_pictures_that_agree_are_not_certain():
    """6 of 6 against 0 of 6: Wilson's ends, joined by Newcombe's method."""
    rows = diagnose(stages(good_base, random_sr), drawings(0, SIZE), CAPTIONS)
    own = losses(rows)[1]["own"]
    width = 1.959964**2 / (NUM + 1.959964**2)  # Wilson's, of a share of 0 or 1
    expected = 100 * (1 - np.hypot(width, width))
    assert own == {"mean": 100, "low": pytest.approx(expected, abs=1e-3), "high": 100}
    one = {"mean": 5.0, "low": 2.0, "high": 6.0}
    other = {"mean": 1.0, "low": -11.0, "high": 5.0}
    expected = {"mean": 4.0, "low": -1.0, "high": 4 + np.hypot(1, 12)}
    assert difference(one, other) == pytest.approx(expected, abs=1e-4)


def test_spectrum_knows_noise_and_blur():
    """True pictures are nearest; noise and a blurred picture are both far."""
    truth = drawings(0, 64)
    own = true_distances(truth).mean()
    blurred = upsample_bicubic(np.stack([box_downsample(p, 8) for p in truth]), 64)
    assert spectrum_distances(drawings(1, 64), truth).mean() < 1.5 * own + 1
    assert spectrum_distances(noise(64), truth).mean() > 2 * own
    assert spectrum_distances(blurred, truth).mean() > 2 * own
    flat = np.full_like(truth, 128)
    assert np.isfinite(spectrum_distances(flat, truth)).all()


@pytest.fixture(scope="module")
def cascade(tmp_path_factory, fill_params):
    return write_cascade_files(tmp_path_factory.mktemp("cascade"), fill_params)


def flags(cascade, **changes):
    chosen = {
        "workdirs": f"{cascade}/base,{cascade}/sr",
        "source": "synthetic:40:16",
        "num": 3,
        "batch_size": 8,
        **changes,
    }
    return [f"--{name}={value}" for name, value in chosen.items()]


@pytest.mark.slow
def test_a_stage_alone_draws_what_it_draws_in_the_cascade(cascade):
    """But for the rounding of its low-res pictures to bytes."""
    model = load(cascade / "base", cascade / "sr")
    plan = model.plan(PROMPTS, seeds=[3, 4], batch_size=8)
    base, above = model.draw(plan).values()
    np.testing.assert_array_equal(stage_drawer(model, plan, 0)(None), base)
    alone = stage_drawer(model, plan, 1)(base)
    assert np.abs(alone.astype(int) - above).mean() < 1.0
    other = stage_drawer(model, plan, 1)(np.zeros_like(base))
    assert np.abs(other.astype(int) - above).mean() > 5.0


@pytest.mark.slow
def test_command_writes_table_json_and_sheet(cascade, tmp_path, monkeypatch, capfd):
    status, said, err = run(
        *(monkeypatch, capfd, command, "diagnose", f"--out={tmp_path}"),
        *flags(cascade, swap=cascade / "sr"),
    )
    assert status == 0, err
    record = json.loads((tmp_path / "diagnosis.json").read_text())
    paths = {
        (row["stage"], row["checkpoint"], row["feed"]): row["figures"]
        for row in record["rows"]
    }
    assert len(paths) == 2 + 5
    for feed in (TRUE, GENERATED):  # the same checkpoint: the same pictures
        assert paths["sr16", "own", feed] == paths["sr16", "swapped", feed]
    assert paths["sr16", "own", TRUE] != paths["sr16", "own", GENERATED]
    assert record["verdict"] in said
    assert any("3 pictures are few" in line for line in record["manifest"]["warnings"])
    assert (tmp_path / "diagnosis.md").read_text() in said
    assert (tmp_path / "diagnosis.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num": 1}, "at least 2 pictures"),
        ({"source": "synthetic:1:16"}, "has 1 pictures; give one with at least 2"),
        ({"source": "nowhere"}, "nowhere"),
        ({"workdirs": "/nowhere"}, "/nowhere"),
        ({"workdirs": "{cascade}/sr"}, "needs a low-res picture"),
        ({"swap": "/nowhere"}, "/nowhere"),
    ],
)
def test_bad_input_is_one_sentence(
    cascade, tmp_path, monkeypatch, capfd, changes, message
):
    changes = {k: str(v).format(cascade=cascade) for k, v in changes.items()}
    status, _, err = run(
        *(monkeypatch, capfd, command, "diagnose", f"--out={tmp_path}/out"),
        *flags(cascade, **changes),
    )
    assert status == 2
    assert err[-1].startswith("error: ")
    assert message in err[-1]
    assert not any("Traceback" in line for line in err)
    assert not (tmp_path / "out").exists()
