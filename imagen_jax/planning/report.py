"""A plan in words and as JSON; the comparison of estimate and compiler; what to change.

GiB are 2^30 bytes, as chips' memory is stated; GB are 10^9, as disks and links are.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

from imagen_jax.config import StageConfig
from imagen_jax.planning.compiling import FAST_PEAK_ERRORS, Report
from imagen_jax.planning.estimate import Estimate, Schedule, store_bytes
from imagen_jax.planning.memory import (
    abstract_mesh,
    chip_rows,
    gradient_jaxpr,
    train_bytes,
)
from imagen_jax.planning.topology import GIB, Slice


class Storage(NamedTuple):
    """The embedding store to be planned: captions, and tokens of each on average."""

    captions: int
    tokens: int


def gib(size: int) -> str:
    """Returns bytes as "1.23 GiB"."""
    return f"{size / GIB:.2f} GiB"


def training_lines(
    config: StageConfig,
    chips: Slice,
    mesh_shape: tuple[int, int, int],
    estimate: Estimate,
    run: Schedule,
    storage: Storage,
    price: float | None,
) -> Iterator[str]:
    """Yields the lines of a training plan, without the compiler's."""
    memory, (data, fsdp, tensor) = estimate.memory, mesh_shape
    yield (
        f"{config.name} on {chips.name}: {chips.num_chips} chips, mesh data {data} x "
        f"fsdp {fsdp} x tensor {tensor}, batch {config.train.batch_size:,}, "
        f"{estimate.rows} pictures a chip"
        + (
            f" in {config.train.microbatches} microbatches"
            if config.train.microbatches > 1
            else ""
        )
    )
    yield f"parameters     {estimate.num_params / 1e6:,.1f} M"
    yield (
        f"memory         weights {gib(memory.weights)}, moments {gib(memory.moments)}, "
        f"EMA {gib(memory.ema)}, batch {gib(memory.batch)}, activations and gradients "
        f"{gib(memory.activations)} a chip"
    )
    yield (
        f"estimated peak {gib(memory.peak)} of the {chips.generation.hbm_gib} GiB of a "
        "chip"
    )
    yield (
        f"work           {estimate.flops_per_picture / 1e12:.2f} TFLOP a picture "
        f"(model), {estimate.step_flops / 1e12:.1f} TFLOP a step and chip "
        "(with recomputation)"
    )
    yield f"communication  {estimate.sent_bytes / 1e9:.2f} GB sent a step and chip"
    yield (
        f"time           {run.steps:,} steps at a stated MFU of {run.mfu:g}: "
        f"{run.days:,.1f} days, {run.chip_hours:,.0f} chip-hours"
    )
    if price is not None:
        yield (
            f"cost           {run.chip_hours * price:,.0f} at a stated price of "
            f"{price:g} a chip-hour"
        )
    sizes = [
        store_bytes(storage.captions, storage.tokens, config.text.width, dtype) / 1e9
        for dtype in ("bfloat16", "int8")
    ]
    yield (
        f"text           {storage.captions:,} captions of {storage.tokens} tokens: "
        f"{sizes[0]:,.1f} GB in bfloat16, {sizes[1]:,.1f} GB in int8"
    )


def compiled_lines(report: Report, estimated_peak: int, chips: Slice) -> Iterator[str]:
    """Yields what the compiler reports, beside what was estimated."""
    effort = f"{report.effort} effort"
    if report.effort == "fast":
        effort += (
            ", {:+.0%} and {:+.0%} against full on the two programs tried at "
            "both".format(*FAST_PEAK_ERRORS)
        )
    if not report.fits:
        yield (
            f"compiled       does not fit: the compiler needs {gib(report.peak_bytes)} "
            f"and a chip of {chips.name} has {chips.generation.hbm_gib} GiB ({effort})"
        )
        return
    error = estimated_peak / report.peak_bytes - 1
    yield (
        f"compiled       peak {gib(report.peak_bytes)} a chip ({effort}); the estimate "
        f"is {error:+.0%} off; {report.seconds:.0f} s, {report.cpu_seconds:.0f} "
        f"CPU-seconds, jax {report.jax}"
    )
    full_peak = report.peak_bytes / (1 + FAST_PEAK_ERRORS[0])
    if report.effort == "fast" and full_peak > chips.hbm_bytes:
        yield (
            f"               with full effort that may be {gib(round(full_peak))}, "
            "more than a chip has: compile with --effort=full before renting"
        )
    if sent := {kind: size for kind, size in report.sent_bytes.items() if size}:
        parts = ", ".join(f"{kind} {size / 1e9:.2f}" for kind, size in sent.items())
        total = sum(sent.values()) / 1e9
        yield f"               {total:.2f} GB sent a step and chip: {parts}"


def advice(config: StageConfig, chips: Slice, excess: float) -> str:
    """Returns one sentence that says what would make a training step fit.

    Args:
      config: of the stage.
      chips: that it does not fit on.
      excess: needed bytes (the compiler's, where it was asked) over the estimated ones,
        by which the estimates of the changes are corrected.
    """
    for change, other in changes(config, chips):
        mesh = abstract_mesh(other, chips.num_chips)
        jaxpr, _ = gradient_jaxpr(other, chip_rows(other, mesh)[1])
        peak = round(train_bytes(other, mesh, jaxpr).peak * excess)
        if peak < 0.95 * chips.hbm_bytes:
            return f"it does not fit; add {change} (then about {gib(peak)} of memory)"
    return (
        "it does not fit, and neither remat, fsdp nor microbatches make it fit: take "
        "chips with more memory, more of them, or a smaller network"
    )


def changes(config: StageConfig, chips: Slice) -> Iterator[tuple[str, StageConfig]]:
    """Yields (flags, config) of what to try, the cheapest in speed first."""
    flags: list[str] = []

    def changed(group: str, field: str, value: Any) -> StageConfig:
        inner = dataclasses.replace(getattr(config, group), **{field: value})
        return dataclasses.replace(config, **{group: inner})

    if not config.network.remat:
        config = changed("network", "remat", True)
        flags.append("--config.network.remat=True")
        yield " ".join(flags), config
    fsdp = abstract_mesh(config, chips.num_chips).shape["fsdp"]
    free = chips.num_chips // max(config.mesh.tensor, 1) // config.mesh.num_slices
    if fsdp < free and config.mesh.data == -1 and free % (4 * fsdp) == 0:
        config = changed("mesh", "fsdp", 4 * fsdp)
        flags.append(f"--config.mesh.fsdp={4 * fsdp}")
        yield " ".join(flags), config
    rows, part = chip_rows(config, abstract_mesh(config, chips.num_chips))
    while part % 2 == 0:
        part //= 2
        config = changed("train", "microbatches", rows // part)
        yield " ".join([*flags, f"--config.train.microbatches={rows // part}"]), config
