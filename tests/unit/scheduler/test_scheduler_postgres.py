"""Schedulers over PostgreSQL: the lock, and a database that crashes under them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta

import pytest

from soniqd.backends import JobFilter
from soniqd.backends.postgres import PostgresBackend
from soniqd.model import ScheduleSpec
from soniqd.scheduler import Scheduler
from tests.support.waiting import eventually

EVERY_SECOND = ScheduleSpec(name="often", job_name="t", type="interval", value="1")


@asynccontextmanager
async def scheduling(url: str, count: int):
    """Run schedulers, each with a backend of its own."""
    async with AsyncExitStack() as stack:
        schedulers, tasks = [], []
        for _ in range(count):
            backend = PostgresBackend(url)
            await backend.open()
            stack.push_async_callback(backend.close)
            schedulers.append(Scheduler(backend=backend, specs=[EVERY_SECOND]))
            tasks.append(asyncio.create_task(schedulers[-1].run()))
        try:
            yield schedulers
            assert not any(task.done() for task in tasks)
        finally:
            for scheduler in schedulers:
                scheduler.stop()
            await asyncio.wait_for(asyncio.gather(*tasks), 20)


@pytest.fixture
async def backend(postgres_url: str):
    backend = PostgresBackend(postgres_url)
    await backend.open()
    yield backend
    await backend.close()


async def jobs(backend: PostgresBackend) -> int:
    return len(await backend.list_jobs(JobFilter(limit=1000)))


async def test_one_of_several_leads_and_each_tick_is_fired_once(backend, postgres_url):
    due = await backend.now() - timedelta(seconds=100.5)
    await backend.put_schedules([EVERY_SECOND], {"often": due})
    async with scheduling(postgres_url, 3) as schedulers:
        await eventually(lambda: sum(scheduler.state().done for scheduler in schedulers) >= 102)
        phases = sorted(scheduler.state().phase for scheduler in schedulers)
    assert phases == ["following", "following", "leading"]
    [record] = await backend.list_schedules()
    assert record.next_run is not None
    assert await jobs(backend) == (record.next_run - due) / timedelta(seconds=1)


async def test_a_crash_of_the_database_loses_and_doubles_no_tick(backend, postgres_url, postgres_server):
    due = await backend.now() - timedelta(seconds=30.5)
    await backend.put_schedules([EVERY_SECOND], {"often": due})
    async with scheduling(postgres_url, 2) as schedulers:
        await eventually(lambda: sum(scheduler.state().done for scheduler in schedulers) >= 31)
        await asyncio.to_thread(postgres_server.restart, "immediate")
        before = sum(scheduler.state().done for scheduler in schedulers)
        await eventually(lambda: sum(scheduler.state().done for scheduler in schedulers) > before, timeout_s=5)
        await eventually(lambda: sum(scheduler.state().phase == "leading" for scheduler in schedulers) == 1)
    [record] = await backend.list_schedules()
    assert record.next_run is not None
    assert await jobs(backend) == (record.next_run - due) / timedelta(seconds=1)


async def test_ticks_are_fired_within_milliseconds(backend, postgres_url):
    at = await backend.now() + timedelta(seconds=0.5)
    await backend.put_schedules([EVERY_SECOND], {"often": at})
    async with scheduling(postgres_url, 1):

        async def three() -> bool:
            return await jobs(backend) >= 3

        await eventually(three)
    rows = await backend.list_jobs(JobFilter())
    late_s = [
        (datetime.fromisoformat(row["created_at"] or "") - at - timedelta(seconds=index)).total_seconds()
        for index, row in enumerate(reversed(rows))
    ]
    assert min(late_s) > -0.01  # the clocks are compared to within half a round trip
    assert sorted(late_s)[len(late_s) // 2] < 0.1, late_s
