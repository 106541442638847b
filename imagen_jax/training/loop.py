"""The training loop: linear, read from top to bottom.

A step is one call of the jitted `step.train_step`; around it the loop looks at the run
(`observer.Observer`) and writes checkpoints on their periods. Batch k is a function of
(seed, k), and so are the random numbers of step k, so resuming needs the train state
and nothing else.

Every process of a run (one per host of a pod) calls `train`. They take the same steps
and write checkpoints together; config.json and metrics are written by process 0.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from imagen_jax.bucket_checkpoints import AnyCheckpoints, open_checkpoints
from imagen_jax.checkpoint import write_config
from imagen_jax.interfaces import Batch, TextEmbeddings, TextTokens
from imagen_jax.parallel.distributed import StopNotice
from imagen_jax.parallel.sharding import (
    batch_sharding,
    replicated,
    to_global,
    tree_shardings,
)
from imagen_jax.stage import Stage
from imagen_jax.training.claim import claim_workdir
from imagen_jax.training.health.monitor import HealthMonitor
from imagen_jax.training.observer import HeldoutFn, Observer, PreviewFn, is_due
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.profile import Profiler
from imagen_jax.training.progress import Progress
from imagen_jax.training.state import TrainState, init_state
from imagen_jax.training.step import train_step
from imagen_jax.training.warm_start import say_ignored, warm_start
from imagen_jax.workdir import AnyWorkdir, Workdir

BatchesFn = Callable[[int, int], Iterator[Batch]]
EncodeFn = Callable[[TextTokens], TextEmbeddings]


class Program(NamedTuple):
    """What is the same in all runs of a config, whatever their seed and pictures.

    Attributes:
      optimizer: with its learning rates for the run's number of steps.
      shardings: a TrainState of NamedShardings.
      step_fn: (root_key, state, batch) -> (state, metrics), compiled when first called.
    """

    optimizer: optax.GradientTransformation
    shardings: Any
    step_fn: Callable


def train(
    stage: Stage,
    mesh: Mesh,
    batches_fn: BatchesFn,
    workdir: Path | AnyWorkdir,
    *,
    encode_fn: EncodeFn | None = None,
    preview_fn: PreviewFn | None = None,
    heldout_fn: HeldoutFn | None = None,
    init_from: str | None = None,
    profile_steps: range = range(0),
    program: Program | None = None,
) -> TrainState:
    """Trains a stage to its last step, resuming from the workdir's newest checkpoint.

    Args:
      stage: the stage.
      mesh: the devices.
      batches_fn: (start, stop) -> this host's rows of batches start .. stop - 1.
      workdir: made if missing, on a disk that all hosts share or in a bucket;
        config.json, checkpoints/, metrics.jsonl, logs/.
      encode_fn: the frozen text encoder, for batches that carry tokens: global arrays
        in, global arrays out. None where batches carry embeddings.
      preview_fn: see `observer.Observer`, as `heldout_fn`.
      heldout_fn: all averaged parameters by decay -> metrics.
      init_from: weights that a fresh run starts with, see `warm_start.warm_start`.
      profile_steps: steps to trace, see `profile.parse_window`.
      program: of `make_program`, for runs that share one and its compiled step.

    Returns:
      The state after the last step, or at the notice to stop (SIGTERM to any process).

    Raises:
      UserError: the workdir is of another config or cannot be written, or too many
        updates in a row were not finite.
    """
    settings = stage.config.train
    if isinstance(workdir, Path):
        workdir = Workdir(str(workdir))
    claim_workdir(workdir, stage)
    # Closed on errors too: what was saved and logged by then is on disk.
    with jax.set_mesh(mesh), contextlib.ExitStack() as opened:
        stop_notice = opened.enter_context(StopNotice())
        root_key = jax.random.key(stage.config.seed)
        optimizer, shardings, step_fn = program or make_program(stage, mesh)
        checkpoints = open_checkpoints(
            workdir, settings.keep_checkpoints, settings.keep_every, settings.keep_best
        )
        opened.callback(checkpoints.close)
        state = restore_or_init(
            stage, optimizer, shardings, checkpoints, workdir.local, init_from
        )
        write_config(workdir.local, stage.config)  # after a checkpoint was accepted

        start = int(state.step)
        progress = Progress(stage.config, mesh, workdir.local, start)
        opened.callback(progress.close)
        monitor = None
        if settings.health_every:
            monitor = HealthMonitor(stage, root_key, state, mesh)
        observer = Observer(
            settings,
            start,
            progress,
            monitor=monitor,
            preview_fn=preview_fn,
            heldout_fn=heldout_fn,
        )
        profiler = Profiler(profile_steps, workdir.local / "profile")
        opened.enter_context(profiler)
        batches = batches_fn(start, settings.num_steps)
        for step in range(start + 1, settings.num_steps + 1):
            profiler.before_step(step, state)
            batch = to_global(next(batches), mesh)
            if encode_fn:
                batch = batch._replace(text=encode_fn(batch.text))
            state, metrics = step_fn(root_key, state, batch)
            progress.step_taken()
            heldout_loss = observer.after_step(step, state, batch, metrics)
            stopping = stop_notice.reached(step)  # read once: stopping implies saving
            if is_due(step, settings.checkpoint_every, settings) or stopping:
                checkpoints.save(step, state, heldout_loss)
            if stopping:
                progress.say(f"stopped by signal at step {step}; run again to resume")
                break
    workdir.sync()
    return state


def compile_step(
    stage: Stage,
    mesh: Mesh,
    batches_fn: BatchesFn,
    encode_fn: EncodeFn | None = None,
) -> None:
    """Compiles the step that `train` takes into JAX's compile cache; takes none.

    For a process that ends with it. On a CPU, the steps of the process that compiled
    them take up to a third longer than those of one that reads them from the cache
    (`benchmarks/compiled_apart.py`).

    Args:
      stage: as `train` takes it, like the others.
      mesh: the devices.
      batches_fn: its first batch is read for the shapes.
      encode_fn: the frozen text encoder, where batches carry tokens.
    """
    with jax.set_mesh(mesh):
        optimizer, shardings, step_fn = make_program(stage, mesh)
        batch = to_global(next(batches_fn(0, 1)), mesh)
        if encode_fn:
            batch = batch._replace(text=encode_fn(batch.text))
        state = abstract_state(stage, optimizer, shardings)
        step_fn.lower(jax.random.key(stage.config.seed), state, batch).compile()


def make_program(stage: Stage, mesh: Mesh) -> Program:
    """Returns the program of a stage's config; call it under `jax.set_mesh(mesh)`."""
    config = stage.config
    optimizer = make_optimizer(config.optimizer, config.train.num_steps)
    shardings = state_shardings(stage, optimizer, mesh)
    step_fn = jit_train_step(stage, optimizer, shardings, mesh)
    return Program(optimizer, shardings, step_fn)


def state_shardings(
    stage: Stage, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Any:
    """Returns a TrainState of NamedShardings."""
    abstract = jax.eval_shape(
        functools.partial(init_state, stage, optimizer), jax.random.key(0)
    )
    return tree_shardings(abstract, mesh)


def abstract_state(
    stage: Stage, optimizer: optax.GradientTransformation, shardings: Any
) -> Any:
    """Returns a TrainState of ShapeDtypeStructs, sharded."""
    init = functools.partial(init_state, stage, optimizer)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding
        ),
        jax.eval_shape(init, jax.random.key(0)),
        shardings,
    )


def restore_or_init(
    stage: Stage,
    optimizer: optax.GradientTransformation,
    shardings: Any,
    checkpoints: AnyCheckpoints,
    workdir: Path,
    init_from: str | None,
) -> TrainState:
    """Returns the newest checkpoint's state, or a fresh one; sharded either way."""
    if checkpoints.latest_step() is None:
        init = functools.partial(init_state, stage, optimizer)
        key = jax.random.fold_in(jax.random.key(stage.config.seed), 0x1217)
        state = jax.jit(init, out_shardings=shardings)(key)
        return warm_start(state, stage.config, init_from, workdir)
    if init_from:
        say_ignored(init_from, workdir)
    return checkpoints.restore(abstract_state(stage, optimizer, shardings))


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
