import copy

import pytest

from imagen_jax.errors import UserError
from imagen_jax.evaluation.reference import FIGURES, compare, describe, make_reference


def make_fake(object_accuracy: float, loss: float = 0.1, n: int = 240) -> dict:
    """Returns a report with every figure, and one point of the curve."""
    interval = {"low": object_accuracy - 0.05, "high": object_accuracy + 0.05}
    point = {"step": 100, "loss": loss, "object_accuracy": 0.5, "ground_accuracy": None}
    return {
        **dict.fromkeys(FIGURES, 0.9),
        "n": n,
        "object_accuracy": object_accuracy,
        "intervals": {"object_accuracy": interval},
        "training_curve": [point],
    }


REPORTS = [make_fake(0.7, 0.10), make_fake(0.75, 0.12), make_fake(0.72, 0.11)]


def test_bands():
    reference = make_reference(REPORTS)
    assert reference["object_accuracy"] == {
        "min": pytest.approx(0.65),  # the intervals' ends
        "max": pytest.approx(0.80),
        "runs": [0.7, 0.75, 0.72],
    }
    loss = reference["loss at point 1"]  # no interval: the runs' spread on both sides
    assert (loss["min"], loss["max"]) == pytest.approx((0.08, 0.14))
    preview = reference["object_accuracy at point 1"]
    assert (preview["min"], preview["max"]) == pytest.approx((0.33, 0.67))
    assert "ground_accuracy at point 1" not in reference
    assert reference["n"]["runs"] == [240] * 3


def test_every_run_lies_inside_its_own_band():
    reference = make_reference(REPORTS)
    for report in REPORTS:
        assert {c.place for c in compare(report, reference)} == {"inside"}
        assert "inside the band of the reference (3 runs)" in describe(
            report, reference
        )


@pytest.mark.parametrize(("value", "place"), [(0.5, "below"), (0.9, "above")])
def test_a_run_outside_is_named(value, place):
    words = describe(make_fake(value), make_reference(REPORTS))
    assert f"object_accuracy {value:g} is {place} 0.65 to 0.8" in words
    assert "in 1 of 11 figures" in words


def test_a_figure_that_is_missing_is_not_compared():
    report = copy.deepcopy(REPORTS[0]) | {"sr_gain_db": None, "training_curve": None}
    compared = {c.figure for c in compare(report, make_reference(REPORTS))}
    assert compared == set(FIGURES) - {"sr_gain_db"}
    assert "sr_gain_db" not in make_reference([REPORTS[0], report])


def test_a_run_of_another_size_is_not_compared():
    words = describe(make_fake(0.1, n=16), make_reference(REPORTS))
    assert words == (
        "Not compared with the reference: it scored 240 pictures, this run 16."
    )
    with pytest.raises(UserError, match="n = 240, 16"):
        make_reference([make_fake(0.7), make_fake(0.7, n=16)])


def test_one_report_is_no_reference():
    with pytest.raises(UserError, match="at least 2 reports, not 1"):
        make_reference(REPORTS[:1])
