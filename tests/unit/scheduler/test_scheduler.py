"""The scheduler over the memory backend, with faults on demand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import cast

import pytest

from soniqd.backends import StorageBackend
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import SchemaError
from soniqd.model import ScheduleSpec
from soniqd.scheduler import Scheduler
from soniqd.scheduler.clock import DatabaseClock
from tests.support.waiting import eventually
from tests.unit.worker.rig import FaultyBackend, lost_after, lost_before


def every(seconds: float, name: str = "often", **fields) -> ScheduleSpec:
    return ScheduleSpec(name=name, job_name="t", type="interval", value=repr(seconds), **fields)


@pytest.fixture
async def memory() -> MemoryBackend:
    backend = MemoryBackend()
    await backend.open()
    return backend


def scheduler(memory: MemoryBackend, *specs: ScheduleSpec, backend: FaultyBackend | None = None) -> Scheduler:
    return Scheduler(backend=cast("StorageBackend", backend or FaultyBackend(memory)), specs=specs)


@asynccontextmanager
async def running(*schedulers: Scheduler) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(each.run()) for each in schedulers]
    try:
        yield tasks
    finally:
        for each in schedulers:
            each.stop()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)


async def fired(memory: MemoryBackend) -> int:
    return sum(stats["total"] for stats in await memory.queue_stats())


async def set_next_run(memory: MemoryBackend, spec: ScheduleSpec, *, in_s: float) -> datetime:
    """Store a schedule whose next tick is at a given time."""
    at = await memory.now() + timedelta(seconds=in_s)
    await memory.put_schedules([spec], {spec.name: at})
    return at


async def test_a_tick_is_fired_when_it_is_due_and_not_much_later(memory):
    at = await set_next_run(memory, every(3600), in_s=0.3)
    async with running(scheduler(memory)):
        await eventually(lambda: fired(memory))
        late_s = (await memory.now() - at).total_seconds()
    assert 0 <= late_s < 0.1


async def test_a_tick_is_the_job_that_was_declared(memory):
    spec = every(3600, args_json='{"a":1}', queue="q", priority=7, max_attempts=2)
    await set_next_run(memory, spec, in_s=-1)
    async with running(scheduler(memory)):
        await eventually(lambda: fired(memory))
    from soniqd.backends import JobFilter

    [job] = await memory.list_jobs(JobFilter())
    assert (job["job_name"], job["args"], job["queue"], job["priority"], job["max_attempts"]) == (
        "t",
        {"a": 1},
        "q",
        7,
        2,
    )


async def test_several_schedulers_fire_each_tick_once(memory):
    await set_next_run(memory, every(3600), in_s=-3 * 3600 - 1)
    await set_next_run(memory, every(600, "tens"), in_s=-1801)
    schedulers = [scheduler(memory) for _ in range(4)]
    async with running(*schedulers):
        await eventually(lambda: sum(each.state().phase == "leading" for each in schedulers) == 1)
        await eventually(lambda: sum(each.state().phase == "following" for each in schedulers) == 3)

        async def all_fired():
            return await fired(memory) == 6

        await eventually(all_fired)
    assert sum(each.state().done for each in schedulers) == 6


async def test_two_that_both_believe_to_lead_fire_each_tick_once(memory):
    """What makes a tick unique is the database, not the lock."""

    class Always:
        async def acquire(self):
            return True

        async def held(self, *, max_age_s=0.0):
            return True

        async def release(self):
            pass

    await set_next_run(memory, every(60), in_s=-59 * 60)
    both = []
    for _ in range(2):
        backend = FaultyBackend(memory)
        backend.__dict__["leadership"] = lambda name: Always()
        both.append(scheduler(memory, backend=backend))
    async with running(*both):
        await eventually(lambda: sum(each.state().done for each in both) >= 60)
        assert await fired(memory) == 60


async def test_a_follower_takes_over_within_a_second(memory):
    first, second = scheduler(memory), scheduler(memory)
    async with running(first):
        await eventually(lambda: first.state().phase == "leading")
        async with running(second):
            await eventually(lambda: second.state().phase == "following")
            first.stop()
            await eventually(lambda: second.state().phase == "leading", timeout_s=1)


async def test_a_restart_recomputes_nothing(memory):
    """Defect 11: a stored schedule keeps its next tick, and what was missed meanwhile is fired."""
    spec = every(3600)
    at = await set_next_run(memory, spec, in_s=-0.5)
    async with running(scheduler(memory, spec)):
        await eventually(lambda: fired(memory))
    [record] = await memory.list_schedules()
    assert record.next_run == at + timedelta(hours=1)


async def test_a_new_declaration_is_stored_with_its_first_tick(memory):
    ready = asyncio.Event()
    declaring = scheduler(memory, every(3600))
    declaring.on_ready = ready.set
    async with running(declaring):
        await ready.wait()
        [record] = await memory.list_schedules()
        assert record.next_run is not None
        assert 3590 < (record.next_run - await memory.now()).total_seconds() <= 3600


async def test_a_pause_by_another_process_is_honoured(memory):
    """Defect 11: the schedule is read again before its tick."""
    await set_next_run(memory, every(1), in_s=0.4)
    at = scheduler(memory)
    async with running(at):
        await eventually(lambda: at.state().phase == "leading")
        await memory.set_schedule_paused("often", paused=True)
        await asyncio.sleep(0.6)  # what must not happen has no event to wait for
        assert await fired(memory) == 0
        await memory.set_schedule_paused("often", paused=False)
        at.wake()
        await eventually(lambda: fired(memory))


async def test_a_schedule_added_later_is_noticed_at_a_wake_up(memory):
    lone = scheduler(memory)
    async with running(lone):
        await eventually(lambda: lone.state().phase == "leading")
        await set_next_run(memory, every(3600), in_s=0.05)
        lone.wake()
        await eventually(lambda: fired(memory), timeout_s=2)


async def test_a_schedule_that_means_no_time_hinders_no_other(memory, caplog):
    await set_next_run(memory, ScheduleSpec("bad", "t", "cron", "61 * * * *"), in_s=-1)
    await set_next_run(memory, every(3600), in_s=-1)
    with caplog.at_level(logging.ERROR, "soniqd"):
        async with running(scheduler(memory)):
            await eventually(lambda: fired(memory))
            await asyncio.sleep(0.05)  # a loop over the bad one would report it again
    assert [getattr(entry, "event", "") for entry in caplog.records] == ["schedule_refused"]


@pytest.mark.parametrize("fault", [lost_before, lost_after])
@pytest.mark.parametrize("method", ["fire", "list_schedules", "now", "put_schedules"])
async def test_a_lost_connection_loses_and_doubles_no_tick(memory, fault, method):
    backend = FaultyBackend(memory)
    backend.fault(method, fault, fault)
    await set_next_run(memory, every(60), in_s=-59 * 60)
    async with running(scheduler(memory, backend=backend)):

        async def all_fired():
            return await fired(memory) == 60

        await eventually(all_fired)
    [record] = await memory.list_schedules()
    assert record.next_run is not None
    assert 0 < (record.next_run - await memory.now()).total_seconds() <= 60


async def test_waiting_for_the_database_shows(memory):
    backend = FaultyBackend(memory)
    backend.fault("now", *[lost_before] * 5)
    waiting = scheduler(memory, backend=backend)
    phases: list[str] = []
    waiting.on_change = lambda: phases.append(waiting.state().phase)
    async with running(waiting):
        await eventually(lambda: "leading" in phases)
    assert phases[0] == "waiting_for_database"


async def test_a_missing_schema_ends_it(memory):
    async def no_tables(call):
        raise SchemaError("cannot work: run soniqctl setup")

    backend = FaultyBackend(memory)
    backend.fault("now", no_tables)
    with pytest.raises(SchemaError):
        await scheduler(memory, backend=backend).run()


async def test_tables_that_go_and_come_back_are_waited_for_and_told_the_schedules_again(memory):
    async def no_tables(call):
        raise SchemaError("cannot list schedules: run soniqctl setup")

    backend = FaultyBackend(memory)
    backend.fault("list_schedules", no_tables)
    backend.fault("put_schedules", lambda call: call(), no_tables)
    async with running(scheduler(memory, every(3600), backend=backend)):
        await eventually(lambda: backend.count("put_schedules") == 3 and backend.count("list_schedules") == 2)


async def test_a_tick_that_cannot_be_stored_is_one_outage_and_tried_ever_more_rarely(memory, caplog):
    """A full disk: the lock can be had and the schedules can be read, but nothing can be written."""
    caplog.set_level(logging.INFO)
    backend = FaultyBackend(memory)
    backend.fault("fire", *[lost_before] * 4)
    await set_next_run(memory, every(60), in_s=-1)
    async with running(scheduler(memory, backend=backend)):
        await eventually(lambda: "scheduler_database_back" in [getattr(entry, "event", "") for entry in caplog.records])
        events = [getattr(entry, "event", "") for entry in caplog.records]
    assert await fired(memory) == 1
    assert events == ["scheduler_leads", "scheduler_database_lost", "schedule_fired", "scheduler_database_back"]


async def test_a_paused_scheduler_lets_another_one_lead(memory):
    first, second = scheduler(memory), scheduler(memory)
    async with running(first):
        await eventually(lambda: first.state().phase == "leading")
        async with running(second):
            first.pause()
            await eventually(lambda: second.state().phase == "leading")
            assert first.state().phase == "paused"
            first.resume()
            await eventually(lambda: first.state().phase == "following")


async def test_skipped_ticks_are_passed_over_for_good(memory):
    at = await set_next_run(memory, every(3600, missed="skip"), in_s=-7000)
    lone = scheduler(memory)
    async with running(lone):

        async def moved():
            [record] = await memory.list_schedules()
            return record.next_run == at + timedelta(hours=2)

        await eventually(moved)
    assert await fired(memory) == 0


async def test_the_clock_is_the_databases(memory):
    class Skewed:
        async def now(self):
            return await memory.now() + timedelta(days=1)

    clock = DatabaseClock(cast("StorageBackend", Skewed()))
    await clock.refresh()
    ahead_s = clock.until_s(await memory.now())
    assert ahead_s == pytest.approx(-86_400, abs=1)
