"""Which checkpoints stay and which one is read."""

import hypothesis
import hypothesis.strategies as st
import pytest

from imagen_jax.errors import UserError
from imagen_jax.retention import best_step, choose_step, kept_steps

LOSSES = {5: 0.4, 10: 0.2, 15: None, 20: 0.3, 25: 0.3}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((1,), {25}),
        ((2,), {20, 25}),
        ((9,), {5, 10, 15, 20, 25}),
        ((1, 10), {10, 20, 25}),
        ((1, 15), {15, 25}),
        ((1, 0, True), {10, 25}),
        ((1, 20, True), {10, 20, 25}),
    ],
)
def test_kept_steps(settings, expected):
    assert kept_steps(LOSSES, *settings) == expected


@hypothesis.given(
    st.dictionaries(st.integers(1, 60), st.none() | st.floats(0, 1), min_size=1),
    st.integers(1, 5),
    st.integers(0, 9),
    st.booleans(),
)
def test_newest_and_best_always_stay_and_nothing_without_a_reason(
    losses, newest, every, best
):
    kept = kept_steps(losses, newest, every, best)
    reasons = set(sorted(losses)[-newest:])
    reasons |= {step for step in losses if every and step % every == 0}
    known = [loss for loss in losses.values() if loss is not None]
    if best and known:
        reasons |= {max(s for s, loss in losses.items() if loss == min(known))}
    assert kept == reasons


def test_the_best_of_equal_ones_is_the_newest():
    assert best_step({1: 0.5, 2: 0.5, 3: None, 4: 0.6}) == 2
    assert best_step({3: None}) is None
    assert best_step({}) is None


def test_choose_step():
    assert choose_step(LOSSES, None, "runs/a") == 25
    assert choose_step(LOSSES, "best", "runs/a") == 10
    assert choose_step(LOSSES, 15, "runs/a") == 15


@pytest.mark.parametrize(
    ("losses", "choice", "message"),
    [
        ({}, None, "runs/a has no complete checkpoint; train it first"),
        ({5: None}, "best", "no checkpoint of runs/a has a held-out loss"),
        (LOSSES, 7, "no checkpoint of step 7; it has those of 5, 10, 15, 20, 25"),
    ],
)
def test_a_choice_that_is_not_there_is_one_sentence(losses, choice, message):
    with pytest.raises(UserError, match=message):
        choose_step(losses, choice, "runs/a")
