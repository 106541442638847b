import json

import jax
import numpy as np
import pytest
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.sampling.cascade import CascadeStage, check_cascade, sample_cascade
from imagen_jax.sampling.gallery import write_gallery
from imagen_jax.sampling.sampler import Sampler
from tests.tiny import tiny_stage, tiny_text


@pytest.fixture(scope="module")
def stages(fill_params):
    result = []
    for kind in ("base", "sr"):
        stage = tiny_stage(kind)
        params = fill_params(jax.eval_shape(stage.init_params, jax.random.key(0)), 1)
        result.append(CascadeStage(Sampler(stage), params))
    return result


def test_every_stage_gives_bytes_of_its_size(stages):
    text = jax.tree.map(np.asarray, tiny_text(5))
    small, large = sample_cascade(stages, text, np.arange(5), batch_size=4)
    assert small.shape == (5, 8, 8, 3)
    assert large.shape == (5, 16, 16, 3)
    assert small.dtype == large.dtype == np.uint8


def test_a_part_batch_is_padded_and_cropped(stages):
    text = jax.tree.map(np.asarray, tiny_text(5))
    parts = sample_cascade(stages, text, np.arange(5), batch_size=2)
    whole = sample_cascade(stages, text, np.arange(5), batch_size=5)
    for a, b in zip(parts, whole, strict=True):
        assert np.mean(np.abs(a.astype(int) - b) <= 1) >= 0.999
    assert stages[0].sampler.num_traces <= 3  # one per batch size, not per part


def test_the_second_stage_sees_the_first(stages):
    text = jax.tree.map(np.asarray, tiny_text(2))
    made = sample_cascade(stages, text, np.arange(2), batch_size=2)
    base = stages[0]
    weaker = jax.tree.map(lambda p: p * 0.5, base.params)
    changed = sample_cascade(
        [base._replace(params=weaker), stages[1]], text, np.arange(2), batch_size=2
    )
    assert (made[1] != changed[1]).mean() > 0.5


@pytest.mark.parametrize(
    ("order", "message"),
    [(("sr", "base"), "needs a low-res picture"), (("base", "base"), "takes 0-pixel")],
)
def test_stages_in_the_wrong_order_are_refused(order, message):
    with pytest.raises(UserError, match=message):
        check_cascade([tiny_stage(kind) for kind in order])


def test_stages_of_different_text_are_refused():
    other = tiny_stage("sr", text={"width": 16})
    with pytest.raises(UserError, match="different embeddings"):
        check_cascade([tiny_stage(), other])


def test_gallery_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    pictures = {"base": rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)}
    write_gallery(tmp_path, pictures, ["a fox", "a frog"], [3, 4], True)
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["prompt"] for entry in entries] == ["a fox", "a frog"]
    assert [entry["seed"] for entry in entries] == [3, 4]
    for entry, picture in zip(entries, pictures["base"], strict=True):
        stored = np.asarray(Image.open(tmp_path / entry["file"]))
        np.testing.assert_array_equal(stored, picture)
