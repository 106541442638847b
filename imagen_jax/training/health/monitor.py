"""Reports on a run's health, at its start and on a period (`train.health_every`)."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from imagen_jax.interfaces import Batch
from imagen_jax.parallel.sharding import replicated
from imagen_jax.stage import Stage
from imagen_jax.training.health.batch import batch_facts
from imagen_jax.training.health.errors import error_facts
from imagen_jax.training.health.faults import Finding
from imagen_jax.training.health.findings import (
    bins,
    error_findings,
    gradient_findings,
    low_res_findings,
    movement_findings,
    picture_findings,
    target_finding,
    text_findings,
)
from imagen_jax.training.health.target import target_facts
from imagen_jax.training.health.weights import MovementMeter
from imagen_jax.training.state import TrainState

CHANNELS = ("red", "green", "blue")
LEARNED_AFTER = 1000  # steps after which a stage must have learned something


class Report(NamedTuple):
    """What was found at a step; `values` are its figures for the metrics file."""

    step: int
    findings: list[Finding]
    values: dict[str, float]

    @property
    def faults(self) -> list[Finding]:
        """The findings that say what is wrong."""
        return [finding for finding in self.findings if finding.fault]

    @property
    def text(self) -> str:
        """The report as lines."""
        lines = [line for finding in self.findings for line in finding.lines]
        return "\n".join([f"health at step {self.step}:", *lines])


class HealthMonitor:
    """Measures and reports; remembers the weights of its last report in few numbers.

    In a run of several processes all of them make one, and call it together.
    """

    def __init__(
        self,
        stage: Stage,
        root_key: jax.Array,
        state: TrainState | None = None,
        mesh: Mesh | None = None,
    ):
        """Notes where the weights are.

        Args:
          stage: the stage.
          root_key: the run's key.
          state: before the first step of this start; None = `note` is called later.
          mesh: the devices; None where the arrays are on one.
        """
        self._config = stage.config
        self._root_key = root_key
        self._meter = MovementMeter(mesh)
        sharding = None if mesh is None else replicated(mesh)

        def compiled(facts_fn: Callable) -> Callable:
            of_stage = functools.partial(facts_fn, stage)
            return jax.jit(of_stage, out_shardings=sharding)

        self._batch_facts = compiled(batch_facts)
        self._target_facts = compiled(target_facts)
        self._error_facts = compiled(error_facts)
        if state is not None:
            self.note(state)

    def note(self, state: TrainState) -> None:
        """Remembers where the weights are; `report` says how far they moved since."""
        self._meter.measure(state)

    def inspect(self, step: int, batch: Batch) -> Report:
        """Returns what is found in a batch, and in the loss; it needs no weights.

        Args:
          step: steps taken.
          batch: a global batch.
        """
        count = jnp.int32(step)
        # One after another; `parallel.checksums` has the reason.
        facts = jax.device_get(self._batch_facts(self._root_key, count, batch))
        target = jax.device_get(self._target_facts(self._root_key, count, batch))
        findings = [
            *picture_findings(facts),
            *text_findings(self._config, facts),
            *low_res_findings(self._config, facts),
            target_finding(self._config, target),
        ]
        values = {
            "health/dropped_share": float(facts.dropped_share),
            "health/empty_share": float(facts.empty_share),
        }
        return Report(step, findings, values)

    def report(
        self,
        state: TrainState,
        batch: Batch,
        metrics: Mapping[str, float],
        *,
        must_have_learned: bool | None = None,
    ) -> Report:
        """Returns all that is found now; how far weights moved since the last call.

        Args:
          state: after a step.
          batch: the global batch of that step, or any other.
          metrics: of that step, on the host, with "learning_rate", "num_skipped_in_row"
            and "grad_norm/BLOCK".
          must_have_learned: whether a loss that is still that of a constant is a fault;
            None = after `LEARNED_AFTER` steps.
        """
        config, step = self._config, int(state.step)
        if must_have_learned is None:
            must_have_learned = step >= LEARNED_AFTER
        moved = self._meter.measure(state)
        errors = jax.device_get(
            self._error_facts(state.params, self._root_key, state.step, batch)
        )
        inspected = self.inspect(step, batch)
        findings = [
            *inspected.findings,
            *movement_findings(moved, metrics),
            *gradient_findings(metrics, step),
            *error_findings(config, errors, must_have_learned=must_have_learned),
        ]
        values = dict(inspected.values)
        values |= {f"health/moved/{name}": value for name, value in moved.items()}
        ratios = errors.learned / errors.constant
        for (low, high), ratio in zip(bins(), ratios, strict=True):
            values[f"health/error_ratio/logsnr_{low:+.0f}_{high:+.0f}"] = float(ratio)
        if config.is_super_resolution:
            for name, drift in zip(CHANNELS, errors.colour_drift, strict=True):
                values[f"health/colour_drift/{name}"] = 127.5 * float(drift)
        return Report(step, findings, values)
