"""Plans: estimate first, then, where it is wished, the compiler's word.

A plan fits if the compiler says so; without it, if the estimated peak is below the
memory of a chip.
"""

from typing import Any, NamedTuple

import jax

from imagen_jax.config import MeshConfig, StageConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import AXES, make_mesh, mesh_shape
from imagen_jax.planning.compiling import Report, compile_program
from imagen_jax.planning.estimate import estimate_training, schedule
from imagen_jax.planning.memory import abstract_mesh, encoder_bytes, sample_bytes
from imagen_jax.planning.programs import (
    encoder_program,
    sample_program,
    train_program,
)
from imagen_jax.planning.report import (
    Storage,
    advice,
    compiled_lines,
    gib,
    training_lines,
)
from imagen_jax.planning.topology import Slice, open_devices


class Wishes(NamedTuple):
    """What is to be worked out, and for what.

    Attributes:
      effort: of the compiler, see `compiling.EFFORTS`; None = estimates alone.
      steps: of the run; None = the config's.
      mfu: stated share of the chips' peak.
      captions: of the embedding store.
      tokens: of a caption, on average.
      price: of a chip-hour; None = no costs.
    """

    effort: str | None = "fast"
    steps: int | None = None
    mfu: float = 0.4
    captions: int = 1_000_000
    tokens: int = 20
    price: float | None = None


class Plan(NamedTuple):
    """A plan: for people, for programs, and whether it fits."""

    lines: list[str]
    values: dict[str, Any]
    fits: bool


def plan_training(config: StageConfig, chips: Slice, wishes: Wishes) -> Plan:
    """Returns the plan of training a stage.

    Raises:
      UserError: mesh, batch and slice do not go together, or libtpu is missing.
    """
    abstract = abstract_mesh(config, chips.num_chips)
    estimate = estimate_training(config, abstract)
    steps = wishes.steps or config.train.num_steps
    run = schedule(config, chips, estimate.flops_per_picture, steps, wishes.mfu)
    sizes = mesh_shape(config.mesh, chips.num_chips)
    storage = Storage(wishes.captions, wishes.tokens)
    lines = list(
        training_lines(config, chips, sizes, estimate, run, storage, wishes.price)
    )
    peak = estimate.memory.peak
    values = {
        "kind": "train",
        "name": config.name,
        "topology": chips.name,
        "chips": chips.num_chips,
        "mesh": dict(zip(AXES, sizes, strict=True)),
        "batch_size": config.train.batch_size,
        "microbatches": config.train.microbatches,
        "estimate": {
            **estimate._asdict(),
            "memory": estimate.memory._asdict(),
            "peak_bytes": peak,
        },
        "schedule": run._asdict(),
    }
    report = None
    if wishes.effort:
        mesh = make_mesh(config.mesh, open_devices(chips))
        report = compile_program(train_program(config, mesh), wishes.effort)
    plan = _finish(lines, values, peak, report, chips)
    if not plan.fits:
        excess = max(report.peak_bytes / peak, 1.0) if report else 1.0
        plan.lines.append(advice(config, chips, excess))
    return plan


def plan_sampling(
    config: StageConfig, chips: Slice, batch_size: int, wishes: Wishes
) -> Plan:
    """Returns the plan of sampling a stage on one chip of a slice."""
    memory = sample_bytes(config, batch_size)
    lines = [
        f"{config.name}, sampling {batch_size} pictures at once in "
        f"{config.sampler.num_steps} steps on one chip of {chips.name}",
        f"memory         weights {gib(memory.weights)}, inputs {gib(memory.inputs)}, "
        f"activations {gib(memory.activations)}",
        f"estimated peak {gib(memory.peak)} of {chips.generation.hbm_gib} GiB",
    ]
    values = {
        "kind": "sample",
        "name": config.name,
        "topology": chips.name,
        "chips": 1,
        "batch_size": batch_size,
        "estimate": {"memory": memory._asdict(), "peak_bytes": memory.peak},
    }
    report = None
    if wishes.effort:
        device = open_devices(chips)[0]
        program = sample_program(config, device, batch_size)
        report = compile_program(program, wishes.effort)
    plan = _finish(lines, values, memory.peak, report, chips)
    if not plan.fits:
        plan.lines.append(
            "it does not fit; sample fewer at once, --batch_size="
            f"{max(batch_size // 2, 1)}, or take chips with more memory"
        )
    return plan


def plan_encoder(
    name: str, chips: Slice, batch_size: int, length: int, wishes: Wishes
) -> Plan:
    """Returns the plan of encoding captions on all chips of a slice.

    Raises:
      UserError: an unknown encoder, or a batch that the chips do not divide.
    """
    if batch_size % chips.num_chips:
        raise UserError(
            f"--batch_size is {batch_size}; it must be a multiple of the "
            f"{chips.num_chips} chips of {chips.name}"
        )
    layout = MeshConfig(data=1, fsdp=-1)
    axes = abstract_mesh(StageConfig(mesh=layout), chips.num_chips)
    memory = encoder_bytes(name, axes, batch_size, length)
    lines = [
        f"{name} in bfloat16 on {chips.name}: {batch_size} captions of {length} tokens",
        f"memory         weights {gib(memory.weights)}, inputs {gib(memory.inputs)}, "
        f"activations {gib(memory.activations)} a chip",
        f"estimated peak {gib(memory.peak)} of {chips.generation.hbm_gib} GiB",
    ]
    values = {
        "kind": "encode",
        "name": name,
        "topology": chips.name,
        "chips": chips.num_chips,
        "batch_size": batch_size,
        "length": length,
        "estimate": {"memory": memory._asdict(), "peak_bytes": memory.peak},
    }
    report = None
    if wishes.effort:
        mesh = make_mesh(layout, open_devices(chips))
        program = encoder_program(name, mesh, batch_size, length)
        report = compile_program(program, wishes.effort)
    plan = _finish(lines, values, memory.peak, report, chips)
    if not plan.fits:
        plan.lines.append("it does not fit; take fewer captions at once or more chips")
    return plan


def _finish(
    lines: list[str],
    values: dict[str, Any],
    peak: int,
    report: Report | None,
    chips: Slice,
) -> Plan:
    """Returns the plan with the compiler's lines and values, if it was asked."""
    values["jax"] = jax.__version__
    if report is None:
        return Plan(lines, values, fits=peak < chips.hbm_bytes)
    values["compiled"] = report._asdict()
    return Plan([*lines, *compiled_lines(report, peak, chips)], values, report.fits)
