"""Recurring jobs: declarations, and ticks that fire exactly once."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from soniqd.backends import StorageBackend
from soniqd.model import NewJob, ScheduleRecord, ScheduleSpec, Tick
from tests.backends.conformance.builders import job, new_id, record

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SPEC = ScheduleSpec(
    name="report",
    job_name="make_report",
    type="interval",
    value="60",
    args_json='{"a": 1}',
    queue="reports",
    priority=5,
    max_attempts=2,
    missed="latest",
)


async def put(backend: StorageBackend, spec: ScheduleSpec = SPEC, first_run: datetime = NOON) -> None:
    await backend.put_schedules([spec], {spec.name: first_run})


async def only(backend: StorageBackend) -> ScheduleRecord:
    [stored] = await backend.list_schedules()
    return stored


def tick(minute: int, new: NewJob | None = None) -> tuple[Tick, NewJob]:
    return Tick("report", NOON + minute * MINUTE), new or job("make_report")


async def test_a_new_one_starts_at_its_first_run(backend: StorageBackend) -> None:
    await put(backend)
    stored = await only(backend)
    assert stored == ScheduleRecord(SPEC, paused=False, next_run=NOON, last_run=None, last_job_id=None, run_count=0)


async def test_an_unchanged_one_keeps_its_next_run(backend: StorageBackend) -> None:
    await put(backend)
    await put(backend, first_run=NOON + 5 * MINUTE)
    assert (await only(backend)).next_run == NOON


async def test_another_payload_keeps_the_next_run_and_is_stored(backend: StorageBackend) -> None:
    await put(backend)
    changed = dataclasses.replace(
        SPEC, job_name="other", args_json='{"b": 2}', queue="q", priority=1, max_attempts=9, missed="skip"
    )
    await put(backend, changed, NOON + 5 * MINUTE)
    stored = await only(backend)
    assert stored.next_run == NOON
    assert stored.spec == changed


@pytest.mark.parametrize(
    "change", [{"value": "30"}, {"type": "cron", "value": "* * * * *"}, {"timezone": "Europe/Paris"}]
)
async def test_another_timing_starts_again(backend: StorageBackend, change: dict[str, str]) -> None:
    await put(backend)
    changed = dataclasses.replace(SPEC, **change)  # type: ignore[arg-type]
    await put(backend, changed, NOON + 5 * MINUTE)
    stored = await only(backend)
    assert (stored.next_run, stored.spec) == (NOON + 5 * MINUTE, changed)


async def test_putting_again_does_not_unpause(backend: StorageBackend) -> None:
    await put(backend)
    assert await backend.set_schedule_paused("report", paused=True) is True
    await put(backend)
    await put(backend, dataclasses.replace(SPEC, value="30"))
    assert (await only(backend)).paused is True
    assert await backend.set_schedule_paused("report", paused=False) is True
    assert (await only(backend)).paused is False


async def test_others_are_left_alone(backend: StorageBackend) -> None:
    await put(backend)
    await put(backend, dataclasses.replace(SPEC, name="another"))
    assert [stored.spec.name for stored in await backend.list_schedules()] == ["another", "report"]


async def test_unknown_names(backend: StorageBackend) -> None:
    assert await backend.set_schedule_paused("nobody", paused=True) is False
    assert await backend.remove_schedule("nobody") is False
    assert await backend.fire([tick(0)], schedule="report", next_run=NOON) == []
    assert await backend.list_schedules() == []


async def test_removing(backend: StorageBackend) -> None:
    await put(backend)
    assert await backend.remove_schedule("report") is True
    assert await backend.list_schedules() == []
    assert await backend.fire([tick(0)], schedule="report", next_run=NOON + MINUTE) == []
    assert await backend.queue_stats() == []


async def test_firing_stores_the_jobs_and_moves_on(backend: StorageBackend) -> None:
    await put(backend)
    first, second = tick(0), tick(1)
    fired = await backend.fire([first, second], schedule="report", next_run=NOON + 2 * MINUTE)
    assert fired == [first[1].id, second[1].id]
    for job_id in fired:
        assert (await record(backend, job_id))["status"] == "queued"
    stored = await only(backend)
    assert (stored.next_run, stored.last_run) == (NOON + 2 * MINUTE, NOON + MINUTE)
    assert (stored.last_job_id, stored.run_count) == (second[1].id, 2)


async def test_a_tick_fires_once(backend: StorageBackend) -> None:
    await put(backend)
    await backend.fire([tick(0)], schedule="report", next_run=NOON + MINUTE)
    again, fresh = tick(0), tick(1)
    assert await backend.fire([again, fresh], schedule="report", next_run=NOON + 2 * MINUTE) == [fresh[1].id]
    assert await backend.get_job(again[1].id) is None
    assert (await only(backend)).run_count == 2


async def test_next_run_never_moves_back(backend: StorageBackend) -> None:
    await put(backend)
    await backend.fire([tick(0)], schedule="report", next_run=NOON + 5 * MINUTE)
    await backend.fire([tick(0)], schedule="report", next_run=NOON + MINUTE)
    assert (await only(backend)).next_run == NOON + 5 * MINUTE


async def test_skipped_ticks_move_on_without_a_job(backend: StorageBackend) -> None:
    await put(backend)
    assert await backend.fire([], schedule="report", next_run=NOON + 5 * MINUTE) == []
    assert (await only(backend)).next_run == NOON + 5 * MINUTE


async def test_a_paused_one_fires_nothing(backend: StorageBackend) -> None:
    await put(backend)
    await backend.set_schedule_paused("report", paused=True)
    assert await backend.fire([tick(0)], schedule="report", next_run=NOON + MINUTE) == []
    assert await backend.queue_stats() == []
    await backend.set_schedule_paused("report", paused=False)
    assert len(await backend.fire([tick(0)], schedule="report", next_run=NOON + MINUTE)) == 1


async def test_a_tick_whose_job_has_a_queued_twin_stores_nothing(backend: StorageBackend) -> None:
    await put(backend)
    await backend.enqueue([job(dedup_key="report")])
    twin = tick(0, job(dedup_key="report"))
    assert await backend.fire([twin], schedule="report", next_run=NOON + MINUTE) == []
    assert await backend.get_job(twin[1].id) is None
    assert (await only(backend)).next_run == NOON + MINUTE


async def test_concurrent_schedulers_store_each_tick_once(backend: StorageBackend) -> None:
    await put(backend)
    await _fire_from(backend, [backend] * 5)


async def test_schedulers_of_two_views_store_each_tick_once(
    backend: StorageBackend, second_backend: StorageBackend
) -> None:
    await put(backend)
    await _fire_from(backend, [backend, second_backend] * 3)


async def _fire_from(backend: StorageBackend, views: list[StorageBackend]) -> None:
    for minute in range(5):
        calls = [view.fire([tick(minute)], schedule="report", next_run=NOON + (minute + 1) * MINUTE) for view in views]
        fired = [job_id for answer in await asyncio.gather(*calls) for job_id in answer]
        assert len(fired) == 1, f"minute {minute}"
    assert [row["queued"] for row in await backend.queue_stats()] == [5]
    assert (await only(backend)).run_count == 5


async def test_ticks_of_two_schedules_do_not_meet(backend: StorageBackend) -> None:
    await put(backend)
    await put(backend, dataclasses.replace(SPEC, name=f"other-{new_id()}"))
    names = [stored.spec.name for stored in await backend.list_schedules()]
    for name in names:
        assert len(await backend.fire([(Tick(name, NOON), job())], schedule=name, next_run=NOON + MINUTE)) == 1


async def test_the_clock_is_aware_and_right(backend: StorageBackend) -> None:
    now = await backend.now()
    assert now.tzinfo is not None
    assert abs((now - datetime.now(UTC)).total_seconds()) < 60
