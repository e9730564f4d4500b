"""What must not cost a job anything: drains, deploys, and a host that stood still for a while."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from soniqd import Soniq
from soniqd.backends.postgres import PostgresBackend
from tests.support.daemon import Daemon
from tests.support.waiting import eventually

JOBS = """
import asyncio, os, pathlib
from soniqd import Soniq

app = Soniq()


@app.job(name="wait_for")
async def wait_for(folder: str):
    folder = pathlib.Path(folder)
    with (folder / "runs").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    while not (folder / "release").exists():
        await asyncio.sleep(0.01)
    return os.getpid()


@app.job(name="noop")
async def noop():
    pass


ENDINGS = {
    "nul in an error": lambda: (_ for _ in ()).throw(RuntimeError("a\\0b\\ud800")),
    "nan": lambda: {"x": float("nan")},
    "nul in a result": lambda: "a\\0b",
    "no json": lambda: object(),
    "ten megabytes": lambda: "x" * 10_000_000,
    "ten megabytes of error": lambda: (_ for _ in ()).throw(RuntimeError("x" * 10_000_000)),
}


@app.job(name="end")
async def end(how: str):
    return ENDINGS[how]()


@app.after_job
async def broken_hook(job_name):
    raise RuntimeError("a hook that raises")
"""
ENDINGS = {
    "nul in an error": "dead_letter",
    "nan": "done",
    "nul in a result": "done",
    "no json": "done",
    "ten megabytes": "done",
    "ten megabytes of error": "dead_letter",
}
FAST_SWEEP = {"heartbeat_interval": "200ms", "heartbeat_timeout": "1500ms", "interval": "300ms"}


def runs(folder: Path) -> list[int]:
    path = folder / "runs"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


async def until_done(app: Soniq, job_id: str) -> dict[str, object]:
    async def done() -> dict[str, object] | None:
        job = await app.get_job(job_id)
        return dict(job) if job is not None and job["status"] == "done" else None

    return await eventually(done, timeout_s=20, message="the job is done") or {}


async def test_deploys_without_end_use_no_attempt_of_a_long_job(tmp_path, database_url, app: Soniq):
    """More of them than a job has attempts and may have crashes."""
    job_id = await app.enqueue("wait_for", args={"folder": str(tmp_path)})
    async with Daemon(
        tmp_path, jobs=JOBS, database_url=database_url, soniqd={"drain_timeout": "50ms"}, scheduler={"enabled": False}
    ) as daemon:
        for deploy in range(1, 7):
            await daemon.eventually(lambda: len(runs(tmp_path)) == deploy)  # noqa: B023  called at once
            if deploy % 2:
                await daemon.soniqctl("reload", "--all")
            else:
                await daemon.stop()
                daemon.start()
                await daemon.ready()
        await daemon.eventually(lambda: len(runs(tmp_path)) == 7)
        job = await app.get_job(job_id)
        assert job is not None
        assert (job["status"], job["attempts"], job["crashes"], job["interruptions"]) == ("processing", 0, 0, 6)
        (tmp_path / "release").touch()
        assert (await until_done(app, job_id))["attempts"] == 1


async def test_a_drain_longer_than_the_heartbeat_timeout_is_not_swept_by_another_host(tmp_path, postgres_url):
    other_host = PostgresBackend(postgres_url)
    await other_host.open()
    async with (
        Soniq(database_url=postgres_url, enqueue_validation="none", pool_min_size=1) as app,
        Daemon(tmp_path, jobs=JOBS, database_url=postgres_url, sweep=FAST_SWEEP) as daemon,
    ):
        job_id = await app.enqueue("wait_for", args={"folder": str(tmp_path)})
        await daemon.eventually(lambda: runs(tmp_path))
        daemon.signal(signal.SIGTERM)
        await daemon.log_event("daemon_stopping")
        for _ in range(12):  # for twice the timeout; what must not happen has no event to wait for
            report = await other_host.sweep(heartbeat_timeout_s=1.5, max_crashes=3)
            assert report.workers == ()
            await asyncio.sleep(0.25)
        (tmp_path / "release").touch()
        assert await daemon.exit_code() == 0
        done = await until_done(app, job_id)
        assert (done["crashes"], len(runs(tmp_path))) == (0, 1)
    await other_host.close()


async def test_a_host_that_stood_still_past_its_timeout_finds_its_job_done_elsewhere(tmp_path, postgres_url):
    frozen_folder, other_folder = tmp_path / "frozen", tmp_path / "other"
    frozen_folder.mkdir()
    other_folder.mkdir()
    async with (
        Soniq(database_url=postgres_url, enqueue_validation="none", pool_min_size=1) as app,
        Daemon(frozen_folder, jobs=JOBS, database_url=postgres_url, sweep=FAST_SWEEP) as frozen,
    ):
        job_id = await app.enqueue("wait_for", args={"folder": str(tmp_path)})
        await frozen.eventually(lambda: runs(tmp_path))
        [first] = runs(tmp_path)
        everything = [frozen.pid, *(process.pid for process in frozen.processes())]
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)
        try:
            async with Daemon(other_folder, jobs=JOBS, database_url=postgres_url, sweep=FAST_SWEEP) as other:
                await other.eventually(lambda: len(runs(tmp_path)) == 2, timeout_s=40)  # or frozen in mid-sweep
                (tmp_path / "release").touch()
                done = await until_done(app, job_id)
                assert done["result"] == runs(tmp_path)[1] != first
                await other.stop()
        finally:
            for pid in reversed(everything):
                os.kill(pid, signal.SIGCONT)
        await frozen.log_event("job_fenced", job_id=job_id)
        await frozen.log_event("worker_disowned", slot="default/1")
        assert await app.get_job(job_id) == done
        next_id = await app.enqueue("noop")
        await until_done(app, next_id)
        assert await frozen.pid_of("default/1") != first  # the newest; the old one may still be about to leave


@pytest.mark.parametrize("count", [2000])
async def test_a_job_costs_a_fraction_of_a_transaction(tmp_path, postgres_url, postgres_server, count):
    """Claims and completions go in batches: Soniq makes fourteen round trips for a job."""
    name = postgres_url.rpartition("/")[2]
    transactions = f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}'"
    async with (
        Soniq(database_url=postgres_url, enqueue_validation="none", pool_min_size=1) as app,
        Daemon(tmp_path, jobs=JOBS, database_url=postgres_url) as daemon,
    ):
        [(before,)] = postgres_server.execute(transactions)
        await app.enqueue_many("noop", [{}] * count)

        async def all_done() -> bool:
            return (await daemon.child("default/1"))["done"] == count

        await daemon.eventually(all_done, timeout_s=60)
        await daemon.stop()
        [(after,)] = postgres_server.execute(transactions)
    assert after - before < count / 2


async def test_whatever_a_job_ends_with_it_ends(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url) as daemon:
        jobs = {how: await app.enqueue("end", args={"how": how}) for how in ENDINGS}

        async def statuses() -> dict[str, str]:
            found = {how: await app.get_job(job_id) for how, job_id in jobs.items()}
            return {how: "gone" if job is None else job["status"] for how, job in found.items()}

        async def ended() -> bool:
            return {"queued", "processing"}.isdisjoint((await statuses()).values())

        await daemon.eventually(ended, timeout_s=30)
        assert await statuses() == ENDINGS
        assert await app.get_result(jobs["ten megabytes"]) == "x" * 10_000_000
        assert daemon.running
