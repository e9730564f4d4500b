"""Who gives a dead worker's jobs back, and when, where it is easy to do it twice or too early."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

from soniqd import Soniq
from tests.support.daemon import JOBS, Daemon
from tests.support.processes import find_process

SPIN = (
    JOBS
    + '''

@app.job(name="spin")
def spin(path: str, seconds: float = 60.0):
    """Say every millisecond that it still runs."""
    end = time.monotonic() + seconds
    with open(path, "a", buffering=1) as marks:
        while time.monotonic() < end:
            marks.write(f"{os.getpid()} {time.monotonic()}\\n")
            time.sleep(0.001)
'''
)


SHELLING = (
    JOBS
    + """

@app.job(name="shell")
def shell(command: str):
    import subprocess

    subprocess.run(["/bin/sh", "-c", command], check=False)
"""
)


def marks_by_pid(path: Path) -> dict[int, list[float]]:
    """When each process was seen at the job; what is torn by a kill is left out."""
    marks: dict[int, list[float]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        words = line.split()
        if len(words) == 2:
            marks.setdefault(int(words[0]), []).append(float(words[1]))
    return marks


def has_run(path: Path, times: int) -> bool:
    return len(marks_by_pid(path)) == times


async def test_a_thread_that_a_drain_leaves_behind_is_gone_before_its_job_begins_again(
    tmp_path, database_url, app: Soniq
):
    path = tmp_path / "marks"
    group = {"processes": 2, "concurrency": 1, "drain_timeout": 0.3}
    async with Daemon(tmp_path, jobs=SPIN, database_url=database_url, workers=group) as daemon:
        await app.enqueue("spin", args={"path": str(path)})
        await daemon.eventually(lambda: marks_by_pid(path))
        [first] = marks_by_pid(path)
        os.kill(first, signal.SIGTERM)
        await daemon.eventually(lambda: len(marks_by_pid(path)) > 1)
        [second] = marks_by_pid(path).keys() - {first}
        await daemon.eventually(lambda: first not in {process.pid for process in daemon.processes()})
        marks = marks_by_pid(path)
        assert max(marks[first]) < min(marks[second])
        os.kill(second, signal.SIGKILL)


async def test_what_a_job_started_is_gone_before_the_job_begins_again_though_its_worker_left_in_good_order(
    tmp_path, database_url, app: Soniq
):
    path = tmp_path / "marks"
    command = f"while :; do echo $$ $(cut -d' ' -f1 /proc/uptime) >> {path}; sleep 0.01; done"
    group = {"processes": 2, "concurrency": 1, "drain_timeout": 0.3}
    async with Daemon(tmp_path, jobs=SHELLING, database_url=database_url, workers=group) as daemon:
        await app.enqueue("shell", args={"command": command})
        await daemon.eventually(lambda: marks_by_pid(path))
        [first] = marks_by_pid(path)
        worker = find_process(first)
        assert worker is not None
        os.kill(worker.parent, signal.SIGTERM)
        await daemon.eventually(lambda: len(marks_by_pid(path)) > 1)
        assert not worker.alive


async def test_a_worker_that_leaves_with_a_thread_left_behind_counts_no_crash(tmp_path, database_url, app: Soniq):
    path = tmp_path / "marks"
    group = {"processes": 2, "concurrency": 1, "drain_timeout": 0.3}
    async with Daemon(tmp_path, jobs=SPIN, database_url=database_url, workers=group) as daemon:
        job_id = await app.enqueue("spin", args={"path": str(path)})
        await daemon.eventually(lambda: marks_by_pid(path))
        [first] = marks_by_pid(path)
        os.kill(first, signal.SIGTERM)
        await daemon.log_event("child_left", pid=first)
        await daemon.eventually(lambda: len(marks_by_pid(path)) > 1)
        job = await app.get_job(job_id)
        assert job is not None
        assert (job["crashes"], job["interruptions"], job["attempts"]) == (0, 1, 0)


async def test_only_its_own_master_judges_a_worker_that_died(tmp_path, postgres_url):
    """Two daemons of one host: the other one sees the death as early, and knows neither its cause nor what ran."""
    path = tmp_path / "marks"
    first, other = tmp_path / "first", tmp_path / "other"
    first.mkdir()
    other.mkdir()
    async with (
        Daemon(first, jobs=SPIN, database_url=postgres_url, workers={"concurrency": 1}) as daemon,
        Daemon(other, jobs=SPIN, database_url=postgres_url, workers={"queues": ["other"]}) as neighbour,
        Soniq(database_url=postgres_url, enqueue_validation="none", pool_min_size=1) as app,
    ):
        mark = neighbour.log.mark()
        job_id = await app.enqueue("spin", args={"path": str(path)})
        for deaths in (1, 2):
            await daemon.eventually(partial(has_run, path, deaths))
            os.kill(list(marks_by_pid(path))[-1], signal.SIGKILL)
        await daemon.eventually(partial(has_run, path, 3))
        job = await app.get_job(job_id)
        assert job is not None
        assert job["crashes"] == 2
        assert "signal 9" in str(job["last_error"])
        assert neighbour.log.find("leftovers_released", since=mark) == []
        os.kill(list(marks_by_pid(path))[-1], signal.SIGKILL)


async def test_what_a_job_started_is_gone_before_it_begins_again_though_worker_and_master_were_killed(
    tmp_path, database_url, app: Soniq
):
    path = tmp_path / "marks"
    command = f"while :; do echo $$ 0 >> {path}; sleep 0.01; done"
    async with Daemon(tmp_path, jobs=SHELLING, database_url=database_url, workers={"concurrency": 1}) as daemon:
        await app.enqueue("shell", args={"command": command})
        await daemon.eventually(lambda: marks_by_pid(path))
        [first] = marks_by_pid(path)
        left = find_process(first)
        assert left is not None
        daemon.kill_master()
        os.kill(left.parent, signal.SIGKILL)
        daemon.start()
        await daemon.eventually(lambda: len(marks_by_pid(path)) > 1)
        assert not left.alive
        await daemon.log_event("remains_killed")
