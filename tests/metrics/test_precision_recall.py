import numpy as np
import pytest

from imagen_jax.metrics import precision_recall as module
from imagen_jax.metrics.precision_recall import precision_recall


def by_hand(real, generated, k):
    def share(rows, members):
        radii = [
            sorted(np.linalg.norm(m - other) for other in members)[k] for m in members
        ]
        inside = [
            any(
                np.linalg.norm(r - m) <= radius
                for m, radius in zip(members, radii, strict=True)
            )
            for r in rows
        ]
        return np.mean(inside)

    return share(generated, real), share(real, generated)


@pytest.mark.parametrize("k", [1, 3])
def test_equals_the_definition(k, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    rng = np.random.default_rng(0)
    real = rng.standard_normal((40, 3)).astype(np.float32) + 100
    generated = 1.5 * rng.standard_normal((30, 3)).astype(np.float32) + 100.8
    found = precision_recall(real, generated, k)
    precision, recall = by_hand(real, generated, k)
    assert 0.1 < precision < 0.9
    assert found == (precision, recall, k)


def test_a_mode_that_is_dropped_costs_recall_only():
    rng = np.random.default_rng(1)
    modes = rng.standard_normal((200, 2)) * 0.1
    real = np.concatenate([modes[:100], modes[100:] + 10])
    found = precision_recall(real, rng.standard_normal((100, 2)) * 0.1)
    assert found.precision > 0.85
    assert 0.35 < found.recall <= 0.5


def test_pictures_that_are_not_real_cost_precision_only():
    rng = np.random.default_rng(2)
    real = rng.standard_normal((100, 2)) * 0.1
    generated = np.concatenate([rng.standard_normal((100, 2)) * 0.1, real[:100] + 10])
    found = precision_recall(real, generated)
    assert 0.35 < found.precision <= 0.5
    assert found.recall > 0.85


def test_a_set_covers_itself():
    rows = np.random.default_rng(3).standard_normal((20, 5))
    assert precision_recall(rows, rows)[:2] == (1, 1)


def test_refuses_too_few():
    with pytest.raises(ValueError, match="each needs 4"):
        precision_recall(np.zeros((10, 2)), np.zeros((3, 2)))
