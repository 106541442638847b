import numpy as np
import pytest

from imagen_jax.metrics.inception_score import inception_score


def log_probs(probs):
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probs, np.float32))


def test_sure_and_varied_answers_score_the_number_of_classes():
    found = inception_score(log_probs(np.tile(np.eye(4), (10, 1))), 5)
    np.testing.assert_allclose(found.value, 4, rtol=1e-6)
    assert found[1:] == (pytest.approx(0, abs=1e-6), 5)


def test_equal_answers_score_one():
    for row in ([0.25] * 4, [1, 0, 0, 0]):
        found = inception_score(log_probs(np.tile(row, (20, 1))))
        np.testing.assert_allclose(found.value, 1, rtol=1e-6)


def test_two_answers_by_hand():
    """KL of (0.9, 0.1) from (0.5, 0.5)."""
    probs = np.tile([[0.9, 0.1], [0.1, 0.9]], (3, 1))
    expected = np.exp(0.9 * np.log(1.8) + 0.1 * np.log(0.2))
    np.testing.assert_allclose(
        inception_score(log_probs(probs), 3).value, expected, rtol=1e-6
    )


def test_parts_are_scored_apart():
    probs = np.concatenate([np.eye(4), np.tile([1, 0, 0, 0], (4, 1))])
    found = inception_score(log_probs(probs), 2)
    np.testing.assert_allclose([found.value, found.std], [2.5, 1.5], rtol=1e-6)


def test_refuses_more_parts_than_rows():
    with pytest.raises(ValueError, match="3 rows make no 10 parts"):
        inception_score(log_probs(np.full((3, 2), 0.5)))
