"""Outcomes reach the database whatever happens on the way (defect 4), and only under their fence (defect 1)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from soniqd.errors import DatabaseError, OutcomeRefusedError
from soniqd.model import DeadLettered, Done, Retry
from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig, lost_after, lost_before


def events(caplog) -> list[str]:
    return [getattr(entry, "event", "") for entry in caplog.records]


async def work():
    return 1


@pytest.mark.parametrize("fault", [lost_before, lost_after])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_lost_connection_while_completing_loses_nothing_and_reports_no_fence(rig: Rig, caplog, fault, times):
    rig.task(work)
    rig.backend.fault("complete", *[fault] * times)
    ids = [await rig.enqueue("work") for _ in range(10)]
    with caplog.at_level(logging.INFO, "soniqd"):
        async with rig.running() as worker:
            for job_id in ids:
                assert (await rig.until(job_id, "done"))["attempts"] == 1
            await eventually(lambda: worker.state().done == 10)
    assert "job_fenced" not in events(caplog)
    assert events(caplog).count("worker_database_lost") == events(caplog).count("worker_database_back") > 0


async def test_a_connection_lost_after_a_retry_was_written_does_not_write_it_twice(rig: Rig):
    runs = []

    async def once_more():
        runs.append(1)
        if len(runs) == 1:
            raise ValueError

    rig.task(once_more)
    rig.backend.fault("complete", lost_after)
    job_id = await rig.enqueue("once_more")
    async with rig.running():
        job = await rig.until(job_id, "done")
    assert (job["attempts"], len(runs)) == (2, 2)


async def test_settled_is_asked_again_when_it_is_lost_itself(rig: Rig, caplog):
    rig.task(work)
    rig.backend.fault("complete", lost_after)
    rig.backend.fault("settled", lost_before)
    job_id = await rig.enqueue("work")
    async with rig.running() as worker:
        await rig.until(job_id, "done")
        await eventually(lambda: worker.state().done == 1)
    assert "job_fenced" not in events(caplog)


async def test_a_late_write_is_refused_and_logged(rig: Rig, caplog):
    """Defect 1: the job was taken away while it ran, and is queued again; its late end changes nothing."""
    started, release = asyncio.Event(), asyncio.Event()

    async def slow():
        started.set()
        await release.wait()
        return "late"

    rig.task(slow)
    job_id = await rig.enqueue("slow")
    with caplog.at_level(logging.WARNING, "soniqd"):
        async with rig.running() as worker:
            await started.wait()
            await rig.memory.release_workers([worker.id], cause="crash", max_crashes=3)
            release.set()
            await eventually(lambda: "job_fenced" in events(caplog))
            assert worker.state().done == 0
            job = await rig.job(job_id)
    assert (job["status"], job["attempts"], job["crashes"]) == ("queued", 0, 1)


def refusing(rig: Rig, matches):
    """Refuse outcomes as a database does that cannot store what they hold."""

    async def complete(outcomes):
        refused = {outcome.fence.job_id: "bad value" for outcome in outcomes if matches(outcome)}
        changed = await rig.memory.complete([o for o in outcomes if o.fence.job_id not in refused])
        if refused:
            raise OutcomeRefusedError("cannot store", refused=refused, changed=changed)
        return changed

    return complete


@pytest.mark.parametrize("kind", ["done", "retry", "dead"])
async def test_a_refused_outcome_is_written_plain_and_the_others_as_they_are(rig: Rig, caplog, kind):
    async def one(bad=False):
        if kind == "done":
            return "poison" if bad else "fine"
        raise ValueError("poison" if bad else "fine")

    def is_poison(outcome):
        match outcome:
            case Done(result_json=text) | Retry(error=text) | DeadLettered(error=text):
                return "poison" in (text or "")
        return False

    rig.task(one)
    bad = await rig.enqueue("one", {"bad": True}, max_attempts=1 if kind == "dead" else 2)
    good = await rig.enqueue("one", max_attempts=1)
    rig.backend.replace("complete", refusing(rig, is_poison))
    with caplog.at_level(logging.ERROR, "soniqd"):
        await rig.run_once()
    assert "outcome_refused" in events(caplog)
    assert await rig.status(bad) == ("done" if kind == "done" else "dead_letter")
    assert await rig.status(good) == ("done" if kind == "done" else "dead_letter")
    if kind == "done":
        assert (await rig.job(bad))["result"] is None
        assert (await rig.job(good))["result"] == "fine"


async def test_a_database_that_refuses_everything_is_asked_again(rig: Rig):
    async def refuse(call):
        raise DatabaseError("cannot write: disk full")

    rig.task(work)
    rig.backend.fault("complete", refuse, refuse)
    job_id = await rig.enqueue("work")
    async with rig.running():
        await rig.until(job_id, "done")


async def test_outcomes_gather_into_few_writes(rig: Rig):
    rig.task(work)
    for _ in range(2000):
        await rig.enqueue("work")
    await rig.run_once(concurrency=50)
    assert rig.backend.count("complete") < 200


async def test_a_single_outcome_is_written_without_waiting_for_others(rig: Rig):
    rig.task(work)
    job_id = await rig.enqueue("work")
    async with rig.running(write_linger_s=30.0):
        await rig.until(job_id, "done")


async def test_nothing_is_claimed_while_too_many_outcomes_are_unwritten(rig: Rig):
    go_on = asyncio.Event()

    async def slow(call):
        await go_on.wait()
        return await call()

    rig.task(work)
    rig.backend.fault("complete", slow)
    for _ in range(2000):
        await rig.enqueue("work")
    async with rig.running(write_backlog_max=100, prefetch_max=20) as worker:
        await eventually(lambda: rig.backend.count("complete") == 1)

        async def stands_still():
            [stats] = await rig.memory.queue_stats()
            before = stats["processing"]
            await asyncio.sleep(0.02)
            [stats] = await rig.memory.queue_stats()
            return before >= 100 and stats["processing"] == before

        await eventually(stands_still)
        [stats] = await rig.memory.queue_stats()
        assert stats["processing"] <= 100 + 4 + 20
        go_on.set()
        await eventually(lambda: worker.state().done == 2000)
