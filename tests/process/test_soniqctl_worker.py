"""`soniqctl worker` as real processes on PostgreSQL: nothing supervises them but they themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from soniqd import Soniq
from tests.support.waiting import eventually

BIN = Path(sys.executable).parent
JOBS = """
import asyncio, os, pathlib
from soniqd import JobContext, Soniq

app = Soniq()


@app.job(name="wait_for")
async def wait_for(folder: str, context: JobContext):
    folder = pathlib.Path(folder)
    with (folder / "runs").open("a") as file:
        file.write(f"{context.job_id} {os.getpid()}\\n")
    while not (folder / "release").exists():
        await asyncio.sleep(0.01)
    return os.getpid()
"""
FAST_SWEEP = {
    "SONIQ_HEARTBEAT_INTERVAL": "0.2",
    "SONIQ_HEARTBEAT_TIMEOUT": "1.5",
    "SONIQ_CLEANUP_INTERVAL": "0.3",
    "SONIQ_POOL_MIN_SIZE": "1",
}

StartWorker = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start_worker(tmp_path: Path, postgres_url: str) -> Iterator[StartWorker]:
    """Start `soniqctl worker`; all of them are gone after the test."""
    (tmp_path / "waiting_jobs.py").write_text(JOBS)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("SONIQ_")} | FAST_SWEEP
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        command = [*wrapper, str(BIN / "soniqctl"), "--database-url", postgres_url, "worker", *options]
        with (tmp_path / f"worker-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--jobs-modules", "waiting_jobs"], cwd=tmp_path, env=environ, stdout=log, stderr=log
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@pytest.fixture
async def app(postgres_url: str) -> AsyncIterator[Soniq]:
    async with Soniq(database_url=postgres_url, enqueue_validation="none", pool_min_size=1) as producer:
        yield producer


def runs(tmp_path: Path) -> list[tuple[str, int]]:
    path = tmp_path / "runs"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def log(tmp_path: Path, index: int) -> str:
    return (tmp_path / f"worker-{index}.log").read_text()


async def until_done(app: Soniq, job_id: str) -> dict[str, object]:
    async def done() -> dict[str, object] | None:
        job = await app.get_job(job_id)
        return dict(job) if job is not None and job["status"] == "done" else None

    return await eventually(done, timeout_s=20, message="the job is done") or {}


async def test_a_worker_stopped_past_its_timeout_finds_its_job_done_and_goes_on_as_another(
    start_worker: StartWorker, app: Soniq, tmp_path: Path
) -> None:
    sleeper = start_worker()
    job_id = await app.enqueue("wait_for", args={"folder": str(tmp_path)})
    await eventually(lambda: runs(tmp_path) == [(job_id, sleeper.pid)], timeout_s=20)
    sleeper.send_signal(signal.SIGSTOP)
    other = start_worker()
    await eventually(lambda: runs(tmp_path)[1:] == [(job_id, other.pid)], timeout_s=20)
    (tmp_path / "release").touch()
    done = await until_done(app, job_id)
    assert (done["result"], done["attempts"], done["crashes"]) == (other.pid, 1, 1)

    sleeper.send_signal(signal.SIGCONT)
    await eventually(lambda: "its late done is refused" in log(tmp_path, 0), timeout_s=20)
    await eventually(lambda: "it goes on as" in log(tmp_path, 0), timeout_s=20)
    assert await app.get_job(job_id) == done
    assert [queue["done"] for queue in await app.get_queue_stats()] == [1]

    other.terminate()
    assert other.wait(20) == 0
    next_id = await app.enqueue("wait_for", args={"folder": str(tmp_path)})
    assert (await until_done(app, next_id))["result"] == sleeper.pid


async def test_the_job_of_a_killed_run_once_worker_runs_elsewhere(
    start_worker: StartWorker, app: Soniq, tmp_path: Path
) -> None:
    job_id = await app.enqueue("wait_for", args={"folder": str(tmp_path)})
    killed = start_worker("--run-once")
    await eventually(lambda: runs(tmp_path) == [(job_id, killed.pid)], timeout_s=20)
    killed.kill()
    killed.wait(10)
    other = start_worker()
    await eventually(lambda: runs(tmp_path)[1:] == [(job_id, other.pid)], timeout_s=20)
    (tmp_path / "release").touch()
    assert (await until_done(app, job_id))["result"] == other.pid


def _can_make_pid_namespaces() -> bool:
    try:
        return subprocess.run([*AS_PID_1, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


AS_PID_1 = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")


@pytest.mark.skipif(not _can_make_pid_namespaces(), reason="this system does not let its users make pid namespaces")
async def test_a_container_that_is_killed_and_starts_again_as_pid_1_of_the_same_host_works_on(
    start_worker: StartWorker, app: Soniq, tmp_path: Path
) -> None:
    job_id = await app.enqueue("wait_for", args={"folder": str(tmp_path)})
    for life in (1, 2, 3):
        container = start_worker(wrapper=AS_PID_1)
        await eventually(lambda: runs(tmp_path) == [(job_id, 1)] * life, timeout_s=20)  # noqa: B023  called at once
        if life < 3:
            container.kill()
            container.wait(10)
    (tmp_path / "release").touch()
    done = await until_done(app, job_id)
    assert (done["result"], done["crashes"]) == (1, 2)
