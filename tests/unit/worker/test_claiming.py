"""What is claimed, and when (defect 8: no wake-up is lost, retries and due jobs need no poll)."""

from __future__ import annotations

import asyncio
import threading
import time

from soniqd.policy.retry import RetryRule
from soniqd.worker import WorkerOptions
from tests.support.waiting import eventually
from tests.unit.worker.rig import FAST, Rig


async def work():
    pass


async def test_a_wake_up_that_comes_while_a_claim_is_under_way_is_answered(rig: Rig):
    rig.task(work)
    claiming, go_on = asyncio.Event(), asyncio.Event()

    async def slow_and_empty(call):
        claiming.set()
        jobs = await call()
        await go_on.wait()
        return jobs

    rig.backend.fault("claim", slow_and_empty)
    async with rig.running() as worker:
        await claiming.wait()
        job_id = await rig.enqueue("work")
        worker.wake()
        go_on.set()
        await rig.until(job_id, "done")


async def test_a_full_answer_is_followed_by_another_claim_without_a_wake_up(rig: Rig):
    rig.task(work)
    ids = [await rig.enqueue("work") for _ in range(50)]
    async with rig.running():
        for job_id in ids:
            await rig.until(job_id, "done")


async def test_an_idle_worker_asks_nothing(rig: Rig):
    rig.task(work)
    async with rig.running() as worker:
        await eventually(lambda: rig.backend.count("claim") == 1)
        worker.wake()
        await eventually(lambda: rig.backend.count("claim") == 2)
        before = rig.backend.count("claim")
        await asyncio.sleep(0.1)  # what must not happen has no event to wait for
        assert rig.backend.count("claim") == before


async def test_one_wake_up_is_one_claim(rig: Rig):
    rig.task(work)
    async with rig.running() as worker:
        await eventually(lambda: rig.backend.count("claim") == 1)
        job_id = await rig.enqueue("work")
        worker.wake()
        worker.wake()
        await rig.until(job_id, "done")
        assert rig.backend.count("claim") == 2


async def test_polling_finds_what_nobody_announced(rig: Rig):
    rig.task(work)
    async with rig.running(poll_interval_s=0.05):
        await eventually(lambda: rig.backend.count("claim") >= 1)
        job_id = await rig.enqueue("work")
        await rig.until(job_id, "done")


async def test_a_job_for_later_runs_when_it_is_due(rig: Rig):
    started = []

    async def late():
        started.append(time.monotonic())

    rig.task(late)
    async with rig.running() as worker:
        await eventually(lambda: rig.backend.count("claim") >= 1)
        stored = time.monotonic()
        job_id = await rig.enqueue("late", delay_s=0.3)
        worker.wake(due_in_s=0.3)
        await rig.until(job_id, "done")
    assert 0.29 <= started[0] - stored < 0.6


async def test_a_worker_that_starts_knows_what_is_due_next(rig: Rig):
    rig.task(work)
    job_id = await rig.enqueue("work", delay_s=0.2)
    async with rig.running():
        await rig.until(job_id, "done")


async def test_a_due_time_announced_while_promoting_is_not_forgotten(rig: Rig):
    rig.task(work)
    promoting, go_on = asyncio.Event(), asyncio.Event()

    async def slow(call):
        report = await call()
        promoting.set()
        await go_on.wait()
        return report

    rig.backend.fault("promote_due", slow)
    async with rig.running() as worker:
        await promoting.wait()
        job_id = await rig.enqueue("work", delay_s=0.1)
        worker.wake(due_in_s=0.1)
        go_on.set()
        await rig.until(job_id, "done")


async def test_only_registered_names_are_claimed(rig: Rig):
    rig.task(work)
    unknown = await rig.enqueue("of_another_deploy", priority=1)
    known = await rig.enqueue("work")
    await rig.run_once()
    assert await rig.status(unknown) == "queued"
    assert await rig.status(known) == "done"


async def test_only_the_given_queues_are_claimed(rig: Rig):
    rig.task(work)
    other = await rig.enqueue("work", queue="other")
    mine = await rig.enqueue("work", queue="mine")
    await rig.run_once(queues=("mine",))
    assert (await rig.status(other), await rig.status(mine)) == ("queued", "done")


async def test_no_more_jobs_are_held_than_there_are_slots_while_they_are_slow(rig: Rig):
    release = asyncio.Event()

    async def slow():
        await release.wait()

    rig.task(slow)
    for _ in range(20):
        await rig.enqueue("slow")
    async with rig.running() as worker:
        await eventually(lambda: worker.state().in_flight == 4)
        [stats] = await rig.memory.queue_stats()
        assert (stats["processing"], stats["queued"]) == (4, 16)
        release.set()


async def test_a_fast_stretch_makes_claims_larger_than_the_slots(rig: Rig):
    rig.task(work)
    for _ in range(5000):
        await rig.enqueue("work")
    await rig.run_once()
    assert rig.backend.count("claim") < 200
    assert max(call[2]["limit"] for call in rig.backend.calls if call[0] == "claim") > 100


async def test_prefetched_jobs_that_find_no_slot_go_back(rig: Rig):
    release = asyncio.Event()

    async def slow():
        await release.wait()

    rig.task(work)
    rig.task(slow)
    for _ in range(3000):
        await rig.enqueue("work")
    for _ in range(300):
        await rig.enqueue("slow")

    async def all_but_the_running_are_queued():
        [stats] = await rig.memory.queue_stats()
        return (stats["processing"], stats["queued"]) == (4, 296)

    async with rig.running(prefetch_ttl_s=0.2):
        await eventually(all_but_the_running_are_queued)
        release.set()


async def test_slow_threads_leave_slots_for_async_handlers(rig: Rig):
    release = threading.Event()

    def blocking():
        release.wait(20)

    rig.task(work)
    rig.task(blocking)
    for _ in range(50):
        await rig.enqueue("blocking", priority=1)
    job_id = await rig.enqueue("work")
    async with rig.running(prefetch_ttl_s=0.1) as worker:
        await rig.until(job_id, "done")
        assert worker.state().in_flight == 2  # as many as there are threads
        late = await rig.enqueue("work")
        worker.wake()
        await rig.until(late, "done")
        release.set()


async def test_jobs_that_wait_for_a_thread_go_back_while_others_come_and_go(rig: Rig):
    release = threading.Event()

    def blocking():
        release.wait(20)

    rig.task(work)
    rig.task(blocking)
    for _ in range(4):
        await rig.enqueue("blocking", priority=1)

    async def only_the_running_are_held():
        worker.wake()
        await rig.until(await rig.enqueue("work"), "done")
        [stats] = await rig.memory.queue_stats()
        return (stats["processing"], stats["queued"]) == (2, 2)

    async with rig.running(prefetch_ttl_s=0.3) as worker:
        await eventually(lambda: worker.state().in_flight == 2)
        await eventually(only_the_running_are_held)
        release.set()


async def test_a_worker_of_threads_only_claims_for_its_threads(rig: Rig):
    release = threading.Event()

    def blocking():
        release.wait(20)

    rig.task(blocking)
    for _ in range(10):
        await rig.enqueue("blocking")
    async with rig.running() as worker:
        await eventually(lambda: worker.state().in_flight == 2)
        [stats] = await rig.memory.queue_stats()
        assert (stats["processing"], stats["queued"]) == (2, 8)
        release.set()
        await eventually(lambda: worker.state().done == 10)


async def test_a_worker_without_tasks_claims_nothing_and_drains(rig: Rig):
    await rig.enqueue("work")
    async with rig.running() as worker:
        worker.wake()
        await asyncio.sleep(0)
    assert rig.backend.count("claim") == 0


async def test_pausing_stops_claims_and_resuming_goes_on(rig: Rig):
    rig.task(work)
    async with rig.running(poll_interval_s=0.02) as worker:
        worker.pause()
        await eventually(lambda: worker.state().phase == "paused")
        job_id = await rig.enqueue("work")
        worker.wake()
        await asyncio.sleep(0.1)  # what must not happen has no event to wait for
        assert await rig.status(job_id) == "queued"
        worker.resume()
        await rig.until(job_id, "done")


async def test_pausing_gives_back_what_has_not_started_and_lets_the_rest_run(rig: Rig):
    release = asyncio.Event()

    async def slow():
        await release.wait()

    rig.task(work)
    rig.task(slow)
    for _ in range(2000):
        await rig.enqueue("work")
    for _ in range(100):
        await rig.enqueue("slow")
    async with rig.running(prefetch_ttl_s=30.0) as worker:
        await eventually(lambda: worker.state().done == 2000 and worker.state().in_flight == 4)
        worker.pause()

        async def given_back():
            [stats] = await rig.memory.queue_stats()
            return (stats["processing"], stats["queued"]) == (4, 96)

        await eventually(given_back)
        release.set()
        await eventually(lambda: worker.state().in_flight == 0)


async def test_a_claim_that_returns_after_a_pause_is_given_back(rig: Rig):
    rig.task(work)
    claiming, go_on = asyncio.Event(), asyncio.Event()

    async def slow(call):
        jobs = await call()
        claiming.set()
        await go_on.wait()
        return jobs

    rig.backend.fault("claim", slow)
    job_id = await rig.enqueue("work")
    async with rig.running() as worker:
        await claiming.wait()
        worker.pause()
        go_on.set()
        job = await rig.until(job_id, "queued")
        assert (job["attempts"], job["interruptions"]) == (0, 0)


def test_the_defaults_are_those_that_the_settings_document():
    from soniqd.settings.daemon import JobsTable, WorkerGroup

    options, jobs = WorkerOptions(), JobsTable()
    assert (options.job_timeout_s, options.result_ttl_s, options.poll_interval_s) == (
        jobs.timeout,
        jobs.result_ttl,
        jobs.poll_interval,
    )
    assert (options.sync_threads, options.max_crashes) == (jobs.sync_handler_pool_size, jobs.max_crashes)
    assert options.concurrency == WorkerGroup().concurrency
    assert FAST.concurrency == 4


async def test_a_supervised_worker_leaves_due_jobs_to_its_master_and_looks_second(rig: Rig):
    rig.task(work)
    rig.supervised = True
    async with rig.running(poll_interval_s=0.02):
        await eventually(lambda: rig.backend.count("claim") >= 12)
        polls, promotions = rig.backend.count("claim"), rig.backend.count("promote_due")
    assert 1 < promotions < polls / 2


async def test_a_supervised_worker_promotes_its_own_retry_if_its_master_does_not(rig: Rig):
    runs = []

    async def once_more():
        runs.append(1)
        if len(runs) == 1:
            raise ValueError

    rig.task(once_more, retry=RetryRule(delay_s=0.05))
    rig.supervised = True
    job_id = await rig.enqueue("once_more")
    async with rig.running():
        await rig.until(job_id, "done")
