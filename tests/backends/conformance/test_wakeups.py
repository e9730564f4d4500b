"""Wake-ups: whatever makes a job claimable is heard, without polling."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from soniqd.backends import StorageBackend, WakeUp, WakeUps
from soniqd.model import DeadLettered, JobId, Released, Retry
from tests.backends.conformance.builders import claimed_job, job, new_id, worker
from tests.support.waiting import eventually


@pytest.fixture
async def wake_ups(backend: StorageBackend) -> AsyncIterator[WakeUps]:
    subscription = await backend.subscribe()
    await eventually(lambda: subscription.live, message="the subscription is live")
    yield subscription
    await subscription.close()


async def drained(wake_ups: WakeUps) -> None:
    """Forget what preparing the test has told."""
    while await wake_ups.wait(0.1):
        pass


async def heard(wake_ups: WakeUps, queue: str) -> None:
    """Wait until the queue is named, or "anything" is."""
    async with asyncio.timeout(10):
        while not any(one in (WakeUp(queue), WakeUp()) for one in await wake_ups.wait(10.0)):
            pass


async def test_silence_is_an_empty_answer(wake_ups: WakeUps) -> None:
    await drained(wake_ups)
    assert await wake_ups.wait(0.05) == ()


async def test_enqueue_names_its_queues(backend: StorageBackend, wake_ups: WakeUps) -> None:
    await drained(wake_ups)
    await backend.enqueue([job(queue="a"), job(queue="b"), job(queue="a")])
    found: list[WakeUp] = []
    while {one.queue for one in found} != {"a", "b"}:
        answer = await wake_ups.wait(10.0)
        assert answer
        found += answer
    assert len(found) == 2


async def test_what_came_before_the_wait_is_not_lost(backend: StorageBackend, wake_ups: WakeUps) -> None:
    await drained(wake_ups)
    await backend.enqueue([job(queue="early")])
    await heard(wake_ups, "early")


async def test_a_job_for_later_announces_its_time(backend: StorageBackend, wake_ups: WakeUps) -> None:
    await drained(wake_ups)
    await backend.enqueue([job(delay_s=100.0), job(delay_s=3600.0)])
    [wake_up] = await wake_ups.wait(10.0)
    assert wake_up.queue is None
    assert wake_up.due_in_s is not None
    assert 50 < wake_up.due_in_s <= 101


async def test_a_retry_for_later_announces_its_time(backend: StorageBackend, wake_ups: WakeUps) -> None:
    claimed = await claimed_job(backend)
    await drained(wake_ups)
    await backend.complete([Retry(claimed.fence, 100.0, "boom")])
    [wake_up] = await wake_ups.wait(10.0)
    assert wake_up.due_in_s is not None
    assert 50 < wake_up.due_in_s <= 101


async def test_a_retry_at_once_wakes(backend: StorageBackend, wake_ups: WakeUps) -> None:
    claimed = await claimed_job(backend, queue="again")
    await drained(wake_ups)
    await backend.complete([Retry(claimed.fence, 0.0, "boom")])
    await heard(wake_ups, "again")


async def test_a_given_back_job_wakes(backend: StorageBackend, wake_ups: WakeUps) -> None:
    claimed = await claimed_job(backend, queue="again")
    await drained(wake_ups)
    await backend.complete([Released(claimed.fence, interrupted=False)])
    await heard(wake_ups, "again")


async def test_a_dead_workers_jobs_wake(backend: StorageBackend, wake_ups: WakeUps) -> None:
    claimed = await claimed_job(backend, queue="again")
    await drained(wake_ups)
    await backend.release_workers([claimed.fence.worker_id], cause="crash", max_crashes=3)
    await heard(wake_ups, "again")


async def test_a_sweep_wakes(backend: StorageBackend, wake_ups: WakeUps) -> None:
    await claimed_job(backend, queue="again")
    await drained(wake_ups)
    await backend.sweep(heartbeat_timeout_s=-1.0, max_crashes=3)
    await heard(wake_ups, "again")


async def test_promotion_wakes(backend: StorageBackend, wake_ups: WakeUps) -> None:
    await backend.enqueue([job(queue="due", delay_s=0.01)])
    await drained(wake_ups)

    async def promoted() -> bool:
        return (await backend.promote_due()).promoted == 1

    await eventually(promoted)
    await heard(wake_ups, "due")


async def test_a_replay_wakes(backend: StorageBackend, wake_ups: WakeUps) -> None:
    claimed = await claimed_job(backend, queue="dead")
    await backend.complete([DeadLettered(claimed.fence, "max_retries", "boom")])
    await drained(wake_ups)
    await backend.replay_dead_letter(claimed.fence.job_id, JobId(new_id()))
    await heard(wake_ups, "dead")


async def test_resuming_a_queue_wakes(backend: StorageBackend, wake_ups: WakeUps) -> None:
    await backend.set_queue_paused("held", paused=True)
    await backend.enqueue([job(queue="held")])
    await drained(wake_ups)
    await backend.set_queue_paused("held", paused=False)
    await heard(wake_ups, "held")


async def test_every_subscriber_hears(backend: StorageBackend, wake_ups: WakeUps) -> None:
    other = await backend.subscribe()
    try:
        await eventually(lambda: other.live)
        await backend.enqueue([job(queue="q")])
        await heard(wake_ups, "q")
        await heard(other, "q")
    finally:
        await other.close()


async def test_another_view_hears(backend: StorageBackend, second_backend: StorageBackend, wake_ups: WakeUps) -> None:
    await worker(second_backend)
    await drained(wake_ups)
    await second_backend.enqueue([job(queue="far")])
    await heard(wake_ups, "far")


async def test_a_burst_is_merged_per_queue(backend: StorageBackend, wake_ups: WakeUps) -> None:
    await drained(wake_ups)
    for _ in range(50):
        await backend.enqueue([job(queue="a")])
    found: list[WakeUp] = []
    while answer := await wake_ups.wait(0.2):
        found += answer
    assert 1 <= len(found) <= 2
    assert set(found) <= {WakeUp("a"), WakeUp()}


async def test_closing_is_final_and_harmless_twice(backend: StorageBackend) -> None:
    subscription = await backend.subscribe()
    await subscription.close()
    await subscription.close()
    assert subscription.live is False
    await backend.enqueue([job()])
