"""A worker without a master: heartbeats from a thread (defects 2 and 15), wake-ups, sweeps, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from typing import cast

import pytest

from soniqd.backends import PruneReport, StorageBackend
from soniqd.backends.sqlite import SQLiteBackend
from soniqd.model import JobId, NewJob, WorkerId
from soniqd.queue.ids import new_job_id
from soniqd.worker import StandaloneOptions, Worker, run_standalone
from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig, record


def stand_alone(rig: Rig, worker: Worker, **arguments):
    return asyncio.create_task(run_standalone(worker, cast("StorageBackend", rig.backend), **arguments))


async def work():
    return 1


async def test_until_empty_runs_what_can_run_now_and_returns(rig: Rig):
    runs = []

    async def twice():
        runs.append(1)
        if len(runs) == 1:
            raise ValueError

    rig.task(work)
    rig.task(twice)
    now = await rig.enqueue("work")
    again = await rig.enqueue("twice")
    later = await rig.enqueue("work", delay_s=60)
    await asyncio.wait_for(stand_alone(rig, rig.worker(until_empty=True)), 10)
    assert [await rig.status(job_id) for job_id in (now, again, later)] == ["done", "done", "queued"]


async def test_until_empty_returns_where_no_task_is_declared(rig: Rig):
    await rig.enqueue("somebody_elses")
    await asyncio.wait_for(stand_alone(rig, rig.worker(until_empty=True)), 10)


async def test_until_empty_waits_for_what_it_started(rig: Rig):
    async def chain():
        await rig.enqueue("work")

    rig.task(chain)
    rig.task(work)
    await rig.enqueue("chain")
    worker = rig.worker(until_empty=True)
    await asyncio.wait_for(stand_alone(rig, worker), 10)
    assert worker.state().done == 2


async def test_until_empty_ends_with_a_claim_that_found_nothing(rig: Rig):
    """One that found less than it asked for may have gone past something, which PostgreSQL looks for beside it."""

    async def claim_one(worker_id, *, names, queues, limit):
        return await rig.memory.claim(worker_id, names=names, queues=queues, limit=min(1, limit))

    rig.task(work)
    rig.backend.replace("claim", claim_one)
    job_ids = [await rig.enqueue("work") for _ in range(3)]
    await rig.run_once()
    assert [await rig.status(job_id) for job_id in job_ids] == ["done", "done", "done"]


async def test_a_new_job_wakes_the_worker(rig: Rig):
    rig.task(work)
    stop = asyncio.Event()
    task = stand_alone(rig, rig.worker(), stop=stop)
    await eventually(lambda: rig.backend.count("subscribe") == 1)
    job_id = await rig.enqueue("work")
    await rig.until(job_id, "done")
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_a_job_for_later_is_known_by_its_announcement(rig: Rig):
    rig.task(work)
    stop = asyncio.Event()
    task = stand_alone(rig, rig.worker(), stop=stop)
    await eventually(lambda: rig.backend.count("subscribe") == 1)
    job_id = await rig.enqueue("work", delay_s=0.1)
    await rig.until(job_id, "done")
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_jobs_of_other_queues_wake_nobody(rig: Rig):
    rig.task(work)
    stop = asyncio.Event()
    task = stand_alone(rig, rig.worker(queues=("mine",)), stop=stop)
    await eventually(lambda: rig.backend.count("claim") >= 2)  # the first one, and the one after subscribing
    before = rig.backend.count("claim")
    await rig.enqueue("work", queue="other")
    job_id = await rig.enqueue("work", queue="mine")
    await rig.until(job_id, "done")
    assert rig.backend.count("claim") == before + 1
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_the_first_signal_drains_and_the_second_one_cuts_short(rig: Rig):
    started = asyncio.Event()

    async def slow():
        started.set()
        await asyncio.Event().wait()

    rig.task(slow)
    job_id = await rig.enqueue("slow")
    worker = rig.worker()
    task = stand_alone(rig, worker, handle_signals=True)
    await started.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: worker.is_draining)
    assert not task.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 5)
    assert await rig.status(job_id) == "queued"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_cancelling_closes_everything(rig: Rig):
    rig.task(work)
    task = stand_alone(rig, rig.worker())
    await eventually(lambda: rig.backend.count("claim") >= 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rig.memory.list_workers() == []


async def test_a_defect_in_a_duty_ends_the_worker_loudly(rig: Rig):
    async def broken(call):
        raise ZeroDivisionError("a defect")

    rig.task(work)
    rig.backend.fault("subscribe", broken)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(stand_alone(rig, rig.worker()), 10)


async def test_a_false_sweep_is_survived_as_a_new_incarnation(rig: Rig):
    rig.task(work)
    worker = rig.worker()
    stop = asyncio.Event()
    task = stand_alone(rig, worker, stop=stop, options=StandaloneOptions(heartbeat_interval_s=0.05))
    await eventually(lambda: rig.backend.count("heartbeat") >= 1)
    first = worker.id
    await rig.memory.release_workers([first], cause="crash", max_crashes=3)
    await eventually(lambda: worker.id != first and worker.state().phase == "running")
    job_id = await rig.enqueue("work")
    await rig.until(job_id, "done")
    await eventually(lambda: (("heartbeat", ([worker.id],), {})) in rig.backend.calls)
    stop.set()
    await asyncio.wait_for(task, 5)


@pytest.fixture
async def sqlite(tmp_path):
    backend = SQLiteBackend(str(tmp_path / "jobs.db"))
    await backend.open()
    yield backend
    await backend.close()


def sqlite_worker(rig: Rig, backend: SQLiteBackend) -> Worker:
    rig.backend.inner = cast("StorageBackend", backend)
    return rig.worker()


async def test_a_handler_that_keeps_the_loop_busy_does_not_make_its_worker_look_dead(rig: Rig, sqlite, tmp_path):
    """Defect 15: the heartbeat comes from its own thread and connection."""
    ages = []

    async def compute():
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            pass
        [row] = await sqlite.list_workers()
        ages.append(row.heartbeat_age_s)

    rig.task(compute)
    worker = sqlite_worker(rig, sqlite)
    await sqlite.enqueue([NewJob(id=new_job_id(), name="compute", args_json="{}")])
    stop = asyncio.Event()
    options = StandaloneOptions(heartbeat_interval_s=0.05, connect=lambda: SQLiteBackend(str(tmp_path / "jobs.db")))
    task = stand_alone(rig, worker, stop=stop, options=options)
    await eventually(lambda: ages)
    assert ages[0] < 0.5
    stop.set()
    await asyncio.wait_for(task, 10)


async def test_a_draining_worker_goes_on_with_its_heartbeat(rig: Rig):
    """Defect 2: a drain may be longer than the timeout of a heartbeat."""
    started, release = asyncio.Event(), asyncio.Event()

    async def slow():
        started.set()
        await release.wait()

    rig.task(slow)
    await rig.enqueue("slow")
    stop = asyncio.Event()
    task = stand_alone(rig, rig.worker(), stop=stop, options=StandaloneOptions(heartbeat_interval_s=0.02))
    await started.wait()
    stop.set()
    await eventually(lambda: rig.backend.count("set_worker_status") == 1)
    beats = rig.backend.count("heartbeat")
    await eventually(lambda: rig.backend.count("heartbeat") >= beats + 3)
    release.set()
    await asyncio.wait_for(task, 5)


async def test_lost_workers_are_swept_though_all_slots_are_busy(rig: Rig, sqlite):
    """Defect 15: a sweep needs no free moment between jobs."""
    started, release = asyncio.Event(), asyncio.Event()

    async def slow():
        started.set()
        await release.wait()

    rig.task(slow)
    dead = record()
    await sqlite.register_worker(dead, names=["slow"])
    await sqlite.enqueue([NewJob(id=new_job_id(), name="slow", args_json="{}")])
    [lost] = await sqlite.claim(dead.id, names=None, queues=None, limit=1)
    await sqlite.enqueue([NewJob(id=new_job_id(), name="slow", args_json="{}")])
    worker = sqlite_worker(rig, sqlite)
    stop = asyncio.Event()
    options = StandaloneOptions(heartbeat_interval_s=0.02, heartbeat_timeout_s=0.3, sweep_interval_s=0.1)
    rig.options = worker.options
    task = stand_alone(rig, worker, stop=stop, options=options)
    await started.wait()

    async def was_released():
        job = await sqlite.get_job(JobId(lost.fence.job_id))
        return job is not None and job["crashes"] == 1

    await eventually(was_released)
    release.set()
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_a_lone_worker_deletes_batch_by_batch_what_nobody_needs(rig: Rig, monkeypatch):
    monkeypatch.setattr("soniqd.policy.pruning.PRUNE_BATCH", 10)
    monkeypatch.setattr("soniqd.worker.standalone.PRUNE_BATCH", 10)
    monkeypatch.setattr("soniqd.policy.sweep.RECONNECT_S", 0.0)
    expired = 95

    async def prune(*, limit: int) -> PruneReport:
        nonlocal expired
        batch = min(limit, expired)
        expired -= batch
        return PruneReport(history=batch)

    monkeypatch.setattr(rig.memory, "prune", prune)
    stop = asyncio.Event()
    options = StandaloneOptions(heartbeat_interval_s=0.02, sweep_interval_s=60)
    rig.task(work)
    task = stand_alone(rig, rig.worker(), stop=stop, options=options)
    await eventually(lambda: expired == 0)
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_a_lone_worker_looks_at_dead_rows_where_jobs_end(rig: Rig, monkeypatch):
    monkeypatch.setattr("soniqd.worker.standalone.LOOK_EVERY_S", 0.001)
    monkeypatch.setattr("soniqd.policy.vacuuming.ENDED_FROM", 3)
    looked = asyncio.Event()

    async def wear() -> None:
        looked.set()

    monkeypatch.setattr(rig.memory, "wear", wear)
    stop = asyncio.Event()
    rig.task(work)
    task = stand_alone(rig, rig.worker(), stop=stop)
    for _ in range(3):
        assert not looked.is_set()
        await rig.enqueue("work")
    await asyncio.wait_for(looked.wait(), 10)
    stop.set()
    await asyncio.wait_for(task, 5)


def test_incarnations_are_new_ids():
    assert record().id != record().id
    assert str(uuid.UUID(WorkerId(record().id)))


@pytest.mark.parametrize("own_thread", [True, False])
async def test_a_heartbeat_that_cannot_beat_ends_the_worker_loudly(rig: Rig, own_thread):
    def broken():
        raise ZeroDivisionError("a defect")

    async def broken_call(call):
        broken()

    rig.task(work)
    rig.backend.fault("heartbeat", broken_call)
    options = StandaloneOptions(connect=broken if own_thread else None)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(stand_alone(rig, rig.worker(), options=options), 10)
    assert await rig.memory.list_workers() == []
