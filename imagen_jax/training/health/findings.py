"""From facts to findings: what each figure should be, and when it is a fault.

All of it is on the host and pure: one function per topic, facts in, findings out.
"""

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np

from imagen_jax.config import StageConfig
from imagen_jax.training.health.batch import Augmentation, BatchFacts
from imagen_jax.training.health.errors import BIN_EDGES, ErrorFacts
from imagen_jax.training.health.faults import Finding
from imagen_jax.training.health.target import TargetFacts

GRAD_NORM = "grad_norm/"  # + name of a top-level block, in the step's metrics

RANGE_TOLERANCE = 0.02  # of pictures in [-1, 1]; a byte is 0.008
EMPTY_SHARE = 0.5  # above it most of the text is missing
LOW_RES_TOLERANCE = 0.02  # RMS; rounding to bytes makes 0.002
LOGSNR_TOLERANCE = 0.3
UNEXPLAINED = 0.02  # share of the network's low-res input
AGREEMENT = 1e-3  # of the error of no output; float32 leaves 1e-8
FLAT = 0.95  # of the best constant's error
DRIFT_LEVELS = 16  # of 255
SETTLED_AFTER = 20  # steps after which zero-initialised layers pass gradients


def picture_findings(facts: BatchFacts) -> Iterator[Finding]:
    """Yields what is said about the range of the pictures and their channels' means."""
    topic, (low, high) = "picture range", facts.picture_range
    first, last = facts.byte_range
    text = f"{low:.2f} to {high:.2f}, from bytes {first:.0f} to {last:.0f}"
    wanted = np.asarray(facts.byte_range) / 127.5 - 1.0
    if last <= 1:
        yield Finding(topic, f"{text}: no byte is above 1", "pictures in [0, 1]")
    elif np.abs(facts.picture_range - wanted).max() > RANGE_TOLERANCE:
        is_unit = -RANGE_TOLERANCE < low and high < 1.0 + RANGE_TOLERANCE
        yield Finding(
            topic,
            f"{text}, which stand for {wanted[0]:.2f} to {wanted[1]:.2f} in [-1, 1]",
            "pictures in [0, 1]" if is_unit else "pictures scaled wrongly",
        )
    else:
        means = ", ".join(f"{mean:+.2f}" for mean in facts.channel_means)
        yield Finding(topic, f"{text}; mean of red, green, blue {means}")


def text_findings(config: StageConfig, facts: BatchFacts) -> Iterator[Finding]:
    """Yields what is said about captions, and about those that the step drops."""
    share, topic = float(facts.empty_share), "captions"
    if share == 1.0:
        text = "none has a valid token with an embedding that is not zero"
        yield Finding(topic, text, "all text masks empty")
        return
    fault = "most captions empty" if share > EMPTY_SHARE else ""
    yield Finding(topic, f"{share:.0%} are empty", fault)
    wanted, seen = config.diffusion.cond_drop_prob, float(facts.dropped_share)
    num = float(facts.num_drawn)
    # Four standard deviations, and one caption for the smallest probabilities.
    tolerance = 4.0 * math.sqrt(wanted * (1.0 - wanted) / num) + 1.0 / num
    yield Finding(
        "conditioning dropout",
        f"{seen:.1%} of {num:.0f} captions, diffusion.cond_drop_prob is {wanted:.1%}",
        "wrong conditioning dropout" if abs(seen - wanted) > tolerance else "",
    )


def low_res_findings(config: StageConfig, facts: BatchFacts) -> Iterator[Finding]:
    """Yields what is said about the low-res pictures; nothing for a base stage."""
    if (seen := facts.augmentation) is None:
        return
    wrong = np.asarray(seen.error) > LOW_RES_TOLERANCE
    text, fault = f"each is its own picture reduced, to {seen.error.max():.4f}", ""
    if wrong.any():
        swapped = int((wrong & np.asarray(seen.other_error < seen.error / 2)).sum())
        text = (
            f"{wrong.sum()} of {len(wrong)} are not their own picture reduced (RMS "
            f"difference up to {seen.error.max():.2f}), {swapped} are another's"
        )
        fault = (
            "low-res of another picture" if swapped else "low-res not of its picture"
        )
    yield Finding("low-res picture", text, fault)
    yield _augmentation_finding(seen, config.diffusion.aug_level_max)


def _augmentation_finding(seen: Augmentation, highest: float) -> Finding:
    topic = "aug_level"
    text = f"drawn from {seen.level.min():.2f} to {seen.level.max():.2f}"

    def far(a, b) -> float:
        return float(np.abs(a - b).mean())

    if seen.level.max() > highest + 1e-6:
        above = f"{text}, above diffusion.aug_level_max, {highest:g}"
        return Finding(topic, above, "aug_level inverted")
    in_words, in_noise = far(seen.told, seen.meant), far(seen.seen, seen.meant)
    if max(in_words, in_noise) > LOGSNR_TOLERANCE:
        strange, whose = seen.told, "the network is told"
        if in_noise > in_words:
            strange, whose = seen.seen, "the picture that the network is given has"
        inverted = far(strange, seen.inverted) < LOGSNR_TOLERANCE
        return Finding(
            topic,
            f"{text}: {whose} a log-SNR off by {max(in_words, in_noise):.1f}"
            + (", which is that of 1 - aug_level" if inverted else ""),
            "aug_level inverted" if inverted else "wrong augmentation noise",
        )
    if seen.unexplained.max() > UNEXPLAINED:
        return Finding(
            topic,
            f"{text}: {seen.unexplained.max():.0%} of what the network is given is "
            "neither its low-res picture nor the noise on it",
            "wrong augmentation noise",
        )
    return Finding(topic, f"{text}; the noise on the picture is what it is told")


def movement_findings(
    moved: Mapping[str, float], metrics: Mapping[str, float]
) -> Iterator[Finding]:
    """Yields what is said about how far the weights moved, if that was measured."""
    if not moved:
        return
    share, rate = moved["params"], metrics["learning_rate"]
    text = f"moved by {share:.2g} of their size, learning rate {rate:.2g}"
    fault = ""
    if share == 0:
        text, fault = f"did not move, learning rate {rate:.2g}", "updates not applied"
        if rate == 0:
            fault = "learning rate 0"
        if metrics["num_skipped_in_row"]:
            fault = "updates not finite"
    yield Finding("parameters", text, fault)
    for name in moved:
        if name == "params":
            continue
        frozen = moved[name] == 0 and share > 0
        text = f"moved by {moved[name]:.2g} of its size"
        if frozen:
            text = f"did not move; the parameters moved by {share:.2g} of theirs"
        topic = f"EMA {name.removeprefix('ema/')}"
        yield Finding(topic, text, "EMA frozen" if frozen else "")


def gradient_findings(metrics: Mapping[str, float], step: int) -> Iterator[Finding]:
    """Yields what is said about gradient norms, if the metrics hold them."""
    norms = {
        name.removeprefix(GRAD_NORM): value
        for name, value in metrics.items()
        if name.startswith(GRAD_NORM)
    }
    if not norms:
        return
    text = ", ".join(f"{name} {value:.1e}" for name, value in norms.items())
    dead = [name for name, value in norms.items() if value == 0]
    if not dead or step < SETTLED_AFTER:
        yield Finding("gradient norms", text)
    else:
        text = f"none reaches {', '.join(dead)}; {text}"
        yield Finding("gradient norms", text, "no gradient")


def bins() -> list[tuple[float, float]]:
    """Returns the log-SNR bins of `ErrorFacts`, (low, high)."""
    return list(itertools.pairwise(BIN_EDGES))


def target_finding(config: StageConfig, facts: TargetFacts) -> Finding:
    """Returns what is said about the loss's target and the sampler's reading."""
    kind, ideal = config.diffusion.prediction, float(facts.ideal)
    if ideal < AGREEMENT:
        return Finding("target", f"loss and sampler mean the same by {kind}")
    text = (
        f"the {kind} that the sampler reads as the true picture has {ideal:.2g} of the "
        "loss of no output"
    )
    if facts.opposite < AGREEMENT:
        text = f"{text}, with its sign flipped none"
        return Finding("target", text, "target sign flipped")
    return Finding("target", text, "loss and sampler disagree")


def error_findings(
    config: StageConfig, facts: ErrorFacts, *, must_have_learned: bool
) -> Iterator[Finding]:
    """Yields what is said about the loss, and for SR about colours."""
    ratio = np.asarray(facts.learned / facts.constant)
    text = ", ".join(
        f"{value:.2f} at {low:+.0f} to {high:+.0f}"
        for (low, high), value in zip(bins(), ratio, strict=True)
        if not math.isnan(value)
    )
    flat = must_have_learned and not np.nanmin(ratio) < FLAT
    kind = config.diffusion.prediction
    yield Finding(
        "loss by log-SNR",
        f"{text}, where 1 is what the best constant {kind} gets",
        "nothing learned" if flat else "",
    )
    if config.is_super_resolution:
        levels = np.asarray(facts.colour_drift) * 127.5
        text = ", ".join(f"{level:+.1f}" for level in levels)
        drifts = must_have_learned and bool(np.abs(levels).max() > DRIFT_LEVELS)
        yield Finding(
            "colour drift",
            f"{text} of 255 in red, green, blue",
            "colour drift" if drifts else "",
        )
