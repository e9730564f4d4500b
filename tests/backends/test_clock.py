"""What becomes of rows as days pass, by a clock that the test turns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from soniqd.backends import StorageBackend
from soniqd.backends.memory import MemoryBackend
from soniqd.backends.sqlite import SQLiteBackend
from soniqd.model import ScheduleSpec, Tick, WorkerStatus
from tests.backends.conformance.builders import claim, done, job, worker

HOUR = 3600.0
DAY = 24 * HOUR


class Clock:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> AsyncIterator[StorageBackend]:
    opened: StorageBackend
    opened = MemoryBackend(clock=clock) if request.param == "memory" else SQLiteBackend(tmp_path / "j.db", clock=clock)
    await opened.open()
    yield opened
    await opened.close()


async def test_its_clock_is_the_injected_one(backend: StorageBackend, clock: Clock) -> None:
    assert await backend.now() == datetime.fromtimestamp(clock.time, UTC)


async def test_a_job_is_due_exactly_at_its_time(backend: StorageBackend, clock: Clock) -> None:
    await backend.enqueue([job(delay_s=10.0)])
    clock.time += 9.5
    report = await backend.promote_due()
    assert (report.promoted, report.next_due_s) == (0, 0.5)
    clock.time += 0.5
    report = await backend.promote_due()
    assert (report.promoted, report.next_due_s) == (1, None)
    [claimed] = await claim(backend, await worker(backend))
    assert claimed.scheduled_at == datetime.fromtimestamp(clock.time, UTC)


async def test_a_result_expires_after_its_time(backend: StorageBackend, clock: Clock) -> None:
    await backend.enqueue([job()])
    [claimed] = await claim(backend, await worker(backend))
    await backend.complete([done(claimed, ttl_s=300.0)])
    clock.time += 299
    assert (await backend.prune()).history == 0
    clock.time += 1
    assert (await backend.prune()).history == 1


async def test_a_cancelled_job_is_kept_for_a_day(backend: StorageBackend, clock: Clock) -> None:
    new = job()
    await backend.enqueue([new])
    await backend.cancel_job(new.id)
    clock.time += DAY - 1
    assert (await backend.prune()).history == 0
    clock.time += 1
    assert (await backend.prune()).history == 1
    assert await backend.get_job(new.id) is None


async def test_a_stopped_worker_is_kept_for_a_day_and_a_living_one_for_ever(
    backend: StorageBackend, clock: Clock
) -> None:
    stopped, _ = await worker(backend), await worker(backend)
    await backend.set_worker_status([stopped], WorkerStatus.STOPPED)
    clock.time += DAY
    assert (await backend.prune()).workers == 0
    clock.time += 1
    assert (await backend.prune()).workers == 1
    assert len(await backend.list_workers()) == 1


async def test_old_ticks_go_and_stay_fired(backend: StorageBackend, clock: Clock) -> None:
    start = datetime.fromtimestamp(clock.time, UTC)
    spec = ScheduleSpec(name="s", job_name="task", type="interval", value="60")
    await backend.put_schedules([spec], {"s": start})
    for hours in (0, 6 * 24):
        at = start + timedelta(hours=hours)
        await backend.fire([(Tick("s", at), job())], schedule="s", next_run=at + timedelta(minutes=1))
    clock.time += 7 * DAY + 1
    assert (await backend.prune()).ticks == 1
    assert (await backend.prune()).ticks == 0
    again = (Tick("s", start + timedelta(days=6)), job())
    assert await backend.fire([again], schedule="s", next_run=start) == []


async def test_a_worker_is_stale_after_the_timeout_and_not_before(backend: StorageBackend, clock: Clock) -> None:
    one = await worker(backend)
    clock.time += 300
    assert (await backend.sweep(heartbeat_timeout_s=300.0, max_crashes=3)).workers == ()
    clock.time += 0.5
    assert (await backend.sweep(heartbeat_timeout_s=300.0, max_crashes=3)).workers == (one,)


async def test_a_heartbeat_renews(backend: StorageBackend, clock: Clock) -> None:
    one = await worker(backend)
    clock.time += 200
    assert await backend.heartbeat([one]) == {one}
    clock.time += 200
    assert (await backend.sweep(heartbeat_timeout_s=300.0, max_crashes=3)).workers == ()
