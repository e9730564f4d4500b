"""Looking at jobs, cancelling and deleting them; queues, counts and pruning."""

from __future__ import annotations

from typing import Any

from soniqd.backends import JobFilter, StorageBackend
from soniqd.model import DeadLettered, JobId
from tests.backends.conformance.builders import claim, claim_one, claimed_job, done, job, new_id, record, worker
from tests.support.waiting import eventually


async def one_of_each(backend: StorageBackend) -> dict[str, str]:
    """Store a job in every status and return their ids by status."""
    claimer = await worker(backend)
    await backend.enqueue([job(queue="q1") for _ in range(3)])
    finished, dead, held = await claim(backend, claimer, limit=3)
    await backend.complete([done(finished, 1), DeadLettered(dead.fence, "max_retries", "boom")])
    cancelled, queued = job(queue="q1"), job(queue="q2")
    await backend.enqueue([cancelled, queued])
    await backend.cancel_job(cancelled.id)
    return {
        "done": finished.fence.job_id,
        "dead_letter": dead.fence.job_id,
        "processing": held.fence.job_id,
        "cancelled": cancelled.id,
        "queued": queued.id,
    }


async def test_a_job_is_found_in_every_status(backend: StorageBackend) -> None:
    for status, job_id in (await one_of_each(backend)).items():
        assert (await record(backend, job_id))["status"] == status


async def test_an_unknown_job_is_none(backend: StorageBackend) -> None:
    assert await backend.get_job(JobId(new_id())) is None


async def test_every_record_has_every_key(backend: StorageBackend) -> None:
    from soniqd.model import JobRecord

    await one_of_each(backend)
    for shown in await backend.list_jobs(JobFilter()):
        assert set(shown) == set(JobRecord.__annotations__)


async def test_jobs_are_listed_newest_first(backend: StorageBackend) -> None:
    jobs = [job() for _ in range(5)]
    for one in jobs:
        await backend.enqueue([one])
    listed = await backend.list_jobs(JobFilter())
    assert [shown["id"] for shown in listed] == [one.id for one in reversed(jobs)]


async def test_listing_is_paged(backend: StorageBackend) -> None:
    jobs = [job() for _ in range(5)]
    for one in jobs:
        await backend.enqueue([one])
    pages = [await backend.list_jobs(JobFilter(limit=2, offset=offset)) for offset in (0, 2, 4, 6)]
    assert [shown["id"] for page in pages for shown in page] == [one.id for one in reversed(jobs)]


async def test_filters_narrow_the_list(backend: StorageBackend) -> None:
    by_status = await one_of_each(backend)
    held = await record(backend, by_status["processing"])

    async def found(**where: Any) -> set[str]:
        return {shown["id"] for shown in await backend.list_jobs(JobFilter(**where))}

    for status, job_id in by_status.items():
        assert await found(status=status) == {job_id}
    assert await found() == set(by_status.values())
    assert await found(queue="q2") == {by_status["queued"]}
    assert await found(name="nobody") == set()
    assert await found(name="task", queue="q1", status="done") == {by_status["done"]}
    assert by_status["processing"] in await found(worker_id=held["worker_id"])
    assert by_status["queued"] not in await found(worker_id=held["worker_id"])


async def test_cancelling_says_what_it_found(backend: StorageBackend) -> None:
    by_status = await one_of_each(backend)
    answers = {status: await backend.cancel_job(JobId(job_id)) for status, job_id in by_status.items()}
    assert answers == {
        "queued": "cancelled",
        "processing": "processing",
        "done": "finished",
        "dead_letter": "finished",
        "cancelled": "finished",
    }
    assert await backend.cancel_job(JobId(new_id())) == "missing"


async def test_a_cancelled_job_is_kept_for_a_while_and_not_claimed(backend: StorageBackend) -> None:
    new = job()
    await backend.enqueue([new])
    await backend.cancel_job(new.id)
    shown = await record(backend, new.id)
    assert (shown["status"], shown["attempts"]) == ("cancelled", 0)
    assert shown["expires_at"] is not None
    assert await claim(backend, await worker(backend)) == []


async def test_everything_but_a_processing_job_can_be_deleted(backend: StorageBackend) -> None:
    by_status = await one_of_each(backend)
    for status, job_id in by_status.items():
        assert await backend.delete_job(JobId(job_id)) is (status != "processing"), status
        assert (await backend.get_job(JobId(job_id)) is None) is (status != "processing"), status
        assert await backend.delete_job(JobId(job_id)) is False


async def test_counts_by_queue(backend: StorageBackend) -> None:
    assert await backend.queue_stats() == []
    await one_of_each(backend)
    zero = {"queued": 0, "processing": 0, "done": 0, "dead_letter": 0, "cancelled": 0}
    assert [dict(row) for row in await backend.queue_stats()] == [
        {"queue": "q1", "total": 4} | zero | {"processing": 1, "done": 1, "dead_letter": 1, "cancelled": 1},
        {"queue": "q2", "total": 1} | zero | {"queued": 1},
    ]


async def test_queues_are_listed_with_their_state(backend: StorageBackend) -> None:
    await backend.enqueue([job(queue="b"), job(queue="b", delay_s=3600.0), job(queue="c", delay_s=3600.0)])
    assert await backend.set_queue_paused("a", paused=True) is True
    a, b, c = await backend.list_queues()
    assert (a.name, a.paused, a.stats["total"], a.oldest_queued_s) == ("a", True, 0, None)
    assert (b.name, b.paused, b.stats["queued"]) == ("b", False, 2)
    assert b.oldest_queued_s is not None
    assert 0 <= b.oldest_queued_s < 60
    assert (c.name, c.stats["queued"], c.oldest_queued_s) == ("c", 1, None)


async def test_pausing_says_whether_it_changed_anything(backend: StorageBackend) -> None:
    assert await backend.set_queue_paused("q", paused=False) is False
    assert await backend.set_queue_paused("q", paused=True) is True
    assert await backend.set_queue_paused("q", paused=True) is False
    assert await backend.set_queue_paused("q", paused=False) is True
    assert await backend.set_queue_paused("q", paused=False) is False


async def test_expired_results_are_pruned_and_others_kept(backend: StorageBackend) -> None:
    await backend.enqueue([job(), job(), job(), job()])
    kept, *short = await claim(backend, await worker(backend))
    await backend.complete([done(kept, ttl_s=3600.0), *(done(one, ttl_s=0.02) for one in short)])
    pruned: list[int] = []

    async def gone() -> bool:
        pruned.append((await backend.prune(limit=2)).history)
        return sum(pruned) == 3

    await eventually(gone)
    assert max(pruned) <= 2
    assert (await backend.prune()).history == 0
    assert (await record(backend, kept.fence.job_id))["status"] == "done"
    for one in short:
        assert await backend.get_job(one.fence.job_id) is None


async def test_pruning_keeps_what_is_in_use(backend: StorageBackend) -> None:
    claimed = await claimed_job(backend)
    await backend.enqueue([job()])
    report = await backend.prune()
    assert (report.history, report.workers, report.ticks) == (0, 0, 0)
    assert await backend.complete([done(claimed)]) == {claimed.fence.job_id}
    assert len(await backend.list_workers()) == 1


async def test_a_second_view_sees_the_same(backend: StorageBackend, second_backend: StorageBackend) -> None:
    new = job()
    await backend.enqueue([new])
    claimed = await claim_one(second_backend, await worker(second_backend))
    assert claimed.fence.job_id == new.id
    assert (await record(backend, new.id))["status"] == "processing"
    assert await backend.complete([done(claimed)]) == {new.id}
    assert (await record(second_backend, new.id))["status"] == "done"
