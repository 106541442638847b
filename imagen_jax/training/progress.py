"""What a run tells while it trains: a progress bar, metrics files, words.

Every process makes a `Progress`; only process 0 shows and writes anything.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from imagen_jax.config import StageConfig
from imagen_jax.training.hardware import flop_meter
from imagen_jax.training.metrics import MetricsWriter


class Progress:
    """The bar, the metrics and the clock of one start of a run."""

    def __init__(self, config: StageConfig, mesh: Mesh, workdir: Path, start: int):
        """Opens the bar and the metrics files.

        Args:
          config: of the stage.
          mesh: the devices, for what share of their speed is reached.
          workdir: of the run.
          start: steps taken so far.
        """
        self._config = config
        self._meter = flop_meter(config, mesh)
        self._writer = MetricsWriter(workdir, start, config.train.wandb_project)
        self._bar = tqdm(
            total=config.train.num_steps,
            initial=start,
            desc=f"train {config.name}",
            unit="step",
            mininterval=1.0,
            disable=jax.process_index() != 0,
        )
        self._step = self._timed_step = start
        self._timed_at = time.monotonic()

    def step_taken(self) -> None:
        """Moves the bar."""
        self._step += 1
        self._bar.update()

    def log_step(self, values: Mapping[str, float]) -> None:
        """Writes a step's metrics with the mean speed since the last ones.

        Args:
          values: with "loss".
        """
        step_sec = (time.monotonic() - self._timed_at) / max(
            self._step - self._timed_step, 1
        )
        pictures_per_sec = self._config.train.batch_size / step_sec
        speed = {"step_sec": step_sec, "pictures_per_sec": pictures_per_sec}
        speed |= self._meter.metrics(step_sec)
        self._writer.write(self._step, {**values, **speed})
        self._bar.set_postfix_str(
            f"loss {values['loss']:.4f}, {pictures_per_sec:.0f} pictures/s"
        )
        self._restart_clock()

    def log_between(self, values: Mapping[str, float], text: str = "") -> None:
        """Writes what was measured between two steps; its time is not the steps'.

        Args:
          values: by name.
          text: words for the console of process 0.
        """
        self._writer.write(self._step, values)
        if text and jax.process_index() == 0:
            self.say(text)
        self._restart_clock()

    def say(self, text: str) -> None:
        """Prints words above the bar, on every process."""
        self._bar.write(text)

    def close(self) -> None:
        """Flushes the files and ends the bar."""
        self._bar.close()
        self._writer.close()

    def _restart_clock(self) -> None:
        self._timed_at, self._timed_step = time.monotonic(), self._step
