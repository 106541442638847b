import gc
import weakref

import jax
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.sampling.cascade import (
    CascadeStage,
    Part,
    Texts,
    check_cascade,
    sample_cascade,
)
from imagen_jax.sampling.sampler import Sampler
from tests.tiny import ONE_LEVEL, tiny_stage, tiny_text


@pytest.fixture(scope="module")
def stages(fill_params):
    result = []
    for kind in ("base", "sr"):
        stage = tiny_stage(kind, network=ONE_LEVEL[kind])
        params = fill_params(jax.eval_shape(stage.init_params, jax.random.key(0)), 1)
        result.append(CascadeStage(Sampler(stage), params))
    return result


def texts(b, **others):
    return Texts(jax.tree.map(np.asarray, tiny_text(b)), **others)


def seeds(b):
    return np.arange(b, dtype=np.uint32)


def test_every_stage_gives_bytes_of_its_size(stages):
    small, large = sample_cascade(stages, texts(5), seeds(5), batch_size=4)
    assert small.shape == (5, 8, 8, 3)
    assert large.shape == (5, 16, 16, 3)
    assert small.dtype == large.dtype == np.uint8


def test_a_part_batch_is_padded_and_cropped(stages):
    parts = sample_cascade(stages, texts(5), seeds(5), batch_size=2)
    whole = sample_cascade(stages, texts(5), seeds(5), batch_size=5)
    for a, b in zip(parts, whole, strict=True):
        assert np.mean(np.abs(a.astype(int) - b) <= 1) >= 0.999
    assert stages[0].sampler.num_traces <= 3  # one per batch size, not per part


def test_the_second_stage_sees_the_first(stages):
    made = sample_cascade(stages, texts(2), seeds(2), batch_size=2)
    base = stages[0]
    weaker = jax.tree.map(lambda p: p * 0.5, base.params)
    changed = sample_cascade(
        [base._replace(params=weaker), stages[1]], texts(2), seeds(2), batch_size=2
    )
    assert (made[1] != changed[1]).mean() > 0.5


def test_parts_are_reported_as_they_come_and_make_up_the_whole(stages):
    reported: list[Part] = []
    made = sample_cascade(
        stages, texts(5), seeds(5), batch_size=4, report=reported.append
    )
    assert [(part.stage, part.start) for part in reported] == [
        ("base", 0),
        ("base", 4),
        ("sr16", 0),
        ("sr16", 4),
    ]
    for stage, pictures in zip(("base", "sr16"), made, strict=True):
        parts = [part.pictures for part in reported if part.stage == stage]
        np.testing.assert_array_equal(np.concatenate(parts), pictures)


def test_a_stages_parameters_are_read_at_its_turn_and_let_go(stages):
    """Red where a stage's parameters stay: the next one's are read beside them."""
    log, held = [], []

    def reader(stage):
        def read():
            gc.collect()
            log.append([reference() is not None for reference in held])
            params = jax.tree.map(lambda leaf: leaf + 0.0, stage.params)
            held.append(weakref.ref(params["stem"]["kernel"]))
            return params

        return read

    lazy = [stage._replace(params=reader(stage)) for stage in stages]
    made = sample_cascade(lazy, texts(2), seeds(2), batch_size=2)
    assert log == [[], [False]]
    held_all = sample_cascade(stages, texts(2), seeds(2), batch_size=2)
    np.testing.assert_array_equal(made[1], held_all[1])


def test_negative_and_second_prompts_lead_elsewhere(stages):
    def base_of(given):
        return sample_cascade(stages[:1], given, seeds(2), batch_size=2)[0].astype(int)

    plain = base_of(texts(2))
    others = jax.tree.map(np.asarray, tiny_text(2, seed=9))
    assert np.abs(base_of(texts(2, negatives=others)) - plain).max() > 2
    half = base_of(texts(2, seconds=others))
    assert np.abs(half - plain).max() > 2
    none_of_it = base_of(texts(2, seconds=others, blend=0.0))
    assert np.mean(np.abs(none_of_it - plain) <= 1) >= 0.999
    all_of_it = base_of(texts(2, seconds=others, blend=1.0))
    assert np.mean(np.abs(all_of_it - base_of(Texts(others))) <= 1) >= 0.999


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


def test_two_stages_of_different_text_are_refused_though_one_between_says_nothing():
    text = {"weights_sha256": "1" * 64}
    first, middle = tiny_stage(text=text), tiny_stage("sr")
    last = tiny_stage(
        "sr",
        name="sr32",
        resolution=32,
        low_res_resolution=16,
        text={"weights_sha256": "2" * 64},
    )
    with pytest.raises(UserError, match="base and sr32 were trained"):
        check_cascade([first, middle, last])


def test_two_stages_of_one_name_are_refused():
    with pytest.raises(UserError, match="two stages are called 'base'"):
        check_cascade([tiny_stage(), tiny_stage("sr", name="base")])
