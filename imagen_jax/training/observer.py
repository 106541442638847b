"""Looks at a run between its steps, each thing on its period, and changes nothing.

Metrics every `train.log_every` steps, a health report every `train.health_every`, a
grid of previews every `train.preview_every`, the held-out loss every
`train.heldout_every`; each of them after the last step too, metrics and health also
after the first. A period of 0 means never.
"""

from collections.abc import Callable

import jax

from imagen_jax.errors import UserError
from imagen_jax.interfaces import Batch
from imagen_jax.stage import Params
from imagen_jax.train_config import TrainConfig
from imagen_jax.training.health.monitor import HealthMonitor
from imagen_jax.training.heldout_draws import HELDOUT_LOSS
from imagen_jax.training.progress import Progress
from imagen_jax.training.state import TrainState, ema_names

PreviewFn = Callable[[int, Params], dict[str, float]]
HeldoutFn = Callable[[dict[str, Params]], dict[str, float]]


class Observer:
    """What is looked at after each step; all processes must call it."""

    def __init__(
        self,
        settings: TrainConfig,
        start: int,
        progress: Progress,
        *,
        monitor: HealthMonitor | None = None,
        preview_fn: PreviewFn | None = None,
        heldout_fn: HeldoutFn | None = None,
    ):
        """Measures nothing yet.

        Args:
          settings: the periods.
          start: steps taken so far.
          progress: where it is told.
          monitor: of the run's health.
          preview_fn: (step, averaged parameters) -> metrics.
          heldout_fn: all averaged parameters by decay -> metrics.
        """
        self._settings = settings
        self._first = start + 1
        self._progress = progress
        self._monitor = monitor
        self._preview_fn = preview_fn
        self._heldout_fn = heldout_fn

    def after_step(
        self, step: int, state: TrainState, batch: Batch, metrics: dict[str, jax.Array]
    ) -> float | None:
        """Measures what is due.

        Args:
          step: the step just taken.
          state: after it.
          batch: that it took, text as embeddings.
          metrics: that it gave.

        Returns:
          The held-out loss, if it was measured.

        Raises:
          UserError: too many updates in a row were not finite.
        """
        settings = self._settings
        first = step == self._first
        if first or is_due(step, settings.log_every, settings):
            values = to_floats(metrics)
            self._progress.log_step(values)
            stop_if_diverged(values, settings.max_skipped_in_row, step)
        if self._monitor and (first or is_due(step, settings.health_every, settings)):
            report = self._monitor.report(state, batch, to_floats(metrics))
            self._progress.log_between(report.values, report.text)
        if self._preview_fn and is_due(step, settings.preview_every, settings):
            ema_params = state.ema_params[ema_names(settings)[0]]
            self._progress.log_between(self._preview_fn(step, ema_params))
        if self._heldout_fn and is_due(step, settings.heldout_every, settings):
            losses = self._heldout_fn(state.ema_params)
            self._progress.log_between(losses)
            return losses[HELDOUT_LOSS]
        return None


def is_due(step: int, period: int, settings: TrainConfig) -> bool:
    """Returns whether what has this period is due after a step; 0 means never."""
    return period > 0 and (step == settings.num_steps or step % period == 0)


def to_floats(metrics: dict[str, jax.Array]) -> dict[str, float]:
    """Returns a step's metrics on the host, which waits for the step."""
    return {name: float(value) for name, value in jax.device_get(metrics).items()}


def stop_if_diverged(values: dict[str, float], limit: int, step: int) -> None:
    """Raises a UserError after too many non-finite updates in a row."""
    if values["num_skipped_in_row"] >= limit:
        raise UserError(
            f"{int(values['num_skipped_in_row'])} updates in a row up to step {step} "
            "were not finite (train.max_skipped_in_row); lower "
            "optimizer.learning_rate or set optimizer.clip_norm"
        )
