"""Training that starts from the weights of another run or bundle (`--init_from`).

The averaged weights of the source become the parameters and every average of the new
run; the optimizer, its warm-up and the step count start afresh. Tensors are matched by
name:

  same name and shape    loaded
  missing in the source  keep their fresh initialisation
  extra in the source    ignored
  of another shape       keep their fresh initialisation

What was not loaded is printed by name, and WORKDIR/init_from.json records where the
weights came from. A workdir that has a checkpoint goes on from that, so a run that is
killed and started by the same command line is not set back.

The network must mean the same by a text embedding as the source did, so a source that
was trained with another text encoder is refused. Other settings that change what the
weights are for (`diffusion`, the resolutions) may differ; they are printed.
"""

import dataclasses
import json
import re
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from imagen_jax.averages import (
    Averages,
    Comparison,
    compare,
    open_averages,
    shapes_of,
)
from imagen_jax.config import ScheduleConfig, StageConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel.distributed import raise_together, same_on_all
from imagen_jax.parallel.sharding import leaf_name
from imagen_jax.stage import Params
from imagen_jax.training.state import TrainState
from imagen_jax.workdir import local_copy

RECORD = "init_from.json"


def warm_start(
    state: TrainState, config: StageConfig, init_from: str | None, workdir: Path
) -> TrainState:
    """Returns a fresh state with the weights of a source in it.

    Each leaf goes straight to the devices that hold its part. With several processes
    all must call this.

    Args:
      state: as `init_state` made it, on its mesh. It is used up: to hold no weights
        twice, those that the source replaces are deleted before they are read.
      config: of the new run; its text identity is known.
      init_from: a training workdir (its newest checkpoint, first decay) or a bundle's
        folder; either may be a URL. None returns `state`.
      workdir: of the new run; process 0 writes `RECORD` there. With None it removes
        the one of an earlier start that got to no checkpoint.

    Raises:
      UserError: on all processes: the source cannot be read, has other text
        embeddings or no tensor in common, or is not the same for all processes.
    """
    first = jax.process_index() == 0
    if init_from is None:
        if first:
            (workdir / RECORD).unlink(missing_ok=True)
        return state
    source, origin = _open_together(init_from, config)
    comparison = compare(source.shapes, shapes_of(state.params))
    if not comparison.common:
        there, here = (
            ", ".join([*names[:3], "..."])
            for names in (sorted(source.shapes), sorted(shapes_of(state.params)))
        )
        raise UserError(
            f"--init_from={init_from} has no tensor in common with this network: there "
            f"are {there} there, {here} here; give a run or bundle of a network that "
            "is built alike"
        )
    state = _load(state, source, comparison.common)
    if first:
        differing = differing_settings(source.config, config)
        record = {"source": init_from, "stage": source.config.name, **origin}
        write_record(workdir, record, comparison, differing)
        print(describe(init_from, comparison, differing, config), flush=True)
    return state


def say_ignored(init_from: str, workdir: Path) -> None:
    """Prints that a run which has a checkpoint goes on from that."""
    if jax.process_index() == 0:
        began = "it began without"
        if (workdir / RECORD).exists():
            began = f"what it began from is in {workdir / RECORD}"
        print(
            f"--init_from={init_from} is ignored: {workdir} goes on from its own "
            f"checkpoint; {began}",
            flush=True,
        )


def check_text(source: StageConfig, config: StageConfig, init_from: str) -> None:
    """Refuses a source that knows other text embeddings.

    A hash that one of them has not recorded ("") fits any.

    Raises:
      UserError: naming every field that differs.
    """
    there = source.text.identity
    differing = [
        f"text.{name} {there[name]!r}, not {wanted!r}"
        for name, wanted in config.text.identity.items()
        if "" not in (wanted, there[name]) and there[name] != wanted
    ]
    if differing:
        raise UserError(
            f"--init_from={init_from} was trained with {'; '.join(differing)} as this "
            "run's config or embedding store says, so its layers would misread the "
            "text; train with the source's encoder, or start without --init_from"
        )


def differing_settings(
    source: StageConfig, config: StageConfig
) -> dict[str, tuple[Any, Any]]:
    """Returns name -> (there, here) of what the weights are for, where it differs."""
    found = {}
    for name in ("resolution", "low_res_resolution"):
        found[name] = (getattr(source, name), getattr(config, name))
    for field in dataclasses.fields(config.diffusion):
        values = (getattr(c.diffusion, field.name) for c in (source, config))
        found[f"diffusion.{field.name}"] = tuple(
            dataclasses.asdict(value) if isinstance(value, ScheduleConfig) else value
            for value in values
        )
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


def write_record(
    workdir: Path,
    record: dict[str, Any],
    comparison: Comparison,
    differing: dict[str, tuple[Any, Any]],
) -> None:
    """Writes `workdir/init_from.json`, whole or not at all."""
    lists = {
        "num_loaded": len(comparison.common),
        "missing": comparison.missing,
        "extra": comparison.extra,
        "reshaped": _as_pairs(comparison.reshaped),
        "differing_settings": _as_pairs(differing),
    }
    partial = workdir / f"{RECORD}.partial"
    partial.write_text(json.dumps({**record, **lists}, indent=2) + "\n")
    partial.replace(workdir / RECORD)


def describe(
    init_from: str,
    comparison: Comparison,
    differing: dict[str, tuple[Any, Any]],
    config: StageConfig,
) -> str:
    """Returns what was loaded and what was not, in words, every tensor by name.

    Args:
      init_from: the source.
      comparison: its tensors against the network's.
      differing: from `differing_settings`.
      config: of the new run.
    """
    not_loaded = [*comparison.missing, *comparison.reshaped]
    total = len(comparison.common) + len(not_loaded)
    lines = [
        f"warm start from {init_from}: {len(comparison.common)} of {total} tensors "
        "loaded"
    ]
    reshaped = [
        f"{name} {there} there, {here} here"
        for name, (there, here) in comparison.reshaped.items()
    ]
    frozen = [
        name
        for name in not_loaded
        if config.optimizer.freeze and re.search(config.optimizer.freeze, name)
    ]
    settings = [f"{name} {a} there, {b} here" for name, (a, b) in differing.items()]
    for names, meaning in (
        (comparison.missing, "missing there, so freshly initialised"),
        (comparison.extra, "extra there, so ignored"),
        (reshaped, "of another shape there, so freshly initialised"),
        (frozen, "WARNING: freshly initialised and frozen, so never trained"),
        (settings, "settings differ, so the weights may be of little use"),
    ):
        if names:
            lines.append(f"  {len(names)} {meaning}: {', '.join(names)}")
    if len(lines) == 1:
        lines.append("  none is missing, extra or of another shape")
    return "\n".join(lines)


def _open_together(
    init_from: str, config: StageConfig
) -> tuple[Averages, dict[str, str | int]]:
    """Returns the source and which weights it holds, the same on all processes."""
    opened: list[Averages] = []
    origin: dict[str, str | int] = {}

    def look() -> None:
        averages = open_averages(local_copy(init_from))
        check_text(averages.config, config, init_from)
        origin.update(averages.origin())
        opened.append(averages)

    raise_together(look)
    digest = zlib.crc32(json.dumps(origin, sort_keys=True).encode()) >> 1
    of_first = same_on_all(digest)

    def agree() -> None:
        if digest != of_first:
            raise UserError(
                f"--init_from={init_from} holds other weights here than for process 0; "
                "give a folder on a disk that all hosts share"
            )

    raise_together(agree)
    return opened[0], origin


def _load(state: TrainState, source: Averages, names: list[str]) -> TrainState:
    """Returns the state with these tensors as parameters and as averages."""
    fitting = set(names)
    shardings = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state.params):
        if (name := leaf_name(keys)) in fitting:
            shardings[name] = leaf.sharding
    trees = (state.params, *state.ema_params.values())
    for tree in trees:
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if leaf_name(keys) in shardings:
                leaf.delete()
    loaded = source.read(shardings)
    # An array each: a step gives back the memory of all that it is given.
    copies = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=shardings)
    return state._replace(
        params=_overlay(state.params, loaded),
        ema_params={
            decay: _overlay(tree, copies(loaded))
            for decay, tree in state.ema_params.items()
        },
    )


def _overlay(params: Params, loaded: dict[str, jax.Array]) -> Params:
    return jax.tree_util.tree_map_with_path(
        lambda keys, leaf: loaded.get(leaf_name(keys), leaf), params
    )


def _as_pairs(pairs: dict[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {"there": a, "here": b} for name, (a, b) in pairs.items()}
