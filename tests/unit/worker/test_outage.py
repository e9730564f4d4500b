"""The database goes away, hangs, and comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from itertools import pairwise

import pytest

from soniqd.errors import DatabaseUnavailableError, SchemaError
from soniqd.worker.outage import Outage
from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig, hang, lost_after, lost_before


async def work():
    return 1


async def test_registering_waits_for_the_database(rig: Rig):
    rig.task(work)
    rig.backend.fault("register_worker", lost_before, lost_before, lost_before)
    phases = []
    worker = rig.worker()
    worker.on_change = lambda: phases.append(worker.state().phase)
    task = asyncio.create_task(worker.run())
    job_id = await rig.enqueue("work")
    await rig.until(job_id, "done")
    await eventually(lambda: phases[-1] == "running")
    worker.drain(1)
    await task
    assert phases[0] == "waiting_for_database"


async def test_a_worker_that_never_reached_the_database_can_be_drained(rig: Rig):
    rig.backend.fault("register_worker", *[lost_before] * 1000)
    worker = rig.worker()
    task = asyncio.create_task(worker.run())
    await eventually(lambda: rig.backend.count("register_worker") >= 2)
    worker.drain(0)
    await asyncio.wait_for(task, 5)


async def test_a_missing_schema_ends_the_worker(rig: Rig):
    async def no_tables(call):
        raise SchemaError("cannot work: run soniqctl setup")

    rig.backend.fault("register_worker", no_tables)
    with pytest.raises(SchemaError):
        await rig.worker().run()


async def test_claiming_goes_on_after_an_outage(rig: Rig, caplog):
    rig.task(work)
    rig.backend.fault("claim", *[lost_before] * 4)
    job_id = await rig.enqueue("work")
    with caplog.at_level(logging.INFO, "soniqd"):
        async with rig.running():
            await rig.until(job_id, "done")
    names = [getattr(entry, "event", "") for entry in caplog.records]
    assert names.count("worker_database_lost") == names.count("worker_database_back") == 1


def _said(caplog) -> list[str]:
    names = [getattr(entry, "event", "") for entry in caplog.records]
    return [name for name in names if name in ("worker_database_lost", "worker_database_back")]


def _more_of_each(rig: Rig, counts: dict[str, int]) -> bool:
    return all(rig.backend.count(method) > count for method, count in counts.items())


async def test_claims_that_find_nothing_do_not_end_an_outage_of_writes(rig: Rig, caplog):
    rig.task(work)
    released = asyncio.Event()

    async def full(call):
        if not released.is_set():
            raise DatabaseUnavailableError("cannot write: the disk is full")
        return await call()

    rig.backend.fault("complete", *[full] * 1000)
    job_id = await rig.enqueue("work")
    with caplog.at_level(logging.INFO, "soniqd"):
        async with rig.running() as worker:
            await eventually(lambda: rig.backend.count("complete") >= 1)
            for _ in range(3):
                counts = {method: rig.backend.count(method) for method in ("claim", "complete")}
                worker.wake()
                await eventually(partial(_more_of_each, rig, counts))
            assert worker.state().phase == "waiting_for_database"
            released.set()
            await rig.until(job_id, "done")
            await eventually(lambda: worker.state().phase == "running")
    assert _said(caplog) == ["worker_database_lost", "worker_database_back"]


async def test_a_look_for_due_jobs_does_not_end_an_outage_of_claims(rig: Rig, caplog):
    rig.task(work)
    rig.backend.fault("claim", *[lost_before] * 4)
    job_id = await rig.enqueue("work")
    with caplog.at_level(logging.INFO, "soniqd"):
        async with rig.running(poll_interval_s=0.001):
            await rig.until(job_id, "done")
    assert _said(caplog) == ["worker_database_lost", "worker_database_back"]


async def test_pauses_between_tries_stay_short(rig: Rig):
    rig.task(work)
    tries: list[float] = []

    async def lost(call):
        tries.append(time.monotonic())
        return await lost_before(call)

    rig.backend.fault("claim", *[lost] * 12)
    job_id = await rig.enqueue("work")
    async with rig.running():
        await rig.until(job_id, "done")
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert max(gaps) < 1.3
    assert min(gaps) > 0.015


async def test_a_wake_up_ends_a_pause(rig: Rig, monkeypatch):
    pausing = asyncio.Event()

    def for_a_minute(outage, outage_s):
        pausing.set()
        return 60.0

    monkeypatch.setattr(Outage, "_pause_s", for_a_minute)
    rig.task(work)
    rig.backend.fault("claim", lost_before)
    job_id = await rig.enqueue("work")
    async with rig.running() as worker:
        await pausing.wait()
        worker.wake()
        await rig.until(job_id, "done")


async def test_jobs_taken_by_a_claim_whose_answer_was_lost_are_found_and_run(rig: Rig, caplog):
    rig.task(work)
    rig.backend.fault("claim", lost_after)
    ids = [await rig.enqueue("work") for _ in range(3)]
    with caplog.at_level(logging.WARNING, "soniqd"):
        async with rig.running():
            for job_id in ids:
                job = await rig.until(job_id, "done")
                assert (job["attempts"], job["crashes"], job["interruptions"]) == (1, 0, 0)
    assert "lost_claims_found" in {getattr(entry, "event", "") for entry in caplog.records}


async def test_looking_for_lost_claims_leaves_running_jobs_alone(rig: Rig):
    started, release = asyncio.Event(), asyncio.Event()
    runs = []

    async def slow():
        runs.append(1)
        started.set()
        await release.wait()

    rig.task(slow)
    job_id = await rig.enqueue("slow")
    async with rig.running() as worker:
        await started.wait()
        rig.backend.fault("claim", lost_before)
        worker.wake()
        await eventually(lambda: rig.backend.count("claims_of") == 1)
        release.set()
        await rig.until(job_id, "done")
    assert len(runs) == 1


async def test_running_jobs_do_not_notice_an_outage(rig: Rig):
    started, release = asyncio.Event(), asyncio.Event()

    async def slow():
        started.set()
        await release.wait()

    rig.task(slow)
    job_id = await rig.enqueue("slow")
    async with rig.running() as worker:
        await started.wait()
        rig.backend.fault("claim", *[lost_before] * 3)
        rig.backend.fault("complete", *[lost_before] * 3)
        worker.wake()
        await eventually(lambda: worker.state().phase == "waiting_for_database")
        assert worker.state().in_flight == 1
        release.set()
        await rig.until(job_id, "done")


@pytest.mark.parametrize("method", ["claim", "complete", "promote_due", "set_worker_status", "release_workers"])
async def test_a_hanging_database_does_not_keep_a_worker_from_leaving(rig: Rig, method):
    rig.task(work)
    await rig.enqueue("work")
    rig.backend.fault(method, *[hang] * 10)
    worker = rig.worker(write_grace_s=0.3, cancel_grace_s=0.1)
    task = asyncio.create_task(worker.run())
    await eventually(lambda: rig.backend.count(method) >= 1 or rig.backend.count("complete") >= 1)
    worker.drain(0.1)
    await asyncio.wait_for(task, 5)


async def test_a_defect_in_a_part_of_the_worker_ends_it_loudly(rig: Rig):
    async def broken(call):
        raise ZeroDivisionError("a defect")

    rig.task(work)
    rig.backend.fault("claim", broken)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(rig.worker().run(), 10)
