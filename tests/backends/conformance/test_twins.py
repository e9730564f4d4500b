"""A job that comes back while a twin is queued gives its key up and stays a job."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from soniqd.backends import StorageBackend
from soniqd.model import ClaimedJob, NewJob, Outcome, Released, Retry, Snoozed
from tests.backends.conformance.builders import claim, claim_one, ids, job, record, unique_job, worker

KEYED: dict[str, Callable[[], NewJob]] = {
    "dedup": lambda: job(dedup_key="k"),
    "unique": lambda: unique_job(args={"a": 1}),
    "both": lambda: unique_job(args={"a": 1}, dedup_key="k"),
}

COMING_BACK: dict[str, Callable[[ClaimedJob], Outcome]] = {
    "retry": lambda one: Retry(one.fence, 0.0, "boom"),
    "later": lambda one: Retry(one.fence, 3600.0, "boom"),
    "snooze": lambda one: Snoozed(one.fence, 0.0, None),
    "release": lambda one: Released(one.fence, interrupted=False),
}


@pytest.fixture(params=KEYED)
def keyed(request: pytest.FixtureRequest) -> Callable[[], NewJob]:
    return KEYED[request.param]


@pytest.mark.parametrize("way", COMING_BACK)
async def test_an_outcome_gives_the_key_up(backend: StorageBackend, keyed: Callable[[], NewJob], way: str) -> None:
    first, twin = keyed(), keyed()
    await backend.enqueue([first])
    claimed = await claim_one(backend, await worker(backend))
    await backend.enqueue([twin])
    assert await backend.complete([COMING_BACK[way](claimed)]) == {first.id}
    assert _holds_key(await record(backend, first.id)) is False
    assert _holds_key(await record(backend, twin.id)) is True
    assert await backend.enqueue([keyed()]) == [twin.id]


async def test_the_key_is_kept_where_no_twin_waits(backend: StorageBackend, keyed: Callable[[], NewJob]) -> None:
    first = keyed()
    await backend.enqueue([first])
    claimed = await claim_one(backend, await worker(backend))
    await backend.complete([Released(claimed.fence, interrupted=False)])
    assert _holds_key(await record(backend, first.id)) is True
    assert await backend.enqueue([keyed()]) == [first.id]


async def test_a_released_worker_gives_its_keys_up(backend: StorageBackend, keyed: Callable[[], NewJob]) -> None:
    first, twin = keyed(), keyed()
    await backend.enqueue([first])
    dead = await worker(backend)
    await claim_one(backend, dead)
    await backend.enqueue([twin])
    report = await backend.release_workers([dead], cause="crash", max_crashes=3)
    assert report.requeued == (first.id,)
    assert sorted(ids(await claim(backend, await worker(backend)))) == sorted([first.id, twin.id])


@pytest.mark.parametrize("way", COMING_BACK)
async def test_two_twins_of_one_completion(backend: StorageBackend, keyed: Callable[[], NewJob], way: str) -> None:
    taken = await _twins_in_hand(backend, keyed)
    assert len(await backend.complete([COMING_BACK[way](one) for one in taken])) == 2
    held = [_holds_key(await record(backend, one.fence.job_id)) for one in taken]
    assert sorted(held) == [False, True]


async def test_two_twins_of_one_dead_worker(backend: StorageBackend, keyed: Callable[[], NewJob]) -> None:
    taken = await _twins_in_hand(backend, keyed)
    report = await backend.release_workers([taken[0].fence.worker_id], cause="interrupted", max_crashes=3)
    assert len(report.requeued) == 2
    held = [_holds_key(await record(backend, one.fence.job_id)) for one in taken]
    assert sorted(held) == [False, True]


async def test_two_twins_of_a_swept_worker(backend: StorageBackend, keyed: Callable[[], NewJob]) -> None:
    taken = await _twins_in_hand(backend, keyed)
    report = await backend.sweep(heartbeat_timeout_s=-1.0, max_crashes=3)
    assert set(report.released.requeued) == {one.fence.job_id for one in taken}


async def _twins_in_hand(backend: StorageBackend, keyed: Callable[[], NewJob]) -> list[ClaimedJob]:
    claimer = await worker(backend)
    taken = []
    for _ in range(2):
        await backend.enqueue([keyed()])
        taken.append(await claim_one(backend, claimer))
    return taken


def _holds_key(shown: object) -> bool:
    assert isinstance(shown, dict)
    return bool(shown["unique_job"] or shown["dedup_key"])
