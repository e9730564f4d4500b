"""Rows, index entries and bytes of write-ahead log that a job costs, from its enqueueing to the end of its history."""

from __future__ import annotations

import pytest

from soniqd.model import Done, Retry
from soniqd.queue.ids import new_job_id
from tests.budgets.wal import writing
from tests.support.jobs import claim, new_job, registered

JOBS = 2_000
BATCH = 500


@pytest.fixture
def written(quiet_server, holds):
    """Return what compares everything that was written with the budgets of one table."""

    def check(table, done, jobs=JOBS):
        holds(f"{table}.rows", done.rows / jobs)
        holds(f"{table}.row_locks", done.locks / jobs)
        holds(f"{table}.index_entries", done.index_entries / jobs)
        holds(f"{table}.wal_bytes", done.bytes / jobs)

    return check


def jobs(count=JOBS, **changes):
    return [new_job(id=new_job_id(), args_json='{"number": 12345}', **changes) for _ in range(count)]


async def claimed(store, count=JOBS, **changes):
    """Store jobs and claim them in batches."""
    await store.enqueue(jobs(count, **changes))
    worker_id = await registered(store)
    return [await claim(store, worker_id, BATCH) for _ in range(0, count, BATCH)]


async def test_enqueueing_one_by_one(store, quiet_server, written):
    with writing(quiet_server) as done:
        for job in jobs(200):
            await store.enqueue([job])
    written("enqueue_one", done, 200)


async def test_enqueueing_in_bulk(store, quiet_server, written):
    with writing(quiet_server) as done:
        await store.enqueue(jobs())
    written("enqueue_bulk", done)


async def test_enqueueing_for_later(store, quiet_server, written):
    with writing(quiet_server) as done:
        await store.enqueue(jobs(delay_s=3600))
    written("enqueue_later", done)


async def test_claiming(store, quiet_server, written):
    await store.enqueue(jobs())
    worker_id = await registered(store)
    with writing(quiet_server) as done:
        for _ in range(0, JOBS, BATCH):
            assert len(await claim(store, worker_id, BATCH)) == BATCH
    written("claim", done)


@pytest.mark.parametrize(("table", "ttl_s"), [("done_kept", 300.0), ("done_dropped", 0.0)])
async def test_completing(store, quiet_server, written, table, ttl_s):
    batches = await claimed(store)
    with writing(quiet_server) as done:
        for batch in batches:
            await store.complete([Done(job.fence, '{"result": 1}', ttl_s) for job in batch])
    written(table, done)


async def test_coming_back_for_another_attempt(store, quiet_server, written):
    batches = await claimed(store)
    with writing(quiet_server) as done:
        for batch in batches:
            await store.complete([Retry(job.fence, 60.0, "ValueError: no") for job in batch])
    written("retry", done)


async def test_promoting_what_is_due(store, quiet_server, written):
    await store.enqueue(jobs(delay_s=3600))
    async with store.acquire() as connection:
        await connection.execute("UPDATE soniq_jobs SET scheduled_at = now() - interval '1 second'")
        await connection.execute("VACUUM soniq_jobs")
    with writing(quiet_server) as done:
        assert (await store.promote_due(limit=JOBS)).promoted == JOBS
    written("promote", done)


async def test_forgetting_history(store, quiet_server, written):
    for batch in await claimed(store):
        await store.complete([Done(job.fence, None, 300.0) for job in batch])
    async with store.acquire() as connection:
        await connection.execute("UPDATE soniq_finished_jobs SET expires_at = now() - interval '1 second'")
        await connection.execute("VACUUM soniq_finished_jobs")
    with writing(quiet_server) as done:
        assert (await store.prune()).history == JOBS
    written("prune", done)


async def test_a_batch_is_one_transaction(store, quiet_server, holds):
    batches = await claimed(store, BATCH)
    with writing(quiet_server) as done:
        for batch in batches:
            await store.complete([Done(job.fence, None, 300.0) for job in batch])
    holds("done_kept.commits_a_batch", done.commits / len(batches))
