"""The training loop: linear, read from top to bottom.

A step is one call of the jitted `step.train_step`; around it the loop logs, previews
and checkpoints on their periods. Batch k is a function of (seed, k) and the random
numbers of step k of (seed, k) too, so resuming needs the train state and nothing else.

Every process of a run (one per host of a pod) calls `train`. They take the same steps
and write checkpoints together; config.json and metrics are written by process 0.
"""

import contextlib
import functools
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh
from tqdm import tqdm

from imagen_jax.checkpoint import Checkpoints, write_config
from imagen_jax.config import StageConfig
from imagen_jax.config_file import read_config
from imagen_jax.errors import UserError
from imagen_jax.interfaces import Batch, TextEmbeddings, TextTokens
from imagen_jax.parallel.distributed import StopNotice, raise_together, same_on_all
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
EncodeFn = Callable[[TextTokens], TextEmbeddings]
PreviewFn = Callable[[int, Params], dict[str, float]]


def train(
    stage: Stage,
    mesh: Mesh,
    batches_fn: BatchesFn,
    workdir: Path,
    *,
    encode_fn: EncodeFn | None = None,
    preview_fn: PreviewFn | None = None,
) -> TrainState:
    """Trains a stage to its last step, resuming from the workdir's newest checkpoint.

    Args:
      stage: the stage.
      mesh: the devices.
      batches_fn: (start, stop) -> this host's rows of batches start .. stop - 1.
      workdir: made if missing, on a disk that all hosts share; config.json,
        checkpoints/, metrics.jsonl, logs/.
      encode_fn: the frozen text encoder, for batches that carry tokens: global arrays
        in, global arrays out. None where batches carry embeddings.
      preview_fn: (step, averaged parameters) -> metrics, called every
        `train.preview_every` steps and after the last.

    Returns:
      The state after the last step, or at the notice to stop (SIGTERM to any process).

    Raises:
      UserError: the workdir is of another config or cannot be written, or too many
        updates in a row were not finite.
    """
    settings = stage.config.train
    claim_workdir(workdir, stage)
    # Closed on errors too: what was saved and logged by then is on disk.
    with jax.set_mesh(mesh), contextlib.ExitStack() as opened:
        stop_notice = opened.enter_context(StopNotice())
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
            batch = to_global(next(batches), mesh)
            if encode_fn:
                batch = batch._replace(text=encode_fn(batch.text))
            state, metrics = step_fn(root_key, state, batch)
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
            stopping = stop_notice.reached(step)  # read once: stopping implies saving
            if _is_due(step, settings.checkpoint_every, last) or stopping:
                checkpoints.save(step, state)
            if stopping:
                progress.write(f"stopped by signal at step {step}; run again to resume")
                break
    return state


def claim_workdir(workdir: Path, stage: Stage) -> None:
    """Makes the workdir, or checks that it holds a run of this stage.

    Process 0 does so; the others then look whether it is the folder that they see.

    Raises:
      UserError: on all processes: it holds another run, cannot be written, or is not
        shared.
    """
    first = jax.process_index() == 0
    mark = workdir / f".claim-{same_on_all(secrets.randbits(31)):08x}"

    def claim() -> None:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            check_same_run(workdir, stage)
            mark.touch()  # a disk that cannot be written fails now, not after hours
        except OSError as error:
            raise UserError(
                f"--workdir={workdir} cannot be written: {error}"
            ) from error

    def look() -> None:
        if not mark.exists():
            raise UserError(
                f"--workdir={workdir} is not the folder that process 0 sees; give one "
                "on a disk that all hosts share"
            )

    raise_together(claim if first else lambda: None)
    try:
        raise_together(look)
    finally:
        marks = workdir.glob(".claim-*") if first else ()  # a killed run's too
        for left_over in marks:
            left_over.unlink()


def check_same_run(workdir: Path, stage: Stage) -> None:
    """Raises a UserError if the workdir's config.json is of another run."""
    if not (workdir / "config.json").exists():
        return
    before = read_config(workdir / "config.json")
    for field in FIXED_FIELDS:
        old, new = (_fixed_part(config, field) for config in (before, stage.config))
        if old != new:
            raise UserError(
                f"{workdir} holds a run with another {field}: {old}, not {new}; use "
                "another --workdir"
            )


def _fixed_part(config: StageConfig, field: str) -> Any:
    """Returns a field of FIXED_FIELDS; of `text`, what says which embeddings it is."""
    return config.text.identity if field == "text" else getattr(config, field)


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
