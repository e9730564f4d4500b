"""Deploys of broken code: the old processes never stop working, and the reload says why it was taken back."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from soniqd import Soniq
from tests.support.daemon import JOBS, Daemon
from tests.support.waiting import eventually

BROKEN_AT_BOOT = """
import soniqd.roles.child

def fail(*_, **__):
    raise RuntimeError("the vault is sealed")

soniqd.roles.child.make_worker = fail
"""
BROKEN_SCHEDULER = """
import soniqd.roles.child

def fail(*_, **__):
    raise RuntimeError("no clock")

soniqd.roles.child.make_scheduler = fail
"""
AFTER_THE_START = """
import soniqd.roles.child
_make_worker = soniqd.roles.child.make_worker

def then(*arguments, **options):
    worker = _make_worker(*arguments, **options)
    threading.Thread(target=misbehave, args=(arguments[0],), daemon=True).start()
    return worker

soniqd.roles.child.make_worker = then
"""
CRASHES_SOON = (
    """
import os, threading, time

def misbehave(spec):
    time.sleep(0.5)
    os._exit(9)
"""
    + AFTER_THE_START
)
SLOW_TO_START = """
import soniqd.roles.child
_make_worker = soniqd.roles.child.make_worker

def wait(*arguments, **options):
    import time
    while arguments[0].index == 2:
        time.sleep(0.02)
    return _make_worker(*arguments, **options)

soniqd.roles.child.make_worker = wait
"""
FAILING = JOBS.replace(
    """@app.job(name="append")
async def append(path: str, text: str = "x"):
""",
    """@app.job(name="append", retry_delay=2)
async def append(path: str, text: str = "x"):
    raise LookupError("no such column")
""",
)
assert FAILING != JOBS


async def pids(daemon: Daemon) -> dict[str, int]:
    """The children in force, by their places."""
    return {child["slot"]: child["pid"] for child in (await daemon.status())["children"]}


@asynccontextmanager
async def steady_work(app: Soniq, out: Path, *, may_run_again: int = 0) -> AsyncIterator[None]:
    """Jobs all the time; at the end, every single one has run, and no more of them twice than a killed worker had."""
    jobs: list[str] = []
    stop = asyncio.Event()

    async def produce() -> None:
        while not stop.is_set():
            jobs.append(str(await app.enqueue("append", args={"path": str(out), "text": str(len(jobs))})))
            await asyncio.sleep(0.02)

    producer = asyncio.create_task(produce())
    try:
        yield
    finally:
        stop.set()  # a cancelled enqueue may have stored its job all the same
        await producer
    await eventually(lambda: len(set(numbers(out))) == len(jobs), timeout_s=20, message="every job has run")
    assert len(numbers(out)) <= len(set(numbers(out))) + may_run_again, "jobs ran twice"


def numbers(out: Path) -> list[str]:
    return [line.split()[0] for line in out.read_text().splitlines()] if out.exists() else []


def gaps_s(out: Path) -> float:
    """The longest time in which no job ran."""
    times = sorted(float(line.split()[2]) for line in out.read_text().splitlines())
    return max(b - a for a, b in itertools.pairwise(times))


async def failed_reload(daemon: Daemon, *arguments: str) -> str:
    """Reload, and return why that failed, as soniqctl told it."""
    with pytest.raises(AssertionError, match="ended with 1, not 0") as failed:
        await daemon.soniqctl("reload", *arguments)
    message = str(failed.value)
    error = (await daemon.status())["last_reload"]["error"]
    assert error in message
    return str(error)


async def assert_as_before(daemon: Daemon, before: dict[str, int]) -> None:
    """The old processes are the ones that work, alone, and from the old generation."""
    status = await daemon.status()
    assert status["generation"] == 1
    assert status["state"] == "running"
    await daemon.eventually(lambda: _only(daemon, before))
    await daemon.eventually(lambda: _fork_servers(daemon) == ["soniqd: fork server gen 1"])


def _fork_servers(daemon: Daemon) -> list[str]:
    return [process.command for process in daemon.processes() if "fork server" in process.command]


async def _only(daemon: Daemon, expected: dict[str, int]) -> bool:
    status = await daemon.status()
    return expected == {c["slot"]: c["pid"] for c in status["children"]} and len(status["children"]) == len(expected)


async def test_code_that_cannot_be_imported_is_refused_with_its_error_and_the_place_of_the_traceback(tmp_path):
    async with Daemon(tmp_path, workers={"processes": 2}) as daemon:
        before = await pids(daemon)
        daemon.write_jobs(JOBS + "\ndef deep():\n    raise KeyError('colour')\n\ndeep()\n")
        error = await failed_reload(daemon)
        assert error.startswith("cannot import test_jobs: KeyError: 'colour' (")
        assert f"{tmp_path}/test_jobs.py:" in error
        assert error.endswith('; the whole traceback is in soniqd\'s log, below "why generation 2 cannot boot"')
        [record] = daemon.log.find("boot_traceback", generation=2)
        assert record["message"] == "why generation 2 cannot boot:"
        assert record["traceback"].rstrip().endswith("KeyError: 'colour'")
        await assert_as_before(daemon, before)


@pytest.mark.parametrize("probation", [0, 30])
async def test_a_new_worker_that_crashes_at_its_start_ends_the_reload_at_once(
    tmp_path, database_url, app: Soniq, probation: int
):
    out = tmp_path / "out"
    async with Daemon(
        tmp_path, database_url=database_url, workers={"processes": 2}, soniqd={"probation": probation}
    ) as daemon:
        before = await pids(daemon)
        async with steady_work(app, out):
            daemon.write_jobs(JOBS + BROKEN_AT_BOOT)
            began_s = time.monotonic()
            error = await failed_reload(daemon)
            assert time.monotonic() - began_s < 20
        assert error.startswith(
            "default/1 ended with exit code 70 before it was ready; RuntimeError: the vault is sealed"
        )
        assert "more is in soniqd's log, of default/1 in generation 2" in error
        [record] = daemon.log.find("child_failed", slot="default/1")
        assert "RuntimeError: the vault is sealed" in record["traceback"]
        await assert_as_before(daemon, before)
        assert gaps_s(out) < 4


async def test_a_new_worker_that_crashes_in_its_probation_takes_the_reload_back(tmp_path, database_url, app: Soniq):
    out = tmp_path / "out"
    async with Daemon(
        tmp_path, database_url=database_url, workers={"processes": 2}, soniqd={"probation": 30}
    ) as daemon:
        before = await pids(daemon)
        async with steady_work(app, out, may_run_again=4):
            daemon.write_jobs(JOBS + CRASHES_SOON)
            error = await failed_reload(daemon)
        assert error.startswith("default/1 ended with exit code 9 ")
        assert "after it was ready" in error
        await assert_as_before(daemon, before)
        assert gaps_s(out) < 4


async def test_new_code_that_fails_its_jobs_is_taken_back_and_no_job_is_lost(tmp_path, database_url, app: Soniq):
    out = tmp_path / "out"
    async with Daemon(
        tmp_path, database_url=database_url, workers={"processes": 2}, soniqd={"probation": 60}, jobs=JOBS
    ) as daemon:
        before = await pids(daemon)
        async with steady_work(app, out):
            await daemon.eventually(lambda: len(numbers(out)) > 20)
            daemon.write_jobs(FAILING)
            began_s = time.monotonic()
            error = await failed_reload(daemon)
            assert time.monotonic() - began_s < 40
        assert "jobs failed in new children of default; their errors are in soniqd's log" in error
        await assert_as_before(daemon, before)


async def test_a_jump_of_failures_that_nobody_minds_ends_nothing(tmp_path, database_url, app: Soniq):
    async with Daemon(
        tmp_path, database_url=database_url, soniqd={"probation": 4, "failure_jump": 1}, jobs=JOBS
    ) as daemon:
        daemon.write_jobs(FAILING)
        for number in range(8):
            await app.enqueue("append", args={"path": str(tmp_path / "out"), "text": str(number)})
        await daemon.soniqctl("reload")
        assert (await daemon.status())["generation"] == 2


async def test_a_new_worker_whose_loop_stands_still_is_taken_back(tmp_path, database_url, app: Soniq):
    hanging = JOBS.replace("async def noop():\n    pass", "async def noop():\n    time.sleep(600)")
    async with Daemon(
        tmp_path,
        database_url=database_url,
        workers={"processes": 1, "hang_timeout": 1.5, "queues": ["quick"]},
        soniqd={"probation": 60},
    ) as daemon:
        before = await pids(daemon)
        await daemon.soniqctl("drain")  # the old one leaves the job to the canary
        daemon.write_jobs(hanging)
        mark = daemon.log.mark()
        reload = asyncio.create_task(failed_reload(daemon))
        await daemon.log_event("child_ready", slot="default/1", since=mark)
        await daemon.soniqctl("resume")
        hung = asyncio.create_task(daemon.log_event("child_hung", timeout_s=40))
        while not hung.done():
            await app.enqueue("noop", queue="quick")
            await asyncio.wait({hung}, timeout=0.05)
        await hung
        error = await reload
        assert error.startswith("default/1 ")
        await assert_as_before(daemon, before)


async def test_a_scheduler_that_cannot_start_takes_the_reload_back(tmp_path):
    async with Daemon(tmp_path) as daemon:
        before = await pids(daemon)
        daemon.write_jobs(JOBS + BROKEN_SCHEDULER)
        error = await failed_reload(daemon)
        assert error.startswith("scheduler/1 ended with exit code 70 before it was ready; RuntimeError: no clock")
        await assert_as_before(daemon, before)


async def test_a_death_after_the_probation_takes_everything_back_while_the_rollout_goes_on(
    tmp_path, database_url, app: Soniq
):
    out = tmp_path / "out"
    async with Daemon(
        tmp_path, database_url=database_url, workers={"processes": 2}, soniqd={"probation": 0.2}
    ) as daemon:
        before = await pids(daemon)
        async with steady_work(app, out, may_run_again=4):  # what the one that is killed may have at work
            daemon.write_jobs(JOBS + SLOW_TO_START)
            mark = daemon.log.mark()
            reload = asyncio.create_task(failed_reload(daemon))
            await daemon.log_event("canaries_passed", since=mark)
            await daemon.log_event("child_left", since=mark, slot="default/1")
            replaced = await daemon.pid_of("default/1")
            assert replaced != before["default/1"]
            os.kill(replaced, signal.SIGKILL)
            error = await reload
        assert error.startswith("default/1 ended with signal 9")
        status = await daemon.status()
        assert status["generation"] == 1
        await daemon.eventually(lambda: _all_of_generation(daemon, 1))
        assert await daemon.pid_of("default/2") == before["default/2"]


async def _all_of_generation(daemon: Daemon, generation: int) -> bool:
    children = (await daemon.status())["children"]
    return all(child["generation"] == generation and child["state"] != "starting" for child in children)


async def test_the_probation_is_lasted_beside_the_old_workers_and_then_the_rest_follows(tmp_path):
    async with Daemon(tmp_path, workers={"processes": 3}, soniqd={"probation": 1.5}) as daemon:
        before = await pids(daemon)
        daemon.write_jobs(JOBS + "\nVERSION = 2\n")
        mark = daemon.log.mark()
        reload = asyncio.create_task(daemon.soniqctl("reload"))
        await daemon.log_event("child_ready", since=mark, slot="default/1")
        most = 0
        while not daemon.log.find("canaries_passed", since=mark):
            children = (await daemon.status())["children"]
            if daemon.log.find("canaries_passed", since=mark):
                break
            most = max(most, sum(child["group"] == "default" for child in children))
            assert set(before.values()) <= {child["pid"] for child in children}
        assert most == 4
        await reload
        result = (await daemon.status())["last_reload"]
        assert result["duration_s"] >= 1.5
        assert result["replaced"] == 4
        await daemon.eventually(lambda: _all_of_generation(daemon, 2))


async def test_capacity_is_never_below_what_is_configured(tmp_path, database_url, app: Soniq):
    """Sampled all through a rollout: as many workers that claim as are configured."""
    async with Daemon(tmp_path, database_url=database_url, workers={"processes": 3, "concurrency": 1}) as daemon:
        samples: list[int] = []

        async def sample() -> None:
            while True:
                children = (await daemon.status())["children"]
                samples.append(sum(c["group"] == "default" and c["state"] == "running" for c in children))
                await asyncio.sleep(0.005)

        sampling = asyncio.create_task(sample())
        async with steady_work(app, tmp_path / "out"):
            for version in range(3):
                daemon.write_jobs(JOBS + f"\nVERSION = {version}\n")
                await daemon.soniqctl("reload")
        sampling.cancel()
        assert len(samples) > 100
        assert min(samples) >= 3
        assert max(samples) <= 4


async def test_a_reload_that_brings_the_remedy_goes_through_while_old_and_new_fail(tmp_path, database_url, app: Soniq):
    """What fails under the old code, too, is no reason against the new one."""
    async with Daemon(tmp_path, database_url=database_url, jobs=FAILING, soniqd={"probation": 2}) as daemon:
        for number in range(6):
            await app.enqueue("append", args={"path": str(tmp_path / "out"), "text": str(number)})
        await daemon.eventually(lambda: _failures(daemon, 6))
        daemon.write_jobs(FAILING + "\nVERSION = 2\n")
        for number in range(6):
            await app.enqueue("append", args={"path": str(tmp_path / "out"), "text": str(number)})
        await daemon.soniqctl("reload")
        assert (await daemon.status())["generation"] == 2


async def _failures(daemon: Daemon, number: int) -> bool:
    child: dict[str, Any] = await daemon.child("default/1")
    return int(child["failed"]) >= number


async def test_the_refusal_reaches_programs_as_json(tmp_path):
    async with Daemon(tmp_path) as daemon:
        daemon.write_jobs("import no_such_module_anywhere\n")
        with pytest.raises(AssertionError, match="ended with 1, not 0") as failed:
            await daemon.soniqctl("--json", "reload")
        answer = json.loads(str(failed.value).partition("\n")[2])
        assert "no_such_module_anywhere" in answer["error"]["message"]
