"""Healthy workers that are replaced: by runs, by age and by memory, and without a job that notices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from soniqd import Soniq
from tests.support.daemon import Daemon
from tests.support.proc_files import private_mib

JOBS = """
import asyncio, os
from soniqd import Soniq

app = Soniq()
kept = []
SHARED = bytes(range(256)) * 4 * 200_000  # 200 MB that all children share


@app.job(name="mark")
async def mark(path: str, seconds: float = 0.0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{os.getpid()}\\n".encode())
    os.close(fd)
    await asyncio.sleep(seconds)


@app.job(name="leak")
async def leak(megabytes: int):
    kept.append(os.urandom(1_000_000) * megabytes)
    return os.getpid()
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def working(status: dict[str, Any]) -> int:
    return sum(child["role"] == "worker" and child["state"] == "running" for child in status["children"])


async def result(daemon: Daemon, app: Soniq, job_id: str) -> dict[str, Any]:
    async def done() -> dict[str, Any] | None:
        job = await app.get_job(job_id)
        return dict(job) if job is not None and job["status"] == "done" else None

    return dict(await daemon.eventually(done, message="the job is done"))


async def test_a_worker_is_replaced_after_its_runs_and_every_job_runs_once(tmp_path, database_url, app: Soniq):
    out = tmp_path / "out"
    workers = {"processes": 2, "max_jobs": 40, "concurrency": 4}
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers=workers) as daemon:
        least, jobs = 1000, 0
        while len({record["slot"] for record in daemon.log.find("child_recycled")}) < 2:
            jobs += 100
            await app.enqueue_many("mark", [{"path": str(out), "seconds": 0.02} for _ in range(100)])
            while len(lines(out)) < jobs:
                least = min(least, working(await daemon.status()))
                await asyncio.sleep(0.02)
        assert least >= 2
        assert daemon.log.find("child_died") == []
        await daemon.stop()
    assert len(lines(out)) == jobs
    assert len(set(lines(out))) >= 3


async def test_a_recycled_workers_job_may_end_in_peace_beside_its_replacement(tmp_path, database_url, app: Soniq):
    out = tmp_path / "out"
    workers = {"max_age": "1500ms", "concurrency": 1, "drain_timeout": "30s"}
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers=workers) as daemon:
        job_id = await app.enqueue("mark", args={"path": str(out), "seconds": 4.0})
        recycled = await daemon.log_event("child_recycled", slot="default/1")
        await daemon.log_event("child_ready", since=daemon.log.records.index(recycled))
        await app.enqueue("mark", args={"path": str(out)})
        await daemon.eventually(lambda: len(lines(out)) == 2, timeout_s=4)
        job = await result(daemon, app, job_id)
        assert (job["attempts"], job["crashes"], job["interruptions"]) == (1, 0, 0)
    assert lines(out)[0] == str(recycled["pid"])
    assert lines(out)[1] != lines(out)[0]


async def test_a_worker_that_leaks_is_replaced_and_memory_that_is_shared_does_not_count(
    tmp_path, database_url, app: Soniq
):
    workers = {"max_memory": "120MB", "concurrency": 1}
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, workers=workers) as daemon:
        job = await result(daemon, app, await app.enqueue("leak", args={"megabytes": 20}))
        pid = await daemon.pid_of("default/1")
        mark = daemon.log.mark()
        await daemon.eventually(lambda: private_mib(pid) > 20)
        await app.enqueue("leak", args={"megabytes": 150})
        recycled = await daemon.log_event("child_recycled", since=mark, timeout_s=20)
        assert recycled["pid"] == pid
        assert recycled["reason"].startswith("2 runs with 1")
        await daemon.eventually(lambda: _other(daemon, pid))
        assert job["attempts"] == 1


async def _other(daemon: Daemon, pid: int) -> bool:
    children = [child for child in (await daemon.status())["children"] if child["role"] == "worker"]
    return len(children) == 1 and children[0]["pid"] != pid and children[0]["state"] == "running"
