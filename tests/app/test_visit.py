"""What the page's controls ask for, and what it shows and keeps."""

from pathlib import Path

import numpy as np
import pytest

from imagen_jax.app.events import View
from imagen_jax.app.requests import Limits, read_request
from imagen_jax.app.studio import Drawn
from imagen_jax.app.visit import (
    HISTORY,
    Session,
    between_fields,
    caption,
    common_fields,
    edit_fields,
    forget,
    remember,
    show_status,
)
from imagen_jax.sampling.plan import MAX_SEED
from imagen_jax.sampling.recipe import Recipe

ASKED = {
    "prompt": "a fox",
    "negative": "",
    "seed": MAX_SEED,
    "num": 2,
    "guidance": 4.5,
    "steps": 0,
}
LIMITS = Limits(num_stages=3, steps=(10,))
SIZES = [8, 16, 32]
PICTURE = np.full((4, 6, 4), 200, np.uint8)


def test_controls_make_a_request():
    request = read_request(common_fields(ASKED, 3), LIMITS)
    assert request.seeds == (MAX_SEED, 0)  # counted round
    assert request.options == {"guidance": [4.5, None, None]}
    emptied = {**ASKED, "seed": None, "steps": 10}
    request = read_request(common_fields(emptied, 3), LIMITS)
    assert request.seeds == (0, 1)
    assert request.options["steps"] == 10


def test_paint_in_any_layer_is_the_mask():
    common = common_fields(ASKED, 3)
    layers = [np.zeros((4, 6, 4), np.uint8) for _ in range(2)]
    drawing = {"background": PICTURE, "layers": layers, "composite": PICTURE}
    assert edit_fields(common, drawing, 0.5)["mask"] is None
    layers[0][1, 2, 3] = 1
    layers[1][3, 5, 3] = 255
    editing = read_request(edit_fields(common, drawing, 0.5), LIMITS).editing
    assert editing is not None
    assert editing.mask is not None
    assert np.argwhere(editing.mask).tolist() == [[1, 2], [3, 5]]
    np.testing.assert_array_equal(editing.picture, PICTURE[..., :3])
    assert editing.strength == 0.5


@pytest.mark.parametrize(
    "drawing", [None, {"background": None, "layers": [], "composite": None}]
)
def test_an_empty_editor_has_no_picture(drawing):
    assert edit_fields(common_fields(ASKED, 3), drawing, 0.5)["picture"] is None


def test_between_seeds_mixes_the_first_with_the_other():
    common = common_fields({**ASKED, "seed": 4}, 3)
    editing = read_request(between_fields(common, 9), LIMITS).editing
    assert editing is not None
    assert editing.mix is not None
    assert between_fields(common, 9)["seeds"] == [4, 4]
    assert editing.mix[0].tolist() == [9, 9]
    alone = common_fields({**ASKED, "num": 1}, 3)
    assert between_fields(alone, None)["seeds"] == [MAX_SEED] * 2


def marks(html):
    return [part.partition('"')[0] for part in html.split('<li class="')[1:]]


def test_the_status_marks_each_stage_and_escapes_its_text():
    assert marks(show_status(SIZES, View("x"))) == ["todo"] * 3
    assert marks(show_status(SIZES, View("x", 1))) == ["done", "now", "todo"]
    drawn = Drawn(Path(), [], [], [], 1.0)
    assert marks(show_status(SIZES, View("x", None, drawn=drawn))) == ["done"] * 3
    shown = show_status(SIZES, View("the prompt '<b>' is empty", is_refused=True))
    assert "The prompt &#x27;&lt;b&gt;&#x27; is empty" in shown
    assert 'role="alert"' in shown


def draw_one(folder, seed):
    """What a studio gives for one picture of one stage."""
    folder.mkdir()
    file = folder / f"a-fox_{seed}_0_8px.png"
    file.write_bytes(b"")
    recipe = Recipe("", "", "", 0.5, seed, "base", {}, {}, {}, 1, 0, "", {})
    return Drawn(folder, [[file]], [recipe], [], 1.0)


def test_a_visit_remembers_its_pictures_and_forgets_their_files(tmp_path):
    session = Session()
    for seed in range(HISTORY + 5):
        drawn = draw_one(tmp_path / str(seed), seed)
        session = remember(session, drawn, "a fox")
    assert len(session.pictures) == HISTORY
    assert session.pictures[0][1] == f"a fox · seed {HISTORY + 4}"
    forget(session)
    assert not list(tmp_path.iterdir())


def test_a_caption_tells_seed_and_size():
    assert caption(Path("/x/a-red_fox_12_3_256px.png")) == "seed 12 · 256 px"
