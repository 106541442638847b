"""The training loop: linear, read from top to bottom.

A step is one call of the jitted `step.train_step`; around it the loop logs, previews
and checkpoints on their periods. Batch k is a function of (seed, k) and the random
numbers of step k of (seed, k) too, so resuming needs the train state and nothing else.
"""

import contextlib
import functools
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from tqdm import tqdm

from imagen_jax.checkpoint import Checkpoints, write_config
from imagen_jax.config_file import read_config
from imagen_jax.errors import UserError
from imagen_jax.interfaces import Batch
from imagen_jax.parallel.sharding import (
    batch_sharding,
    replicated,
    to_global,
    tree_shardings,
)
from imagen_jax.stage import Params, Stage
from imagen_jax.training.metrics import MetricsWriter
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.state import TrainState, ema_names, init_state
from imagen_jax.training.step import train_step

# What a run may not change between two starts; the rest (length, rates, periods, mesh)
# it may.
FIXED_FIELDS = (
    "network",
    "text",
    "resolution",
    "low_res_resolution",
    "diffusion",
    "seed",
)

BatchesFn = Callable[[int, int], Iterator[Batch]]
PreviewFn = Callable[[int, Params], dict[str, float]]


def train(
    stage: Stage,
    mesh: Mesh,
    batches_fn: BatchesFn,
    workdir: Path,
    *,
    preview_fn: PreviewFn | None = None,
) -> TrainState:
    """Trains a stage to its last step, resuming from the workdir's newest checkpoint.

    Args:
      stage: the stage.
      mesh: the devices.
      batches_fn: (start, stop) -> this host's rows of batches start .. stop - 1.
      workdir: made if missing; config.json, checkpoints/, metrics.jsonl, logs/.
      preview_fn: (step, averaged parameters) -> metrics, called every
        `train.preview_every` steps and after the last.

    Returns:
      The state after the last step, or at the signal to stop (SIGTERM).

    Raises:
      UserError: the workdir is of another config or cannot be written, or too many
        updates in a row were not finite.
    """
    settings = stage.config.train
    claim_workdir(workdir, stage)
    # Closed on errors too: what was saved and logged by then is on disk.
    with jax.set_mesh(mesh), contextlib.ExitStack() as opened:
        stop_signal = opened.enter_context(_StopSignal())
        optimizer = make_optimizer(stage.config.optimizer, settings.num_steps)
        root_key = jax.random.key(stage.config.seed)
        shardings = state_shardings(stage, optimizer, mesh)
        checkpoints = Checkpoints(workdir, settings.keep_checkpoints)
        opened.callback(checkpoints.close)
        state = restore_or_init(stage, optimizer, shardings, checkpoints)
        write_config(workdir, stage.config)  # not before a checkpoint was accepted
        step_fn = jit_train_step(stage, optimizer, shardings, mesh)

        start = int(state.step)
        metrics_writer = MetricsWriter(workdir, start)
        opened.callback(metrics_writer.close)
        progress = tqdm(
            total=settings.num_steps,
            initial=start,
            desc=f"train {stage.config.name}",
            unit="step",
            mininterval=1.0,
            disable=jax.process_index() != 0,
        )
        opened.callback(progress.close)
        log_time, log_step = time.monotonic(), start
        batches = batches_fn(start, settings.num_steps)
        for step in range(start + 1, settings.num_steps + 1):
            state, metrics = step_fn(root_key, state, to_global(next(batches), mesh))
            progress.update()

            last = step == settings.num_steps
            if step % settings.log_every == 0 or last or step == start + 1:
                values = {k: float(v) for k, v in jax.device_get(metrics).items()}
                now = time.monotonic()
                step_sec = (now - log_time) / max(step - log_step, 1)
                values["step_sec"] = step_sec
                values["pictures_per_sec"] = settings.batch_size / step_sec
                log_time, log_step = now, step
                metrics_writer.write(step, values)
                progress.set_postfix_str(
                    f"loss {values['loss']:.4f}, "
                    f"{values['pictures_per_sec']:.0f} pictures/s"
                )
                stop_if_diverged(values, settings.max_skipped_in_row, step)
            if preview_fn and _is_due(step, settings.preview_every, last):
                ema_params = state.ema_params[ema_names(settings)[0]]
                metrics_writer.write(step, preview_fn(step, ema_params))
                log_time, log_step = time.monotonic(), step  # previews are not steps
            stopping = stop_signal.received  # read once: stopping implies saving
            if _is_due(step, settings.checkpoint_every, last) or stopping:
                checkpoints.save(step, state)
            if stopping:
                progress.write(f"stopped by signal at step {step}; run again to resume")
                break
    return state


def claim_workdir(workdir: Path, stage: Stage) -> None:
    """Makes the workdir, or checks that it holds a run of this stage.

    Raises:
      UserError: it holds another run, or cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if (workdir / "config.json").exists():
            before = read_config(workdir / "config.json")
            for field in FIXED_FIELDS:
                old, new = getattr(before, field), getattr(stage.config, field)
                if old != new:
                    raise UserError(
                        f"{workdir} holds a run with another {field}: {old}, not "
                        f"{new}; use another --workdir"
                    )
        tempfile.TemporaryFile(dir=workdir).close()  # fails now, not after hours
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written: {error}") from error


def state_shardings(
    stage: Stage, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Any:
    """Returns a TrainState of NamedShardings."""
    abstract = jax.eval_shape(
        functools.partial(init_state, stage, optimizer), jax.random.key(0)
    )
    return tree_shardings(abstract, mesh)


def restore_or_init(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    shardings: Any,
    checkpoints: Checkpoints,
) -> TrainState:
    """Returns the newest checkpoint's state, or a fresh one; sharded either way."""
    init = functools.partial(init_state, stage, optimizer)
    key = jax.random.fold_in(jax.random.key(stage.config.seed), 0x1217)
    if checkpoints.latest_step() is None:
        return jax.jit(init, out_shardings=shardings)(key)
    abstract = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        jax.eval_shape(init, key),
        shardings,
    )
    return checkpoints.restore(abstract)


def jit_train_step(
    stage: Stage, optimizer: optax.GradientTransformation, shardings: Any, mesh: Mesh
) -> Callable:
    """Returns the compiled step (root_key, state, batch) -> (state, metrics).

    The old state's memory is reused for the new one.
    """
    return jax.jit(
        functools.partial(train_step, stage, optimizer),
        in_shardings=(replicated(mesh), shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=(1,),
    )


def stop_if_diverged(values: dict[str, float], limit: int, step: int) -> None:
    """Raises a UserError after too many non-finite updates in a row."""
    if values["num_skipped_in_row"] >= limit:
        raise UserError(
            f"{int(values['num_skipped_in_row'])} updates in a row up to step {step} "
            "were not finite (train.max_skipped_in_row); lower "
            "optimizer.learning_rate or set optimizer.clip_norm"
        )


def _is_due(step: int, period: int, last: bool) -> bool:
    return period > 0 and (last or step % period == 0)


class _StopSignal:
    """Inside the context, SIGTERM sets `received` instead of ending the process."""

    def __enter__(self) -> "_StopSignal":
        self.received = False
        self._old = signal.signal(signal.SIGTERM, self._receive)
        return self

    def _receive(self, signum, frame) -> None:
        self.received = True

    def __exit__(self, *exception) -> None:
        signal.signal(signal.SIGTERM, self._old)
