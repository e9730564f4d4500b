"""An event loop that stands still is told early, ended late, and blamed on the job that blocks it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from soniqd import Soniq
from tests.support.daemon import Daemon

JOBS = '''
import asyncio, pathlib, re, time
from soniqd import Soniq

app = Soniq()


@app.job(name="sleeper")
async def sleeper(seconds: float = 60.0):
    time.sleep(seconds)


@app.job(name="spinner")
async def spinner():
    while True:
        pass


@app.job(name="holder")
async def holder():
    """C code that keeps the interpreter's lock, for ever so long."""
    re.match(r"(a|aa)+$", "a" * 80 + "b")


@app.job(name="computer")
async def computer(least_s: float):
    """One call of C code after the other, each of which keeps the lock to its end."""
    began = time.monotonic()
    numbers = 50_000_000
    while time.monotonic() - began < least_s:
        numbers *= 2
        sum(range(numbers))


@app.job(name="nested")
async def nested():
    """What blocks is a task that the job has started."""

    async def inner():
        time.sleep(60)

    await asyncio.create_task(inner())


@app.job(name="waiter")
async def waiter(until: str):
    while not pathlib.Path(until).exists():
        await asyncio.sleep(0.05)


@app.job(name="long_await")
async def long_await(seconds: float):
    await asyncio.sleep(seconds)


@app.job(name="long_call")
def long_call(seconds: float):
    time.sleep(seconds)
'''
HANG_TIMEOUT_S = 2.0
ONE_CRASH = {"SONIQ_MAX_CRASHES": "1"}


def daemon_with(tmp_path: Any, database_url: str, *, environ: dict[str, str] | None = None, **workers: Any) -> Daemon:
    group = {"hang_timeout": HANG_TIMEOUT_S, "block_warning": 0.4, **workers}
    return Daemon(tmp_path, jobs=JOBS, database_url=database_url, environ=environ or ONE_CRASH, workers=group)


async def dead_letter(daemon: Daemon, app: Soniq, job_id: str) -> dict[str, Any]:
    async def find() -> Any:
        return await app.dead_letter.get(job_id)

    letter: dict[str, Any] = await daemon.eventually(find, timeout_s=20)
    return letter


async def record(app: Soniq, job_id: str) -> Any:
    found = await app.get_job(job_id)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["sleeper", "spinner", "nested"])
async def test_a_handler_that_blocks_the_loop_is_told_with_its_place_and_then_ended_with_its_stacks(
    tmp_path, database_url, app: Soniq, name
):
    async with daemon_with(tmp_path, database_url) as daemon:
        job_id = await app.enqueue(name)
        blocked = await daemon.log_event("loop_blocked", slot="default/1")
        assert not daemon.log.find("child_hung")
        assert (blocked["job_id"], blocked["job_name"]) == (job_id, name)
        assert 0.4 <= blocked["blocked_s"] < HANG_TIMEOUT_S
        assert f"{tmp_path}/test_jobs.py:" in blocked["where"]
        await daemon.log_event("child_hung", slot="default/1")
        stacks = (await daemon.log_event("child_stacks", slot="default/1"))["traceback"]
        letter = await dead_letter(daemon, app, job_id)
        assert letter["dead_letter_reason"] == "worker_lost"
        headline, _, rest = letter["last_error"].partition("\n")
        assert headline == "worker default/1 ended with signal 6 (SIGABRT): it hung"
        for text in (stacks, rest):
            assert f"in job {job_id} ({name})" in text
            assert f'{tmp_path}/test_jobs.py", line' in text
            assert "Fatal Python error: Aborted" in text
        assert len(daemon.log.find("loop_blocked")) == 1
        await daemon.ready()


async def test_c_code_that_keeps_the_interpreters_lock_is_ended_with_the_stacks_of_its_threads(
    tmp_path, database_url, app: Soniq
):
    async with daemon_with(tmp_path, database_url) as daemon:
        job_id = await app.enqueue("holder")
        await daemon.log_event("child_hung", slot="default/1")
        letter = await dead_letter(daemon, app, job_id)
        assert "signal 6 (SIGABRT): it hung" in letter["last_error"]
        assert "in holder" in letter["last_error"]
        await daemon.ready()


async def test_jobs_beside_one_that_blocks_the_loop_count_no_crash(tmp_path, database_url, app: Soniq):
    go_on = tmp_path / "go-on"
    async with daemon_with(tmp_path, database_url, concurrency=10) as daemon:
        waiters = [await app.enqueue("waiter", args={"until": str(go_on)}) for _ in range(5)]
        await daemon.eventually(lambda: in_flight(daemon, 5))
        culprit = await app.enqueue("sleeper")
        await dead_letter(daemon, app, culprit)
        assert [(await record(app, job_id))["crashes"] for job_id in waiters] == [0] * 5
        go_on.touch()
        for job_id in waiters:
            await daemon.eventually(partial(is_done, app, job_id))


async def test_c_code_that_kept_the_interpreters_lock_is_told_when_it_has_let_go(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url, hang_timeout=60) as daemon:
        job_id = await app.enqueue("computer", args={"least_s": 2.0})
        blocked = await daemon.log_event("loop_blocked", job_id=job_id, timeout_s=30)
        assert "computer" in blocked["where"]


async def in_flight(daemon: Daemon, count: int) -> bool:
    return bool((await daemon.child("default/1"))["in_flight"] == count)


async def is_done(app: Soniq, job_id: str) -> bool:
    return bool((await record(app, job_id))["status"] == "done")


@pytest.mark.parametrize("name", ["long_await", "long_call"])
async def test_a_handler_that_only_waits_is_no_hang(tmp_path, database_url, app: Soniq, name):
    async with daemon_with(tmp_path, database_url) as daemon:
        pid = await daemon.pid_of("default/1")
        job_id = await app.enqueue(name, args={"seconds": 2.5 * HANG_TIMEOUT_S})
        await daemon.eventually(lambda: is_done(app, job_id))
        assert await daemon.pid_of("default/1") == pid
        assert [daemon.log.find(event) for event in ("child_hung", "loop_blocked", "child_died")] == [[], [], []]


async def test_a_short_block_is_told_once_with_its_end_and_ends_nothing(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url, hang_timeout=30) as daemon:
        pid = await daemon.pid_of("default/1")
        job_id = await app.enqueue("sleeper", args={"seconds": 2.0})
        await daemon.eventually(lambda: is_done(app, job_id))
        await daemon.log_event("loop_free", slot="default/1")
        assert len(daemon.log.find("loop_blocked")) == 1
        assert await daemon.pid_of("default/1") == pid


async def test_a_job_that_keeps_its_worker_from_telling_of_it_is_counted_all_the_same(
    tmp_path, database_url, app: Soniq
):
    async with daemon_with(tmp_path, database_url, hang_timeout=30) as daemon:
        job_id = await app.enqueue("sleeper", args={"seconds": 4.0})
        await daemon.log_event("loop_blocked")
        assert (await daemon.child("default/1"))["in_flight"] == 1
        assert (await daemon.request("drain", wait=False))["in_flight"] == 1
        await daemon.eventually(lambda: is_done(app, job_id))


async def test_without_a_warning_time_nothing_is_told_of_a_block(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url, hang_timeout=30, block_warning=0) as daemon:
        job_id = await app.enqueue("sleeper", args={"seconds": 2.0})
        await daemon.eventually(lambda: is_done(app, job_id))
        assert not daemon.log.find("loop_blocked")


async def test_a_process_that_was_stopped_for_a_while_has_not_blocked_its_loop(tmp_path, database_url, app: Soniq):
    async with daemon_with(tmp_path, database_url, hang_timeout=30) as daemon:
        pid = await daemon.freeze("default/1")
        await asyncio.sleep(2.0)  # the length of the stop is what is tested
        daemon.thaw(pid)
        job_id = await app.enqueue("long_await", args={"seconds": 1.0})
        await daemon.eventually(lambda: is_done(app, job_id))
        assert not daemon.log.find("loop_blocked")
