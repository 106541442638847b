"""One queue with a limit and one worker: the model draws for one visitor at a time."""

import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

from imagen_jax.errors import UserError

FIRST_GUESS_SEC = 30.0  # of a job's length, until one has ended
CLOSING_SEC = 10.0  # that the end waits for a call of a stage


class FullQueueError(UserError):
    """The queue is full.

    Attributes:
      retry_after_sec: when to ask again, a guess, at least 1.
    """

    def __init__(self, waiting: int, retry_after_sec: int):
        """Says how many wait."""
        super().__init__(
            f"the queue is full: one request is being drawn and {waiting} wait; try "
            f"again in {retry_after_sec} s"
        )
        self.retry_after_sec = retry_after_sec


class GivenUpError(Exception):
    """Raised inside a job that nobody waits for any more."""


class Waiting(NamedTuple):
    """A job's place has changed.

    Attributes:
      ahead: jobs before it, the running one among them; 0 = it begins.
    """

    ahead: int


class Job:
    """A piece of work, from its place in the queue to its result.

    Attributes:
      done: its result or exception; `GivenUpError` as soon as nobody waits for it.
    """

    def __init__(self, work: Callable[["Job"], Any], tell: Callable[[Any], None]):
        """Starts nothing; see `JobQueue.submit`."""
        self.done: Future[Any] = Future()
        self.tell = tell
        self._work = work
        self._settling = threading.Lock()

    def give_up(self) -> None:
        """Says that nobody waits for it; running, it ends at its next `check`."""
        self._settle(self.done.set_exception, GivenUpError())

    @property
    def is_given_up(self) -> bool:
        """Whether it was given up before it was done."""
        return self.done.done() and isinstance(self.done.exception(), GivenUpError)

    def check(self) -> None:
        """Raises `GivenUpError` if nobody waits for it; called by the work."""
        if self.is_given_up:
            raise GivenUpError

    def run(self) -> None:
        """Does the work; its result or exception goes to `done`."""
        try:
            self._settle(self.done.set_result, self._work(self))
        except (UserError, GivenUpError) as error:
            self._settle(self.done.set_exception, error)
        except Exception as error:  # a fault of ours must not end the worker
            traceback.print_exc()
            self._settle(self.done.set_exception, error)

    def _settle(self, set_fn: Callable[[Any], None], value: Any) -> None:
        with self._settling:
            if not self.done.done():
                set_fn(value)


class JobQueue:
    """Runs jobs one after the other, in the order in which they came."""

    def __init__(self, limit: int):
        """Starts the worker.

        Args:
          limit: jobs that may wait besides the running one, at least 0.
        """
        self.limit = limit
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._stopped = False
        self._job_sec = FIRST_GUESS_SEC
        self._worker = threading.Thread(target=self._work, name="draw", daemon=True)
        self._worker.start()

    def submit(
        self,
        work: Callable[[Job], Any],
        tell: Callable[[Any], None] = lambda event: None,
    ) -> Job:
        """Returns a job that waits for its turn.

        Args:
          work: called with the job; gives its result. It should call `Job.check` now
            and then.
          tell: called with `Waiting` as the place changes, and with what the work
            tells, on any thread; it must not raise.

        Raises:
          FullQueueError: `limit` jobs wait already.
        """
        job = Job(work, tell)
        with self._changed:
            self._drop_given_up()
            waiting = len(self._waiting)
            if waiting + (self._running is not None) > self.limit:
                seconds = min(self._job_sec * (waiting + 1), 3600.0)
                raise FullQueueError(waiting, max(math.ceil(seconds), 1))
            if self._stopped:
                job.give_up()
                return job
            self._waiting.append(job)
            self._changed.notify()
            if ahead := waiting + (self._running is not None):
                tell(Waiting(ahead))
        return job

    def stop(self) -> None:
        """Gives up every job; those that come are given up too."""
        with self._changed:
            self._stopped = True
            jobs = [self._running, *self._waiting]
            self._changed.notify()
        for job in filter(None, jobs):
            job.give_up()

    def close(self) -> None:
        """Stops, and waits until the worker has ended, but not for a long call."""
        self.stop()
        self._worker.join(timeout=CLOSING_SEC)

    @property
    def num_waiting(self) -> int:
        """Jobs that wait, without the running one."""
        with self._changed:
            self._drop_given_up()
            return len(self._waiting)

    @property
    def is_busy(self) -> bool:
        """Whether a job runs."""
        return self._running is not None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if job.is_given_up:
                continue
            job.tell(Waiting(0))
            start = time.monotonic()
            job.run()
            if not job.is_given_up:
                self._job_sec = time.monotonic() - start

    def _next(self) -> Job | None:
        """Returns the next job, or None when the queue is stopped."""
        with self._changed:
            self._running = None
            while not (self._waiting or self._stopped):
                self._changed.wait()
                self._drop_given_up()
            if self._stopped:
                return None
            self._running = self._waiting.popleft()
            for ahead, job in enumerate(self._waiting, 1):
                job.tell(Waiting(ahead))
            return self._running

    def _drop_given_up(self) -> None:
        """Takes jobs out that nobody waits for; with the lock held."""
        kept = [job for job in self._waiting if not job.is_given_up]
        self._waiting = deque(kept)
