"""A checked request through the pipeline, to PNG files that carry their recipes."""

import re
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.app.jobs import Job, JobQueue
from imagen_jax.app.requests import Limits, Request
from imagen_jax.pipeline import Pipeline
from imagen_jax.sampling.cascade import Part
from imagen_jax.sampling.editing import Editing
from imagen_jax.sampling.plan import Plan
from imagen_jax.sampling.png_text import write_png
from imagen_jax.sampling.recipe import Recipe

KEPT = 4096  # prompts whose remarks are remembered


class Arrived(NamedTuple):
    """Pictures that a stage has made; told while a request is drawn.

    Attributes:
      stage: its number from 0, the base.
      start: index of the first picture.
      files: of the pictures.
    """

    stage: int
    start: int
    files: list[Path]


class Drawn(NamedTuple):
    """A request's pictures.

    Attributes:
      folder: where all files of the request are; the caller's to remove.
      stages: the pictures' files of each stage, from the base up.
      recipes: of the last stage's pictures.
      remarks: sentences on the prompts or the picture, mostly none.
      seconds: that the drawing took.
    """

    folder: Path
    stages: list[list[Path]]
    recipes: list[Recipe]
    remarks: list[str]
    seconds: float


class Remarks:
    """What the pipeline says, kept for whom it concerns. Give it to `load` as `say`."""

    def __init__(self):
        """Has heard nothing."""
        self._heard: list[str] = []

    def __call__(self, text: str) -> None:
        """Notes a remark."""
        self._heard.append(text)

    @contextmanager
    def heard(self) -> Iterator[list[str]]:
        """Yields a list of what is said inside the block, by one thread at a time."""
        before, self._heard = self._heard, []
        try:
            yield self._heard
        finally:
            self._heard = before


class Studio:
    """Draws requests, one at a time, in the order in which they come.

    Attributes:
      model: the cascade.
      limits: of a request.
      queue: the requests that wait.
    """

    def __init__(
        self,
        model: Pipeline,
        remarks: Remarks,
        limits: Limits,
        *,
        queue_limit: int,
        batch_size: int,
        folder: Path,
    ):
        """Starts the worker.

        Args:
          model: loaded with `remarks` as its `say`.
          remarks: what the model says.
          limits: of a request.
          queue_limit: requests that may wait.
          batch_size: pictures in a call of a stage. Always the same, as the stages are
            compiled for it.
          folder: for the files.

        Raises:
          UserError: more steps in `limits` than a stage resolves, or a batch size
            below 1.
        """
        for steps in (None, *limits.steps):
            model.plan("", steps=steps, batch_size=batch_size)
        self.model, self.limits = model, limits
        self.queue = JobQueue(queue_limit)
        self._remarks = remarks
        self._batch_size = batch_size
        self._folder = folder
        self._remarks_on: OrderedDict[str, tuple[list[str], list[str]]] = OrderedDict()

    def submit(
        self, request: Request, tell: Callable[[Any], None] = lambda event: None
    ) -> Job:
        """Returns the job that draws a request; its result is a `Drawn`.

        Args:
          request: what to draw.
          tell: called with `jobs.Waiting` and `Arrived`, on another thread.

        Raises:
          FullQueueError: too many wait.
        """
        return self.queue.submit(lambda job: self._draw(job, request), tell)

    def _draw(self, job: Job, request: Request) -> Drawn:
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            drawn = self._draw_into(folder, job, request)
            job.check()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return drawn

    def _draw_into(self, folder: Path, job: Job, request: Request) -> Drawn:
        start = time.monotonic()
        on_text, on_prompt = self._read(request.prompt)
        remarks = [*on_text, *on_prompt, *self._read(request.negative)[0]]
        with self._remarks.heard() as said:
            editing = None
            if request.editing is not None:
                editing = self.model.fit(request.editing)
            plan = self.model.plan(
                request.prompt,
                negative=request.negative,
                seeds=request.seeds,
                batch_size=self._batch_size,
                **request.options,
            )
            stages: list[list[Path]] = [[] for _ in self.model.names]

            def report(part: Part) -> None:
                number = self.model.names.index(part.stage)
                files = self._write(folder, plan, editing, part)
                stages[number] += files
                job.tell(Arrived(number, part.start, files))
                job.check()

            self.model.draw(plan, report, editing)
        last = self.model.names[-1]
        recipes = [
            self.model.recipe(plan, i, last, editing) for i in range(len(plan.seeds))
        ]
        remarks = [*dict.fromkeys(remarks + said)]
        return Drawn(folder, stages, recipes, remarks, time.monotonic() - start)

    def _write(
        self, folder: Path, plan: Plan, editing: Editing | None, part: Part
    ) -> list[Path]:
        """Writes a part's pictures; returns their files."""
        files = []
        for i, picture in enumerate(part.pictures, part.start):
            words = re.findall(r"[a-z0-9]+", plan.prompts[i].lower())
            name = f"{'-'.join(words)[:40] or 'picture'}_{plan.seeds[i]}_{i}"
            files.append(folder / f"{name}_{len(picture)}px.png")
            recipe = self.model.recipe(plan, i, part.stage, editing)
            write_png(files[-1], picture, recipe)
        return files

    def _read(self, text: str) -> tuple[list[str], list[str]]:
        """Returns the remarks on a text, and those on it as a prompt.

        The model makes each once only, and every visitor is to have them.
        """
        if text not in self._remarks_on:
            with self._remarks.heard() as on_text:
                self.model.text([text])
            with self._remarks.heard() as on_prompt:
                self.model.text.remark([text])
            self._remarks_on[text] = on_text, on_prompt
            if len(self._remarks_on) > KEPT:
                self._remarks_on.popitem(last=False)
        return self._remarks_on[text]
