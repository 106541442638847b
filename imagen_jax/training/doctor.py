"""The doctor: can this stage learn eight pictures by heart, and sample them back?

The real train step runs on the same few pictures until what the averaged weights sample
from their captions is the pictures again, median PSNR >= 20 dB; a super-resolution
stage must also come nearer to them than its interpolated low-res pictures are. On the
way the run's health is looked at as in any run (`imagen_jax.training.health`), and the
first fault ends the examination: most show before the first step, in seconds.

One device, whole float32 state: a large stage is examined with `training.shrink`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from imagen_jax.config import StageConfig
from imagen_jax.data.records import Source
from imagen_jax.diffusion.augmentation import to_uint8, to_unit, upsample
from imagen_jax.interfaces import Batch, TextEmbeddings
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.stage import Params, Stage, build_stage
from imagen_jax.training.health.monitor import HealthMonitor
from imagen_jax.training.optimizer import make_optimizer
from imagen_jax.training.overfit import (
    Pictures,
    overfit_config,
    read_pictures,
    repeated_batch,
)
from imagen_jax.training.state import TrainState, ema_names, init_state
from imagen_jax.training.step import train_step
from imagen_jax.training.verdict import Verdict

PASSING_DB = 20.0
LOOK_EVERY = 50  # steps
MAX_STEPS = 800

PsnrFn = Callable[
    [UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n h w 3"]],
    Float[np.ndarray, " n"],
]


class Case(NamedTuple):
    """A stage made ready: its short run's settings, and all that is put into it."""

    stage: Stage
    pictures: Pictures
    text: TextEmbeddings
    batch: Batch

    @property
    def root_key(self) -> jax.Array:
        """The run's key."""
        return jax.random.key(self.stage.config.seed)


def examine(
    config: StageConfig,
    source: Source,
    text_fn: Callable[[Sequence[str]], TextEmbeddings],
    psnr_fn: PsnrFn,
    tell: Callable[[str], None],
) -> Verdict:
    """Returns the verdict on a stage.

    Args:
      config: of the stage, shrunk if it is large.
      source: where pictures come from.
      text_fn: captions to embeddings of the config's width, numpy.
      psnr_fn: PSNR of pairs of pictures in dB.
      tell: is given each report as it comes.

    Raises:
      UserError: the source has no picture that can be used.
    """
    case = make_case(config, source, text_fn)
    settings = case.stage.config.train
    monitor = HealthMonitor(case.stage, case.root_key)
    report = monitor.inspect(0, case.batch)
    needed_db = max(PASSING_DB, _interpolation_db(case, psnr_fn, tell))
    verdict = Verdict(report.faults, 0, case.pictures, needed_db)
    if report.faults:
        tell(report.text)
        return verdict
    sample = _sample_fn(case)
    run = _train(case)
    state, _ = next(run)
    tell(_describe_case(case, state))
    monitor.note(state)
    for step, (state, metrics) in enumerate(run, start=1):
        if step != 1 and step % LOOK_EVERY:
            continue
        last = step == settings.num_steps
        values = {name: float(value) for name, value in metrics.items()}
        report = monitor.report(state, case.batch, values, must_have_learned=last)
        verdict = verdict._replace(faults=report.faults, num_steps=step)
        if step == 1 or report.faults:
            tell(report.text)
        if report.faults:
            break
        if step == 1:
            continue
        samples = sample(state.ema_params[ema_names(settings)[0]])
        psnr_db = psnr_fn(samples, case.pictures.image)
        verdict = verdict._replace(samples=samples, psnr_db=psnr_db)
        tell(f"step {step}: {verdict.samples_text}")
        if verdict.passes:
            tell(report.text)
            break
        if last:
            verdict = verdict._replace(faults=[verdict.not_overfitted])
    return verdict


def make_case(
    config: StageConfig,
    source: Source,
    text_fn: Callable[[Sequence[str]], TextEmbeddings],
) -> Case:
    """Returns a stage made ready to overfit; see `examine`."""
    fitted, crop = overfit_config(config, MAX_STEPS)
    pictures = read_pictures(source, config, crop)
    text = text_fn(pictures.captions)
    batch = repeated_batch(
        pictures, text, fitted.train.batch_size, with_low_res=crop is not None
    )
    text, batch = jax.tree.map(jnp.asarray, (text, batch))
    return Case(build_stage(fitted), pictures, text, batch)


def _train(case: Case) -> Iterator[tuple[TrainState, dict[str, Any]]]:
    """Yields the state before the first step and after each, with the step's metrics.

    A state must not be used any more when the next is asked for.
    """
    stage = case.stage
    num_steps = stage.config.train.num_steps
    optimizer = make_optimizer(stage.config.optimizer, num_steps)
    # Runs once: on a CPU its 100 random draws compile for longer than they save.
    quick = {"xla_backend_optimization_level": 0}
    init = jax.jit(
        functools.partial(init_state, stage, optimizer),
        compiler_options=quick if jax.default_backend() == "cpu" else None,
    )
    state = init(jax.random.fold_in(case.root_key, 0))
    yield state, {}
    step_fn = jax.jit(
        functools.partial(train_step, stage, optimizer), donate_argnums=(1,)
    )
    for _ in range(num_steps):
        state, metrics = step_fn(case.root_key, state, case.batch)
        yield state, metrics


def _sample_fn(case: Case) -> Callable[[Params], UInt8[np.ndarray, "n r r 3"]]:
    """Returns (parameters) -> the pictures of the captions, from fixed seeds."""
    sampler, pictures = Sampler(case.stage), case.pictures
    settings = sampling_params(sampler.config, np.arange(len(pictures.captions)))
    low_res = None
    if pictures.low_res is not None:
        low_res = to_unit(jnp.asarray(pictures.low_res))

    def sample(params: Params) -> UInt8[np.ndarray, "n r r 3"]:
        return np.asarray(to_uint8(sampler(params, case.text, settings, low_res)))

    return sample


def _interpolation_db(
    case: Case, psnr_fn: PsnrFn, tell: Callable[[str], None]
) -> float:
    """Returns the median PSNR of the interpolated low-res pictures; 0 without any."""
    config, pictures = case.stage.config, case.pictures
    if pictures.low_res is None:
        return 0.0
    method = config.diffusion.low_res_upsample
    low_res = to_unit(jnp.asarray(pictures.low_res))
    enlarged = np.asarray(to_uint8(upsample(low_res, config.resolution, method)))
    median = float(np.median(psnr_fn(enlarged, pictures.image)))
    tell(f"interpolation ({method}) gives {median:.1f} dB, which it must exceed")
    return median


def _describe_case(case: Case, state: TrainState) -> str:
    config = case.stage.config
    num_params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return (
        f"{config.name}: {num_params / 1e6:.1f} M parameters, "
        f"{len(case.pictures.captions)} pictures of {config.resolution} pixels, "
        f"at most {config.train.num_steps} steps of {config.train.batch_size}"
    )
