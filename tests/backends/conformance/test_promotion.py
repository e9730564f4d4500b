"""Jobs for later: not claimable before their time, promoted when it has come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from soniqd.backends import StorageBackend
from soniqd.model import Retry, Snoozed
from tests.backends.conformance.builders import claim, claimed_job, ids, job, record, worker
from tests.support.waiting import eventually


async def test_a_job_for_later_is_not_claimable(backend: StorageBackend) -> None:
    await backend.enqueue([job(delay_s=3600.0)])
    assert await claim(backend, await worker(backend)) == []


async def test_the_next_due_time_is_known(backend: StorageBackend) -> None:
    assert (await backend.promote_due()).next_due_s is None
    await backend.enqueue([job(delay_s=3600.0), job(delay_s=100.0)])
    report = await backend.promote_due()
    assert report.promoted == 0
    assert report.next_due_s is not None
    assert 50 < report.next_due_s <= 100


async def test_a_due_job_is_promoted_and_claimable(backend: StorageBackend) -> None:
    new = job(delay_s=0.02)
    await backend.enqueue([new])

    async def promoted() -> bool:
        return (await backend.promote_due()).promoted == 1

    await eventually(promoted)
    assert (await backend.promote_due()).next_due_s is None
    shown = await record(backend, new.id)
    [claimed] = await claim(backend, await worker(backend))
    assert claimed.fence.job_id == new.id
    assert claimed.scheduled_at is not None
    assert shown["scheduled_at"] is not None
    assert abs((datetime.fromisoformat(shown["scheduled_at"]) - claimed.scheduled_at).total_seconds()) < 0.001
    assert claimed.scheduled_at <= datetime.now(UTC) + timedelta(seconds=1)


async def test_promotion_is_bounded_and_says_that_more_is_due(backend: StorageBackend) -> None:
    await backend.enqueue([job(delay_s=0.3) for _ in range(5)])
    counts: list[int] = []

    async def all_promoted() -> bool:
        report = await backend.promote_due(limit=2)
        counts.append(report.promoted)
        if report.promoted == 2 and sum(counts) < 5:
            assert report.next_due_s == 0
        return sum(counts) == 5

    await eventually(all_promoted)
    assert max(counts) == 2


async def test_a_promoted_job_keeps_its_place(backend: StorageBackend) -> None:
    earlier, later = job(delay_s=0.01), job()
    await backend.enqueue([earlier])
    await backend.enqueue([later])

    async def promoted() -> bool:
        return (await backend.promote_due()).promoted == 1

    await eventually(promoted)
    assert ids(await claim(backend, await worker(backend))) == [earlier.id, later.id]


async def test_a_cancelled_job_for_later_is_no_longer_due(backend: StorageBackend) -> None:
    new = job(delay_s=100.0)
    await backend.enqueue([new])
    await backend.cancel_job(new.id)
    assert (await backend.promote_due()).next_due_s is None


async def test_a_retry_waits_for_its_time(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([Retry(claimed.fence, 3600.0, "boom")])
    assert await claim(backend, await worker(backend)) == []
    next_due_s = (await backend.promote_due()).next_due_s
    assert next_due_s is not None
    assert 3500 < next_due_s <= 3600


async def test_a_snoozed_job_comes_back(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.complete([Snoozed(claimed.fence, 0.02, "busy")])

    async def promoted() -> bool:
        return (await backend.promote_due()).promoted == 1

    await eventually(promoted)
    assert ids(await claim(backend, await worker(backend))) == [claimed.fence.job_id]
