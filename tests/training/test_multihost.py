"""Two processes that train together; slow, as each starts from nothing."""

import pytest

from tests.hosts import Job, write_files
from tests.kill import check_all, end_all


@pytest.mark.slow
def test_interrupted_runs_of_two_processes_equal_an_uninterrupted_one(tmp_path):
    check_all(tmp_path, times=5, seed=0)


@pytest.mark.slow
def test_a_workdir_that_the_hosts_do_not_share_is_refused_by_all(tmp_path):
    write_files(tmp_path)
    job = Job(tmp_path, tmp_path / "run")
    processes = job.start(
        own_flags=(f"--workdir={tmp_path}/disk-0", f"--workdir={tmp_path}/disk-1")
    )
    try:
        assert [process.wait(200) for process in processes] == [2, 2]
    finally:
        end_all(processes)
    for index in range(2):
        lines = job.log(index).read_text().splitlines()
        assert (
            f"error: process 1: --workdir={tmp_path}/disk-1 is not the folder that "
            "process 0 sees; give one on a disk that all hosts share"
        ) in lines
        assert not any("Traceback" in line for line in lines)
    assert list((tmp_path / "disk-0").iterdir()) == []
    assert not (tmp_path / "disk-1").exists()
