"""Every fault is named from its facts, and nothing healthy is called a fault."""

import itertools

import numpy as np
import pytest

from imagen_jax.training.health.batch import Augmentation, BatchFacts
from imagen_jax.training.health.errors import ErrorFacts
from imagen_jax.training.health.faults import NEXT_STEPS
from imagen_jax.training.health.findings import (
    error_findings,
    gradient_findings,
    low_res_findings,
    movement_findings,
    picture_findings,
    target_finding,
    text_findings,
)
from imagen_jax.training.health.target import TargetFacts
from tests.tiny import tiny_config

METRICS = {"learning_rate": 1e-3, "num_skipped_in_row": 0.0}
MOVED = {"params": 0.1, "ema/0.9": 0.07, "ema/0.99": 0.05}
LOGSNR = np.array([1.0, 3.0], np.float32)
NOISED = Augmentation(
    level=np.array([0.1, 0.9], np.float32),
    meant=LOGSNR,
    told=LOGSNR,
    seen=LOGSNR,
    inverted=-LOGSNR,
    unexplained=np.zeros(2, np.float32),
    error=np.array([0.001, 0.002], np.float32),
    other_error=np.array([0.5, 0.5], np.float32),
)
HEALTHY = BatchFacts(
    byte_range=np.array([0.0, 255.0]),
    picture_range=np.array([-1.0, 1.0]),
    channel_means=np.array([0.1, 0.0, -0.1]),
    empty_share=np.float32(0.0),
    dropped_share=np.float32(0.1),
    num_drawn=np.float32(512),
    augmentation=NOISED,
)
LEARNED = ErrorFacts(
    learned=np.array([0.5, 0.2, 0.1, np.nan]),
    constant=np.ones(4),
    colour_drift=np.array([0.01, 0.0, -0.01]),
)
SWAPPED = {"error": np.array([0.5, 0.001])}


def findings(batch=HEALTHY, kind="sr"):
    config = tiny_config(kind)
    parts = (
        picture_findings(batch),
        text_findings(config, batch),
        low_res_findings(config, batch),
    )
    return list(itertools.chain(*parts))


def of_errors(errors=LEARNED, kind="sr", must_have_learned=True):
    config = tiny_config(kind)
    return list(error_findings(config, errors, must_have_learned=must_have_learned))


def of_weights(moved=MOVED, step=50, **metrics):
    metrics = {**METRICS, **metrics}
    return [*movement_findings(moved, metrics), *gradient_findings(metrics, step)]


def names(found):
    return [finding.fault for finding in found if finding.fault]


def assert_one(found, fault, text):
    assert names(found) == [fault]
    assert text in next(finding.text for finding in found if finding.fault)


def test_a_healthy_run_has_no_fault_and_every_topic():
    found = [*findings(), *of_weights(**{"grad_norm/stem": 0.5}), *of_errors()]
    assert names(found) == []
    assert [finding.topic for finding in found] == [
        "picture range",
        "captions",
        "conditioning dropout",
        "low-res picture",
        "aug_level",
        "parameters",
        "EMA 0.9",
        "EMA 0.99",
        "gradient norms",
        "loss by log-SNR",
        "colour drift",
    ]
    text = "\n".join(line for finding in found for line in finding.lines)
    assert text.startswith("  picture range: -1.00 to 1.00, from bytes 0 to 255; mean")
    assert "FAULT" not in text
    assert "+1.3, +0.0, -1.3 of 255" in text
    assert "0.50 at -8 to -4, 0.20 at -4 to +0, 0.10 at +0 to +4, where" in text


def test_a_base_stage_has_no_low_res_picture():
    found = findings(HEALTHY._replace(augmentation=None), "base")
    found += of_errors(kind="base")
    assert names(found) == []
    topics = {finding.topic for finding in found}
    assert not {"low-res picture", "aug_level", "colour drift"} & topics


ALMOST_0 = {
    "byte_range": np.array([0.0, 1.0]),
    "picture_range": np.array([-1.0, -0.992]),
}


@pytest.mark.parametrize(
    ("changes", "fault", "text"),
    [
        (
            {"picture_range": np.array([0.0, 1.0])},
            "pictures in [0, 1]",
            "0.00 to 1.00, from bytes 0 to 255, which stand for -1.00 to 1.00",
        ),
        (ALMOST_0, "pictures in [0, 1]", "no byte is above 1"),
        ({"picture_range": np.array([-1, 254.0])}, "pictures scaled wrongly", "254"),
        ({"empty_share": np.float32(1)}, "all text masks empty", "no"),
        ({"empty_share": np.float32(0.6)}, "most captions empty", "60% are empty"),
        ({"dropped_share": np.float32(0)}, "wrong conditioning dropout", "0.0% of 512"),
        ({"dropped_share": np.float32(0.5)}, "wrong conditioning dropout", "50.0%"),
    ],
)
def test_each_fault_of_pictures_and_text_is_named(changes, fault, text):
    assert_one(findings(HEALTHY._replace(**changes)), fault, text)


@pytest.mark.parametrize(
    ("changes", "fault", "text"),
    [
        (SWAPPED, "low-res not of its picture", "1 of 2 are not their own"),
        (
            {**SWAPPED, "other_error": np.array([0.001, 0.5])},
            "low-res of another picture",
            "1 are another's",
        ),
        ({"level": np.array([0.0, 1.1])}, "aug_level inverted", "above"),
        ({"seen": -LOGSNR}, "aug_level inverted", "given has a log-SNR off by 4.0"),
        ({"told": -LOGSNR}, "aug_level inverted", "is told a log-SNR off by 4.0"),
        ({"told": LOGSNR + 1}, "wrong augmentation noise", "off by 1.0"),
        ({"unexplained": 0.1 * LOGSNR}, "wrong augmentation noise", "30% of what"),
    ],
)
def test_each_fault_of_the_low_res_picture_is_named(changes, fault, text):
    noised = NOISED._replace(**changes)
    assert_one(findings(HEALTHY._replace(augmentation=noised)), fault, text)


STILL = {"params": 0.0, "ema/0.9": 0.0}


@pytest.mark.parametrize(
    ("moved", "metrics", "fault"),
    [
        (STILL, {"learning_rate": 0.0}, "learning rate 0"),
        (STILL, {}, "updates not applied"),
        (STILL, {"num_skipped_in_row": 3.0}, "updates not finite"),
        ({"params": 0.1, "ema/0.9": 0.0}, {}, "EMA frozen"),
        (MOVED, {"grad_norm/stem": 0.0}, "no gradient"),
    ],
)
def test_each_fault_of_the_weights_is_named(moved, metrics, fault):
    assert names(of_weights(moved, **metrics)) == [fault]


def test_nothing_is_said_of_what_was_not_measured():
    assert of_weights({}) == []


def test_layers_behind_a_zero_initialised_one_get_no_gradient_at_first():
    assert names(of_weights(step=1, **{"grad_norm/stem": 0.0})) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"learned": np.ones(4)}, "nothing learned"),
        ({"colour_drift": np.array([0.0, 0.3, 0.0])}, "colour drift"),
    ],
)
def test_each_fault_of_the_errors_is_named(changes, fault):
    assert names(of_errors(LEARNED._replace(**changes))) == [fault]


@pytest.mark.parametrize(
    ("ideal", "opposite", "fault"),
    [
        (1e-8, 4.0, ""),
        (4.0, 1e-8, "target sign flipped"),
        (0.5, 2.0, "loss and sampler disagree"),
        (np.nan, np.nan, "loss and sampler disagree"),
    ],
)
def test_each_fault_of_the_target_is_named(ideal, opposite, fault):
    facts = TargetFacts(np.float32(ideal), np.float32(opposite))
    assert target_finding(tiny_config(), facts).fault == fault


def test_a_young_run_need_not_have_learned():
    flat = LEARNED._replace(learned=np.ones(4), colour_drift=np.ones(3))
    assert names(of_errors(flat, must_have_learned=False)) == []


def test_a_fault_says_what_to_do():
    found = of_weights({"params": 0.1, "ema/0.9": 0.0})
    assert found[1].lines == [
        "  FAULT EMA frozen: EMA 0.9: did not move; the parameters moved by 0.1 of "
        "theirs",
        f"    next: {NEXT_STEPS['EMA frozen']}",
    ]
