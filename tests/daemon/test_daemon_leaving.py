"""How a daemon ends: drains, deadlines, second signals."""

from __future__ import annotations

import signal
import time

import pytest

from soniqd import Soniq
from tests.support.daemon import Daemon

JOBS = """
import asyncio, time
from soniqd import Soniq

app = Soniq()


def note(path, text):
    with open(path, "a") as file:
        file.write(text + "\\n")


@app.job(name="polite")
async def polite(path: str, seconds: float):
    note(path, "start")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note(path, "cancelled")
        raise
    note(path, "end")


@app.job(name="stubborn")
async def stubborn(path: str):
    note(path, "start")
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            note(path, "refused")


@app.job(name="sync")
def sync(path: str, seconds: float):
    note(path, "start")
    time.sleep(seconds)
    note(path, "end")
"""


async def start_job(daemon: Daemon, app: Soniq, name: str, **args: object) -> str:
    path = daemon.folder / f"{name}.out"
    job_id = await app.enqueue(name, args={"path": str(path), **args})
    await daemon.eventually(path.exists)
    return job_id


async def counters(app: Soniq, job_id: str) -> tuple[str, int, int, int]:
    job = await app.get_job(job_id)
    assert job is not None
    return job["status"], job["attempts"], job["crashes"], job["interruptions"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_jobs_finish_before_the_daemon_leaves(tmp_path, database_url, app: Soniq, number):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url) as daemon:
        job_id = await start_job(daemon, app, "polite", seconds=1.5)
        assert await daemon.stop(number) == 0
        assert await counters(app, job_id) == ("done", 1, 0, 0)


async def test_a_job_past_the_drain_timeout_is_cancelled_and_requeued_without_an_attempt(
    tmp_path, database_url, app: Soniq
):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, soniqd={"drain_timeout": "1s"}) as daemon:
        job_id = await start_job(daemon, app, "polite", seconds=600)
        assert await daemon.stop() == 0
        assert await counters(app, job_id) == ("queued", 0, 0, 1)
        assert (tmp_path / "polite.out").read_text() == "start\ncancelled\n"


@pytest.mark.parametrize(("name", "args"), [("stubborn", {}), ("sync", {"seconds": 600})])
async def test_a_handler_that_will_not_end_is_released_and_left_to_the_kill(
    tmp_path, database_url, app: Soniq, name, args
):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, soniqd={"drain_timeout": "1s"}) as daemon:
        job_id = await start_job(daemon, app, name, **args)
        assert await daemon.stop() == 0
        await daemon.gone(timeout_s=1)
        assert await counters(app, job_id) == ("queued", 0, 0, 1)


async def test_a_second_signal_means_now(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, soniqd={"drain_timeout": "60s"}) as daemon:
        job_id = await start_job(daemon, app, "polite", seconds=600)
        daemon.signal(signal.SIGTERM)
        await daemon.log_event("daemon_stopping")
        began = time.monotonic()
        assert await daemon.stop() == 0
        assert time.monotonic() - began < 5
        assert await counters(app, job_id) == ("queued", 0, 0, 1)


async def test_a_second_stop_of_soniqctl_joins_the_first(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, soniqd={"drain_timeout": "60s"}) as daemon:
        job_id = await start_job(daemon, app, "polite", seconds=3)
        assert await daemon.soniqctl("stop") == "soniqd is stopping: running jobs may finish first\n"
        assert await daemon.soniqctl("stop") == "it is stopping already: 1 job may still finish\n"
        assert (await daemon.soniqctl("stop", "--wait")).splitlines()[-1] == "soniqd is gone"
        assert await daemon.exit_code() == 0
        assert await counters(app, job_id) == ("done", 1, 0, 0)


@pytest.mark.parametrize("asked_before", [False, True])
async def test_stop_now_gives_running_jobs_back(tmp_path, database_url, app: Soniq, asked_before):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, soniqd={"drain_timeout": "60s"}) as daemon:
        job_id = await start_job(daemon, app, "polite", seconds=600)
        if asked_before:
            await daemon.soniqctl("stop")
        began = time.monotonic()
        assert "soniqd is leaving now: 1 running job is given back\n" in await daemon.soniqctl("stop", "--now")
        assert await daemon.exit_code() == 0
        assert time.monotonic() - began < 5
        assert await counters(app, job_id) == ("queued", 0, 0, 1)


async def test_quit_means_now(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, soniqd={"drain_timeout": "60s"}) as daemon:
        job_id = await start_job(daemon, app, "polite", seconds=600)
        began = time.monotonic()
        assert await daemon.stop(signal.SIGQUIT) == 0
        assert time.monotonic() - began < 5
        assert await counters(app, job_id) == ("queued", 0, 0, 1)


async def test_a_worker_that_stands_still_is_killed_at_its_drain_deadline_and_counts_no_crash(
    tmp_path, database_url, app: Soniq
):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url, soniqd={"drain_timeout": "1s"}) as daemon:
        job_id = await start_job(daemon, app, "polite", seconds=600)
        await daemon.freeze("default/1")
        assert await daemon.stop(timeout_s=20) == 0
        assert await counters(app, job_id) == ("queued", 0, 0, 1)


async def test_a_worker_told_to_end_by_its_pid_drains_and_is_replaced(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url) as daemon:
        job_id = await start_job(daemon, app, "polite", seconds=1)
        mark = daemon.log.mark()
        await daemon.kill("default/1", signal.SIGTERM)
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        assert await counters(app, job_id) == ("done", 1, 0, 0)


async def test_a_hung_loop_is_found_and_its_job_runs_again(tmp_path, database_url, app: Soniq):
    hang = """
    import os, time
    from soniqd import Soniq

    app = Soniq()


    @app.job(name="hang")
    async def hang(path: str):
        first = not os.path.exists(path)
        with open(path, "a") as file:
            file.write("start\\n")
        if first:
            time.sleep(600)
    """
    out = tmp_path / "out"
    async with Daemon(tmp_path, jobs=hang, database_url=database_url, workers={"hang_timeout": "2s"}) as daemon:
        job_id = await app.enqueue("hang", args={"path": str(out)})
        await daemon.log_event("child_hung")

        async def done() -> bool:
            return (await counters(app, job_id))[:3] == ("done", 1, 1)

        await daemon.eventually(done)
        assert "time.sleep(600)" in daemon.log.path.read_text() or "in hang" in daemon.log.path.read_text()
        await daemon.ready()
