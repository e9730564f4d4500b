"""Leaving: the drain's order, and that it uses no attempts (defect 7)."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from soniqd.model import Released, WorkerStatus
from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig, lost_before


def events(caplog) -> list[str]:
    return [getattr(entry, "event", "") for entry in caplog.records]


async def start(rig: Rig, **options):
    worker = rig.worker(**options)
    task = asyncio.create_task(worker.run())
    return worker, task


async def test_what_runs_may_finish_and_nothing_new_is_claimed(rig: Rig):
    started, release = asyncio.Event(), asyncio.Event()

    async def slow():
        started.set()
        await release.wait()

    rig.task(slow)
    first = await rig.enqueue("slow")
    worker, task = await start(rig)
    await started.wait()
    worker.drain(30)
    second = await rig.enqueue("slow")
    worker.wake()
    assert worker.state().phase == "draining"
    release.set()
    await asyncio.wait_for(task, 5)
    assert (await rig.status(first), await rig.status(second)) == ("done", "queued")
    assert worker.unfinished == 0


async def test_what_does_not_finish_in_time_is_cut_short_and_queued_without_using_an_attempt(rig: Rig):
    started, cleaned = asyncio.Event(), []

    async def slow():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(await rig.status(job_id))

    rig.task(slow)
    job_id = await rig.enqueue("slow", max_attempts=1)
    worker, task = await start(rig)
    await started.wait()
    worker.drain(0.05)
    await asyncio.wait_for(task, 5)
    job = await rig.job(job_id)
    assert (job["status"], job["attempts"], job["crashes"], job["interruptions"]) == ("queued", 0, 0, 1)
    assert cleaned == ["processing"], "the handler cleans up before its job can run elsewhere"
    assert worker.unfinished == 1


async def test_no_hook_calls_an_interrupted_run_an_error(rig: Rig):
    started, seen = asyncio.Event(), []

    async def slow():
        started.set()
        await asyncio.Event().wait()

    rig.task(slow)
    rig.hooks.add_error(lambda: seen.append(1))
    await rig.enqueue("slow")
    worker, task = await start(rig)
    await started.wait()
    worker.drain(0)
    await asyncio.wait_for(task, 5)
    assert seen == []


async def test_a_handler_that_swallows_its_interruption_is_queued_again(rig: Rig):
    started = asyncio.Event()

    async def sloppy():
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "perhaps finished"

    rig.task(sloppy)
    job_id = await rig.enqueue("sloppy")
    worker, task = await start(rig)
    await started.wait()
    worker.drain(0)
    await asyncio.wait_for(task, 5)
    assert (await rig.job(job_id))["interruptions"] == 1


async def test_a_handler_that_suppresses_its_interruption_is_left_behind(rig: Rig, caplog):
    started, release = asyncio.Event(), asyncio.Event()
    ended = asyncio.Event()

    async def endless():
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.set()

    rig.task(endless)
    job_id = await rig.enqueue("endless")
    worker, task = await start(rig)
    await started.wait()
    with caplog.at_level(logging.WARNING, "soniqd"):
        worker.drain(0)
        await asyncio.wait_for(task, 5)
        assert (await rig.job(job_id))["status"] == "queued"
        assert "job_left_behind" in events(caplog)
        release.set()
        await ended.wait()
        await eventually(lambda: "job_ended_too_late" in events(caplog))
    assert (await rig.job(job_id))["status"] == "queued"


async def test_a_thread_that_does_not_end_is_left_behind_and_its_job_queued(rig: Rig):
    started, release = threading.Event(), threading.Event()

    def endless():
        started.set()
        release.wait(30)

    rig.task(endless)
    job_id = await rig.enqueue("endless")
    worker, task = await start(rig)
    await eventually(started.is_set)
    worker.drain(0)
    await asyncio.wait_for(task, 5)
    job = await rig.job(job_id)
    assert (job["status"], job["attempts"], job["interruptions"]) == ("queued", 0, 1)
    release.set()


async def test_a_supervised_worker_keeps_the_job_of_a_thread_that_does_not_end_for_its_master_to_give_back(rig: Rig):
    started, release = threading.Event(), threading.Event()

    def endless():
        started.set()
        release.wait(30)

    rig.task(endless)
    rig.supervised = True
    job_id = await rig.enqueue("endless")
    worker, task = await start(rig)
    await eventually(started.is_set)
    worker.drain(0)
    await asyncio.wait_for(task, 5)
    assert (await rig.status(job_id), worker.left_behind) == ("processing", 1)
    [known] = await rig.memory.list_workers()
    assert known.status is WorkerStatus.STOPPING
    release.set()


async def test_a_job_whose_handler_has_returned_is_done_though_its_hooks_are_cut_short(rig: Rig):
    in_hook = asyncio.Event()

    async def work():
        return 1

    async def hang():
        in_hook.set()
        await asyncio.Event().wait()

    rig.task(work)
    rig.hooks.add_after(hang)
    job_id = await rig.enqueue("work")
    worker, task = await start(rig)
    await in_hook.wait()
    worker.drain(0)
    await asyncio.wait_for(task, 5)
    assert (await rig.job(job_id))["status"] == "done"


async def test_a_later_drain_can_shorten_and_not_lengthen(rig: Rig):
    started = asyncio.Event()

    async def slow():
        started.set()
        await asyncio.Event().wait()

    rig.task(slow)
    job_id = await rig.enqueue("slow")
    worker, task = await start(rig)
    await started.wait()
    worker.drain(60)
    worker.drain(0)
    worker.drain(60)
    await asyncio.wait_for(task, 5)
    assert await rig.status(job_id) == "queued"


async def test_the_worker_is_shown_as_stopping_and_then_as_stopped(rig: Rig):
    started, release = asyncio.Event(), asyncio.Event()

    async def slow():
        started.set()
        await release.wait()

    rig.task(slow)
    await rig.enqueue("slow")
    worker, task = await start(rig)
    await started.wait()
    worker.drain(30)

    async def is_stopping():
        [row] = await rig.memory.list_workers()
        return row.status == WorkerStatus.STOPPING

    await eventually(is_stopping)
    release.set()
    await task
    assert await rig.memory.list_workers() == []


async def test_a_job_that_the_worker_holds_without_knowing_is_released_with_it(rig: Rig):
    """Defect 3: nothing stays processing under a worker that has marked itself stopped."""

    async def work():
        pass

    rig.task(work)
    async with rig.running() as worker:
        worker.pause()
        job_id = await rig.enqueue("work")
        [job] = await rig.memory.claim(worker.id, names=None, queues=None, limit=1)
        assert job.fence.job_id == job_id
    job_row = await rig.job(job_id)
    assert (job_row["status"], job_row["attempts"]) == ("queued", 0)


async def test_everything_is_written_before_the_worker_leaves(rig: Rig):
    async def work():
        return 1

    rig.task(work)
    ids = [await rig.enqueue("work") for _ in range(4)]
    rig.backend.fault("complete", *[lost_before] * 4)
    worker, task = await start(rig)
    await eventually(lambda: rig.backend.count("complete") >= 1)
    worker.drain(0)
    await asyncio.wait_for(task, 10)
    assert [await rig.status(job_id) for job_id in ids] == ["done"] * 4


async def test_a_database_that_stays_away_is_waited_for_within_the_grace_only(rig: Rig, caplog):
    async def work():
        return 1

    rig.task(work)
    await rig.enqueue("work")
    rig.backend.fault("complete", *[lost_before] * 1000)
    rig.backend.fault("release_workers", *[lost_before] * 1000)
    worker, task = await start(rig, write_grace_s=0.3)
    await eventually(lambda: rig.backend.count("complete") >= 1)
    with caplog.at_level(logging.ERROR, "soniqd"):
        worker.drain(0)
        await asyncio.wait_for(task, 5)
    assert "outcomes_unwritten" in events(caplog)


async def test_a_claim_under_way_is_given_back_unused(rig: Rig):
    claiming, go_on = asyncio.Event(), asyncio.Event()

    async def slow(call):
        jobs = await call()
        claiming.set()
        await go_on.wait()
        return jobs

    async def work():
        raise AssertionError

    rig.task(work)
    rig.backend.fault("claim", slow)
    job_id = await rig.enqueue("work")
    worker, task = await start(rig)
    await claiming.wait()
    worker.drain(5)
    go_on.set()
    await asyncio.wait_for(task, 5)
    job = await rig.job(job_id)
    assert (job["status"], job["attempts"], job["interruptions"]) == ("queued", 0, 0)


async def test_given_back_jobs_show_no_interruption(rig: Rig):
    release = asyncio.Event()

    async def work():
        pass

    async def slow():
        await release.wait()

    rig.task(work)
    rig.task(slow)
    for _ in range(2000):
        await rig.enqueue("work")
    for _ in range(100):
        await rig.enqueue("slow")
    worker, task = await start(rig, prefetch_ttl_s=30.0)
    await eventually(lambda: worker.state().done == 2000 and worker.state().in_flight == 4)
    worker.drain(30)
    release.set()
    await asyncio.wait_for(task, 5)
    outcomes = [o for name, args, _ in rig.backend.calls if name == "complete" for o in args[0]]
    released = [outcome for outcome in outcomes if isinstance(outcome, Released)]
    assert released
    assert not any(outcome.interrupted for outcome in released)


async def test_cancelling_the_worker_gives_back_what_runs(rig: Rig):
    started = asyncio.Event()

    async def slow():
        started.set()
        await asyncio.Event().wait()

    rig.task(slow)
    job_id = await rig.enqueue("slow")
    _, task = await start(rig)
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    job = await rig.job(job_id)
    assert (job["status"], job["attempts"]) == ("queued", 0)


async def test_a_swept_worker_forgets_what_has_not_started_and_leaves(rig: Rig):
    started, release = asyncio.Event(), asyncio.Event()

    async def slow():
        started.set()
        await release.wait()

    rig.task(slow)
    await rig.enqueue("slow")
    worker, task = await start(rig)
    await started.wait()
    await rig.memory.release_workers([worker.id], cause="crash", max_crashes=3)
    worker.swept()
    assert worker.is_swept
    assert worker.state().free == 0
    release.set()
    await asyncio.wait_for(task, 5)


async def test_a_swept_worker_can_go_on_as_a_new_incarnation(rig: Rig):
    from tests.unit.worker.rig import record

    async def work():
        pass

    rig.task(work)
    async with rig.running() as worker:
        await eventually(lambda: worker.state().phase == "running")
        await rig.memory.release_workers([worker.id], cause="crash", max_crashes=3)
        worker.swept(successor=record())
        job_id = await rig.enqueue("work")
        worker.wake()
        await rig.until(job_id, "done")


async def test_changes_are_told_to_the_last(rig: Rig):
    async def work():
        pass

    rig.task(work)
    told = []
    for _ in range(300):
        await rig.enqueue("work")
    worker, task = await start(rig)
    worker.on_change = lambda: told.append(worker.state())
    await eventually(lambda: worker.state().done == 300)
    assert told[-1].done == 300
    worker.drain(0)
    await task
