"""Sweeps: what a cell draws, what is compiled, which one is best, what is written."""

import json

import numpy as np
import pytest
from PIL import Image

import imagen_jax
from imagen_jax.data.sources import openmoji
from imagen_jax.errors import UserError
from imagen_jax.evaluation.sweep import (
    Cell,
    best_cell,
    label,
    read_axes,
    sweep,
    write_sweep,
)
from imagen_jax.evaluation.sweep_scores import score_consistency, scorers_for
from tests.cascades import PROMPTS, write_cascade_files


@pytest.fixture(scope="module")
def model(tmp_path_factory, fill_params):
    folder = write_cascade_files(tmp_path_factory.mktemp("files"), fill_params)
    return imagen_jax.load(folder / "base", folder / "sr", say=lambda text: None)


def plan_of(model):
    def plan(**settings):
        return model.plan(PROMPTS[:4], seeds=7, steps=2, batch_size=8, **settings)

    return plan


def cell(**scores):
    return Cell({"guidance": 1}, scores, np.zeros((1, 4, 4, 3), np.uint8))


def test_cells_draw_what_a_call_with_their_settings_draws(model):
    axes = {"aug_level": [0.0, 0.3], "guidance": [2, (4.0, 2.0)]}
    cells = sweep(model, plan_of(model), axes, [score_consistency])
    assert [tuple(c.settings.values()) for c in cells] == [
        (0.0, 2),
        (0.0, (4.0, 2.0)),
        (0.3, 2),
        (0.3, (4.0, 2.0)),
    ]
    drawn = model.draw(plan_of(model)(aug_level=0.3, guidance=[4.0, 2.0]))
    np.testing.assert_array_equal(cells[3].shown, drawn["sr16"])
    assert cells[3].scores == score_consistency(drawn)
    assert len({c.shown.tobytes() for c in cells}) == 4


def test_values_run_one_compiled_program(model):
    axes = {"aug_level": [0.1], "guidance": [3]}
    sweep(model, plan_of(model), axes, [])
    before = model.num_traces
    sweep(model, plan_of(model), {**axes, "percentile": [90.0, 99.0, 99.9]}, [])
    assert model.num_traces == before


def test_nothing_is_drawn_if_a_cell_is_refused(model):
    seen = []
    axes = {"guidance": [2, "much"]}
    with pytest.raises(UserError, match="guidance_weight"):
        sweep(model, plan_of(model), axes, [], seen.append)
    assert seen == []


def test_the_first_figure_decides_and_the_next_break_ties():
    cells = [cell(a=0.5, b=9.0), cell(a=0.6, b=1.0), cell(a=0.6, b=2.0)]
    assert best_cell(cells) == 2
    assert best_cell([cell(), cell()]) is None
    assert best_cell([cell(a=0.5, fid=9.0), cell(a=0.5, fid=8.0)]) == 1
    assert label(cells[2]) == "guidance 1; a 0.6; b 2.0"


def test_drawings_of_the_set_are_scored_and_others_are_not():
    pair = openmoji.pairs("default")[0]
    picture = openmoji.compose_variant(pair, 0, "control", 64)[None]
    scores = {}
    for scorer in scorers_for([pair.caption]):
        scores |= scorer({"base": picture, "sr": picture.repeat(2, 1).repeat(2, 2)})
    assert scores["object_accuracy"] == scores["ground_accuracy"] == 1.0
    assert scores["sr_consistency_db"] > 50.0
    assert scorers_for([pair.caption, "a castle"]) == [score_consistency]


def test_sheet_and_figures_are_written(tmp_path):
    path = tmp_path / "new" / "sweep.png"
    write_sweep(path, [cell(a=0.5), cell(a=0.7)], {"seeds": (1, 2)}, 2)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["seeds"] == [1, 2]
    assert record["cells"][1] == {
        "settings": {"guidance": 1},
        "scores": {"a": 0.7},
        "cpu_seconds": 0.0,
    }
    assert record["best"] == {"guidance": 1}
    assert record["rule"] == "the best a"
    with Image.open(path) as sheet:
        assert sheet.width > 2 * 160


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["aug_level"], "'aug_level'; give each setting once"),
        (["aug_level="], "give each setting once"),
        (["=1"], "give each setting once"),
        (["guidance=1", "guidance=2"], "'guidance=2'; give each setting once"),
        (["guidance=1,2,3,4,5,6,7,8", "steps=1,2,3,4,5,6,7,8,9"], "has 72 cells"),
        (["guidence=1"], "unknown axis 'guidence'; did you mean guidance"),
        (["seeds=1"], "unknown axis 'seeds'"),
    ],
)
def test_axes_that_make_no_grid_are_refused(texts, message):
    with pytest.raises(UserError, match=message):
        read_axes(texts)


def test_axes_may_hold_a_value_per_stage():
    assert read_axes(["guidance=(3,1),(5,1)", "steps=4"]) == {
        "guidance": [(3, 1), (5, 1)],
        "steps": [4],
    }
