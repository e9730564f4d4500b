"""Unsupervised workers as real processes on PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from soniqd.backends.postgres import PostgresBackend
from soniqd.model import JobId, JobRecord, NewJob
from soniqd.queue.ids import new_job_id
from tests.support.waiting import eventually

PROGRAM = Path(__file__).with_name("lone_worker.py")
FAST_SWEEP = {"heartbeat_interval": 0.2, "heartbeat_timeout": 1.5, "cleanup_interval": 0.3}

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start_worker(tmp_path: Path, postgres_url: str) -> Iterator[StartWorker]:
    """Start worker programs; they are gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**settings: Any) -> subprocess.Popen[bytes]:
        arguments = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            command = [sys.executable, str(PROGRAM), postgres_url, str(tmp_path), *arguments]
            started.append(subprocess.Popen(command, stderr=log, cwd=tmp_path))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@pytest.fixture
async def backend(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend(postgres_url)
    await backend.open()
    yield backend
    await backend.close()


def lines(tmp_path: Path, kind: str) -> list[list[str]]:
    path = tmp_path / kind
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def log(tmp_path: Path, index: int) -> str:
    return (tmp_path / f"worker-{index}.log").read_text()


async def enqueue(backend: PostgresBackend, name: str, count: int = 1) -> list[JobId]:
    return await backend.enqueue([NewJob(new_job_id(), name, "{}") for _ in range(count)])


async def until(backend: PostgresBackend, job_id: JobId, status: str, timeout_s: float = 20) -> JobRecord:
    async def reached() -> JobRecord | None:
        found = await backend.get_job(job_id)
        return found if found is not None and found["status"] == status else None

    return await eventually(reached, timeout_s=timeout_s, message=f"{job_id} is {status}")


async def until_done(backend: PostgresBackend, count: int, timeout_s: float = 60) -> None:
    async def all_done() -> bool:
        stats = await backend.queue_stats()
        return sum(queue["done"] for queue in stats) == count and all(queue["queued"] == 0 for queue in stats)

    await eventually(all_done, timeout_s=timeout_s, message=f"{count} jobs are done")


async def test_two_workers_run_two_thousand_jobs_once_each(start_worker, backend, tmp_path):
    start_worker()
    start_worker()
    await eventually(lambda: _both_live(backend), timeout_s=30)
    ids = await enqueue(backend, "quick", 2000)
    await until_done(backend, 2000)
    runs = Counter(line[0] for line in lines(tmp_path, "quick"))
    assert runs == Counter(ids)


async def _both_live(backend: PostgresBackend) -> bool:
    return len(await backend.list_workers()) == 2


async def test_the_jobs_of_a_killed_worker_run_again_with_the_next_sweep(start_worker, backend, tmp_path):
    victim = start_worker(**FAST_SWEEP)
    [job_id] = await enqueue(backend, "slow")
    await until(backend, job_id, "processing")
    start_worker(**FAST_SWEEP)
    victim.kill()
    victim.wait(10)
    await eventually(lambda: len(lines(tmp_path, "slow")) == 2, timeout_s=20)
    (tmp_path / "release").touch()
    job = await until(backend, job_id, "done")
    assert (job["crashes"], job["attempts"]) == (1, 1)


async def test_the_late_write_of_a_worker_that_was_stopped_too_long_is_refused(start_worker, backend, tmp_path):
    """Defect 1: its job was finished elsewhere; continued, it changes nothing, says so, and works on."""
    sleeper = start_worker(**FAST_SWEEP)
    [job_id] = await enqueue(backend, "slow")
    await eventually(lambda: len(lines(tmp_path, "slow")) == 1, timeout_s=20)
    sleeper.send_signal(signal.SIGSTOP)
    other = start_worker(**FAST_SWEEP)
    await eventually(lambda: len(lines(tmp_path, "slow")) == 2, timeout_s=20)
    (tmp_path / "release").touch()
    done = await until(backend, job_id, "done")
    assert done["result"] == other.pid
    sleeper.send_signal(signal.SIGCONT)
    await eventually(lambda: "job_fenced" in log(tmp_path, 0), timeout_s=20)
    after = await backend.get_job(job_id)
    assert after == done
    await eventually(lambda: "worker_renewed" in log(tmp_path, 0), timeout_s=20)
    other.kill()
    [next_id] = await enqueue(backend, "quick")
    assert (await until(backend, next_id, "done"))["result"] == sleeper.pid


async def test_a_handler_that_computes_for_long_is_not_swept(start_worker, backend, tmp_path):
    """Defect 15."""
    start_worker(**FAST_SWEEP)
    await eventually(backend.list_workers, timeout_s=20)
    start_worker(**FAST_SWEEP)
    await eventually(lambda: _both_live(backend), timeout_s=20)
    [job_id] = await enqueue(backend, "compute")
    job = await until(backend, job_id, "done", timeout_s=30)
    assert (job["crashes"], len(lines(tmp_path, "compute"))) == (0, 1)


async def test_a_drain_longer_than_the_heartbeat_timeout_is_not_swept(start_worker, backend, tmp_path):
    """Defect 2."""
    drained = start_worker(**FAST_SWEEP)
    [job_id] = await enqueue(backend, "slow")
    await until(backend, job_id, "processing")
    start_worker(**FAST_SWEEP)
    await eventually(lambda: _both_live(backend), timeout_s=20)
    drained.send_signal(signal.SIGTERM)
    await asyncio.sleep(FAST_SWEEP["heartbeat_timeout"] * 2)  # what must not happen has no event to wait for
    (tmp_path / "release").touch()
    job = await until(backend, job_id, "done")
    assert (job["result"], job["crashes"]) == (drained.pid, 0)
    assert drained.wait(10) == 0


async def test_a_second_signal_leaves_at_once_with_the_job_queued_unused(start_worker, backend, tmp_path):
    worker = start_worker()
    [job_id] = await enqueue(backend, "slow")
    await eventually(lambda: lines(tmp_path, "slow"), timeout_s=20)
    worker.send_signal(signal.SIGTERM)
    await eventually(lambda: _is_stopping(backend))
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 10) == 0
    job = await backend.get_job(job_id)
    assert job is not None
    assert (job["status"], job["attempts"], job["interruptions"]) == ("queued", 0, 1)
    assert await backend.list_workers() == []


async def _is_stopping(backend: PostgresBackend) -> bool:
    return [worker.status for worker in await backend.list_workers()] == ["stopping"]


async def test_a_thread_that_never_ends_does_not_keep_the_process(start_worker, backend, tmp_path):
    worker = start_worker(shutdown_timeout=0.2)
    [job_id] = await enqueue(backend, "endless")
    await eventually(lambda: lines(tmp_path, "endless"), timeout_s=20)
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 15) == 0
    job = await backend.get_job(job_id)
    assert job is not None
    assert (job["status"], job["attempts"]) == ("queued", 0)


async def test_a_crash_of_the_database_under_load_loses_and_doubles_nothing(
    start_worker, backend, tmp_path, postgres_server
):
    workers = [start_worker(concurrency=20), start_worker(concurrency=20)]
    await eventually(lambda: _both_live(backend), timeout_s=20)
    ids = await enqueue(backend, "short", 2000)
    await eventually(lambda: len(lines(tmp_path, "short")) > 200, timeout_s=20)
    await asyncio.to_thread(postgres_server.restart, "immediate")
    before = len(lines(tmp_path, "short"))
    await eventually(lambda: len(lines(tmp_path, "short")) > before + 40, timeout_s=5, message="back within 5 s")
    await until_done(backend, 2000)
    assert [worker.poll() for worker in workers] == [None, None]
    assert Counter(line[0] for line in lines(tmp_path, "short")) == Counter(ids)
