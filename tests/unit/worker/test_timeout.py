"""Timeouts of jobs (defect 10: told apart from a handler's own, and no retry while a thread still runs)."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig


def events(caplog) -> list[str]:
    return [getattr(entry, "event", "") for entry in caplog.records]


async def test_an_async_handler_is_cancelled_at_its_timeout(rig: Rig):
    cleaned = []

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)

    rig.task(hang, timeout_s=0.05)
    job_id = await rig.enqueue("hang", max_attempts=1)
    await rig.run_once()
    letter = await rig.dead_letter(job_id)
    assert letter["dead_letter_reason"] == "timeout"
    assert "longer than its timeout of 0.05 s" in letter["last_error"]
    assert "in hang" in letter["last_error"]
    assert cleaned == [1]


async def test_a_timeout_error_of_the_handlers_own_is_not_the_jobs_timeout(rig: Rig):
    async def impatient():
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    rig.task(impatient, timeout_s=30.0)
    job_id = await rig.enqueue("impatient", max_attempts=1)
    await rig.run_once()
    letter = await rig.dead_letter(job_id)
    assert letter["dead_letter_reason"] == "max_retries_exceeded"
    assert letter["last_error"].startswith("TimeoutError")


async def test_the_workers_default_counts_for_a_task_without_a_timeout(rig: Rig):
    async def hang():
        await asyncio.Event().wait()

    rig.task(hang)
    job_id = await rig.enqueue("hang", max_attempts=1)
    await rig.run_once(job_timeout_s=0.05)
    assert (await rig.dead_letter(job_id))["dead_letter_reason"] == "timeout"


async def test_zero_is_no_timeout_whatever_the_workers_default(rig: Rig):
    async def take_a_while():
        await asyncio.sleep(0.1)

    rig.task(take_a_while, timeout_s=0.0)
    job_id = await rig.enqueue("take_a_while", max_attempts=1)
    await rig.run_once(job_timeout_s=0.02)
    assert (await rig.job(job_id))["status"] == "done"


async def test_a_shorter_timeout_behind_a_longer_one_is_kept(rig: Rig):
    async def hang():
        await asyncio.Event().wait()

    rig.task(hang, name="long", timeout_s=0.4)
    rig.task(hang, name="short", timeout_s=0.05)
    long_id = await rig.enqueue("long", max_attempts=1)
    short_id = await rig.enqueue("short", max_attempts=1)
    async with rig.running() as worker:
        await rig.dead_letter(short_id)
        assert worker.state().in_flight == 1
        assert worker.state().in_flight == 1
        await asyncio.wait_for(rig.dead_letter(long_id), 3)


async def test_a_value_returned_in_spite_of_the_cancellation_counts(rig: Rig, caplog):
    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "finished"

    rig.task(stubborn, timeout_s=0.05)
    job_id = await rig.enqueue("stubborn", max_attempts=3)
    with caplog.at_level(logging.WARNING, "soniqd"):
        await rig.run_once()
    job = await rig.job(job_id)
    assert (job["status"], job["result"]) == ("done", "finished")
    assert "job_overrun" in events(caplog)


async def test_an_error_raised_in_answer_to_the_cancellation_fails_the_attempt(rig: Rig):
    async def breaks():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while cleaning up") from None

    rig.task(breaks, timeout_s=0.05)
    job_id = await rig.enqueue("breaks", max_attempts=1)
    await rig.run_once()
    assert (await rig.dead_letter(job_id))["last_error"].startswith("ValueError: while cleaning up")


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_thread_past_its_timeout_keeps_its_job_until_it_ends(rig: Rig, caplog, ends_well):
    started, release = threading.Event(), threading.Event()
    runs = []

    def slow():
        runs.append(1)
        started.set()
        release.wait(10)
        if not ends_well:
            raise ValueError("after all")
        return "after all"

    rig.task(slow, timeout_s=0.05)
    job_id = await rig.enqueue("slow", max_attempts=1)
    with caplog.at_level(logging.WARNING, "soniqd"):
        async with rig.running() as worker:
            await eventually(lambda: "job_overrun" in events(caplog))
            assert worker.state().in_flight == 1
            assert await rig.status(job_id) == "processing"
            assert len(runs) == 1
            release.set()
            if ends_well:
                assert (await rig.until(job_id, "done"))["result"] == "after all"
            else:
                assert (await rig.dead_letter(job_id))["last_error"].startswith("ValueError: after all")


async def test_a_timeout_inside_a_hook_works_after_the_jobs_own_has_fired(rig: Rig):
    seen = []

    async def look(error):
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append(type(error).__name__)

    async def hang():
        await asyncio.Event().wait()

    rig.hooks.add_error(look)
    rig.task(hang, timeout_s=0.05)
    await rig.enqueue("hang", max_attempts=1)
    await rig.run_once()
    assert seen == ["JobTimeoutError"]
