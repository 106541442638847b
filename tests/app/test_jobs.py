"""The queue: order, limit, places, and jobs that nobody waits for any more."""

import threading

import pytest

from imagen_jax.app.jobs import FullQueueError, GivenUpError, JobQueue, Waiting
from imagen_jax.errors import UserError


@pytest.fixture
def queue():
    queue = JobQueue(limit=2)
    yield queue
    queue.close()


class Gate:
    """Work that goes on until it is let through."""

    def __init__(self):
        self.began, self.opened = threading.Event(), threading.Event()

    def __call__(self, job):
        self.began.set()
        assert self.opened.wait(10)
        job.check()
        return "through"


def hold(queue):
    """Returns the work that keeps the queue busy, and its job, once it runs."""
    gate = Gate()
    job = queue.submit(gate)
    assert gate.began.wait(10)
    return gate, job


def test_jobs_run_in_order_one_at_a_time(queue):
    gate, first = hold(queue)
    done = []
    others = [queue.submit(lambda job, i=i: done.append(i)) for i in range(2)]
    assert (queue.is_busy, queue.num_waiting) == (True, 2)
    assert done == []
    gate.opened.set()
    assert first.done.result(10) == "through"
    for job in others:
        job.done.result(10)
    assert done == [0, 1]


def test_a_full_queue_refuses_in_one_sentence_and_takes_jobs_again_later(queue):
    gate, first = hold(queue)
    jobs = [queue.submit(lambda job: None) for _ in range(2)]
    with pytest.raises(FullQueueError, match=r"the queue is full: one .* and 2 wait"):
        queue.submit(lambda job: None)
    gate.opened.set()
    for job in (first, *jobs):
        job.done.result(10)
    assert queue.submit(lambda job: 7).done.result(10) == 7


def test_the_time_to_come_back_grows_with_the_queue():
    queue = JobQueue(limit=0)
    gate, first = hold(queue)
    with pytest.raises(FullQueueError) as short:
        queue.submit(lambda job: None)
    queue.limit = 2
    jobs = [queue.submit(lambda job: None) for _ in range(2)]
    with pytest.raises(FullQueueError) as long:
        queue.submit(lambda job: None)
    assert 1 <= short.value.retry_after_sec < long.value.retry_after_sec
    gate.opened.set()
    for job in (first, *jobs):
        job.done.result(10)
    queue.close()


def test_a_job_is_told_its_place(queue):
    gate, _ = hold(queue)
    told = []
    jobs = [queue.submit(lambda job: None, told.append) for _ in range(2)]
    assert told == [Waiting(1), Waiting(2)]
    gate.opened.set()
    jobs[1].done.result(10)
    # The first one's turn; then the second is next, and its turn.
    assert told[2:] == [Waiting(1), Waiting(0), Waiting(0)]


def test_a_waiting_job_given_up_makes_room_and_never_runs(queue):
    gate, first = hold(queue)
    ran = []
    left = [queue.submit(ran.append) for _ in range(2)]
    left[0].give_up()
    assert queue.num_waiting == 1
    last = queue.submit(lambda job: ran.append("last"))
    left[1].give_up()
    gate.opened.set()
    first.done.result(10)
    last.done.result(10)
    assert ran == ["last"]
    with pytest.raises(GivenUpError):
        left[0].done.result(10)


def test_a_running_job_given_up_ends_at_its_check(queue):
    gate, job = hold(queue)
    job.give_up()
    with pytest.raises(GivenUpError):  # at once
        job.done.result(0)
    assert queue.is_busy
    gate.opened.set()
    assert queue.submit(lambda job: 1).done.result(10) == 1
    with pytest.raises(GivenUpError):
        job.done.result(0)


@pytest.mark.parametrize("error", [UserError("no"), ZeroDivisionError("ours")])
def test_a_job_that_fails_does_not_end_the_worker(queue, error, capfd):
    def fail(job):
        raise error

    with pytest.raises(type(error)):
        queue.submit(fail).done.result(10)
    assert queue.submit(lambda job: 1).done.result(10) == 1
    assert ("Traceback" in capfd.readouterr().err) == (type(error) is not UserError)


def test_closing_gives_up_all_jobs():
    queue = JobQueue(limit=2)
    gate, running = hold(queue)
    waiting = queue.submit(lambda job: 1)
    queue.stop()
    late = queue.submit(lambda job: 1)
    for job in (running, waiting, late):
        with pytest.raises(GivenUpError):
            job.done.result(0)
    gate.opened.set()
    queue.close()
    assert not queue._worker.is_alive()
