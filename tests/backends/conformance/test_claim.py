"""Claims: order, filters, who may claim, and the fence they hand out."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from soniqd.backends import StorageBackend
from soniqd.model import Fence, WorkerId, WorkerStatus
from tests.backends.conformance.builders import claim, claim_one, claimed_job, ids, job, new_id, record, worker


async def test_arrival_decides_among_equals(backend: StorageBackend) -> None:
    jobs = [job() for _ in range(30)]
    await backend.enqueue(jobs[:10])
    for one in jobs[10:]:
        await backend.enqueue([one])
    assert ids(await claim(backend, await worker(backend))) == [one.id for one in jobs]


async def test_lower_priority_number_comes_first(backend: StorageBackend) -> None:
    low, high, middle = job(priority=100), job(priority=-5), job(priority=50)
    await backend.enqueue([low, high, middle])
    assert ids(await claim(backend, await worker(backend))) == [high.id, middle.id, low.id]


async def test_priority_counts_over_all_queues_and_names(backend: StorageBackend) -> None:
    jobs = [job(f"n{n % 3}", queue=f"q{n % 4}", priority=(n * 7) % 25) for n in range(25)]
    await backend.enqueue(jobs)
    taken = await claim(backend, await worker(backend), limit=25)
    assert [one.priority for one in taken] == sorted(one.priority for one in jobs)


async def test_one_claim_answers_best_first(backend: StorageBackend) -> None:
    await backend.enqueue([job(priority=priority) for priority in (5, 3, 9, 1, 7, 3)])
    taken = await backend.claim(await worker(backend), names=None, queues=None, limit=6)
    assert [one.priority for one in taken] == [1, 3, 3, 5, 7, 9]


async def test_the_limit_holds(backend: StorageBackend) -> None:
    await backend.enqueue([job() for _ in range(5)])
    claimer = await worker(backend)
    assert len(await backend.claim(claimer, names=None, queues=None, limit=3)) == 3
    assert len(await backend.claim(claimer, names=None, queues=None, limit=3)) == 2
    assert await backend.claim(claimer, names=None, queues=None, limit=3) == []


async def test_only_registered_names_are_taken(backend: StorageBackend) -> None:
    known, unknown = job("known"), job("unknown", priority=1)
    await backend.enqueue([unknown, known])
    claimer = await worker(backend)
    assert ids(await claim(backend, claimer, names=["known", "another"])) == [known.id]
    assert (await record(backend, unknown.id))["status"] == "queued"


async def test_no_names_at_all_take_nothing(backend: StorageBackend) -> None:
    await backend.enqueue([job()])
    assert await backend.claim(await worker(backend), names=[], queues=None, limit=1) == []


async def test_only_the_given_queues_are_served(backend: StorageBackend) -> None:
    mail, other = job(queue="mail"), job(queue="other", priority=1)
    await backend.enqueue([other, mail])
    assert ids(await claim(backend, await worker(backend), queues=["mail", "empty"])) == [mail.id]


async def test_names_and_queues_filter_together(backend: StorageBackend) -> None:
    jobs = [job(name, queue=queue) for name in "abc" for queue in ("x", "y", "z")]
    await backend.enqueue(jobs)
    taken = await claim(backend, await worker(backend), names=["a", "c"], queues=["x", "z"])
    assert {(one.name, one.queue) for one in taken} == {("a", "x"), ("a", "z"), ("c", "x"), ("c", "z")}


async def test_a_paused_queue_is_left_alone(backend: StorageBackend) -> None:
    await backend.enqueue([job(queue="paused", priority=1), job(queue="open")])
    await backend.set_queue_paused("paused", paused=True)
    claimer = await worker(backend)
    assert [one.queue for one in await claim(backend, claimer)] == ["open"]
    assert await claim(backend, claimer, queues=["paused"]) == []
    await backend.set_queue_paused("paused", paused=False)
    assert [one.queue for one in await claim(backend, claimer)] == ["paused"]


@pytest.mark.parametrize("status", [WorkerStatus.STOPPING, WorkerStatus.STOPPED])
async def test_a_worker_that_is_not_active_gets_nothing(backend: StorageBackend, status: WorkerStatus) -> None:
    await backend.enqueue([job()])
    claimer = await worker(backend)
    await backend.set_worker_status([claimer], status)
    assert await backend.claim(claimer, names=None, queues=None, limit=1) == []


async def test_a_stopping_worker_may_become_active_again(backend: StorageBackend) -> None:
    await backend.enqueue([job()])
    claimer = await worker(backend)
    await backend.set_worker_status([claimer], WorkerStatus.STOPPING)
    await backend.set_worker_status([claimer], WorkerStatus.ACTIVE)
    assert len(await claim(backend, claimer)) == 1


async def test_an_unregistered_worker_gets_nothing(backend: StorageBackend) -> None:
    await backend.enqueue([job()])
    assert await backend.claim(WorkerId(new_id()), names=None, queues=None, limit=1) == []


async def test_a_claim_hands_out_what_the_handler_needs(backend: StorageBackend) -> None:
    new = job("mail.send", args_json='{"n": 1}', queue="mail", priority=3, max_attempts=5)
    await backend.enqueue([new])
    claimer = await worker(backend)
    claimed = await claim_one(backend, claimer)
    assert claimed.fence == Fence(new.id, claimer, claimed.fence.claim_no)
    assert (claimed.name, claimed.queue, claimed.priority) == ("mail.send", "mail", 3)
    assert (claimed.attempts, claimed.max_attempts, claimed.crashes) == (0, 5, 0)
    assert claimed.created_at is not None
    assert claimed.created_at.tzinfo is not None
    assert claimed.scheduled_at is None


async def test_a_claimed_job_is_shown_as_processing(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    shown = await record(backend, claimed.fence.job_id)
    assert shown["status"] == "processing"
    assert shown["worker_id"] == claimed.fence.worker_id
    assert shown["started_at"] is not None


async def test_claims_of_finds_what_a_worker_holds(backend: StorageBackend) -> None:
    await backend.enqueue([job(priority=2), job(priority=1), job(priority=3)])
    mine, other = await worker(backend), await worker(backend)
    taken = await claim(backend, mine, limit=2)
    await claim(backend, other, limit=1)
    assert await backend.claims_of(mine) == taken
    assert await backend.claims_of(WorkerId(new_id())) == []


async def test_concurrent_claims_share_nothing(backend: StorageBackend) -> None:
    await backend.enqueue([job() for _ in range(200)])
    workers = [await worker(backend) for _ in range(8)]
    answers = await asyncio.gather(*(claim(backend, one, limit=40) for one in workers))
    counts = Counter(job_id for answer in answers for job_id in ids(answer))
    assert len(counts) == 200
    assert set(counts.values()) == {1}


async def test_two_views_claim_each_job_once(backend: StorageBackend, second_backend: StorageBackend) -> None:
    await backend.enqueue([job() for _ in range(300)])
    first, second = await worker(backend), await worker(second_backend)

    async def drain(view: StorageBackend, claimer: WorkerId) -> list[str]:
        taken: list[str] = []
        while answer := await view.claim(claimer, names=None, queues=None, limit=7):
            taken += ids(answer)
        return taken

    taken = [i for answer in await asyncio.gather(drain(backend, first), drain(second_backend, second)) for i in answer]
    assert len(taken) == len(set(taken)) == 300
