"""What goes over the wire for a job: statements, round trips and bytes."""

from __future__ import annotations

import pytest

from soniqd import Soniq
from soniqd.app import worker as assembly
from soniqd.model import Done
from soniqd.queue.ids import new_job_id
from tests.support.jobs import claim, new_job, registered

BATCH = 500
REPEATED = 10


@pytest.fixture
def on_the_wire(wire, holds):
    """Return what compares everything that was heard with the budgets of one table."""

    def check(table, *, times, jobs):
        holds(f"{table}.statements", wire.statements / times)
        holds(f"{table}.round_trips", wire.round_trips / times)
        holds(f"{table}.bytes_sent_a_job", wire.sent / jobs)
        holds(f"{table}.bytes_received_a_job", wire.received / jobs)

    return check


def jobs(count):
    return [new_job(id=new_job_id(), args_json='{"number": 12345}') for _ in range(count)]


async def warm(store):
    """Let everything be prepared that will be."""
    worker_id = await registered(store)
    for _ in range(11):
        await store.enqueue(jobs(1))
        await store.enqueue(jobs(BATCH))
        while batch := await claim(store, worker_id, BATCH):
            await store.complete([Done(job.fence, None, 300.0) for job in batch])
    return worker_id


async def test_enqueueing_one_by_one(store, wire, on_the_wire):
    await warm(store)
    wire.reset()
    for job in jobs(REPEATED):
        await store.enqueue([job])
    on_the_wire("wire_enqueue_one", times=REPEATED, jobs=REPEATED)


async def test_claiming_and_completing(store, wire, on_the_wire):
    worker_id = await warm(store)
    await store.enqueue(jobs(REPEATED * BATCH))
    wire.reset()
    batches = [await claim(store, worker_id, BATCH) for _ in range(REPEATED)]
    on_the_wire("wire_claim", times=REPEATED, jobs=REPEATED * BATCH)
    wire.reset()
    for batch in batches:
        await store.complete([Done(job.fence, None, 300.0) for job in batch])
    on_the_wire("wire_done", times=REPEATED, jobs=REPEATED * BATCH)


async def test_claiming_one_job_on_an_idle_host(store, wire, on_the_wire):
    worker_id = await warm(store)
    for _ in range(2):  # the first one finds the queue calm again
        await store.enqueue(jobs(1))
        wire.reset()
        [job] = await claim(store, worker_id, 100)
    on_the_wire("wire_claim_one", times=1, jobs=1)
    await store.complete([Done(job.fence, None, 300.0)])


async def test_hot_statements_are_prepared(store, wire, holds):
    worker_id = await warm(store)
    await store.enqueue(jobs(REPEATED * BATCH))
    wire.reset()
    for _ in range(REPEATED):
        batch = await claim(store, worker_id, BATCH)
        await store.complete([Done(job.fence, None, 300.0) for job in batch])
    holds("wire_claim.parsed", wire.parsed)


async def test_a_whole_worker_at_work(wire, holds):
    """Everything that a worker sends until 5,000 jobs are done, its registration included."""
    count = 5_000
    async with Soniq(database_url=wire.url, enqueue_validation="none", pool_min_size=1) as app:

        @app.job(name="task")
        async def task(number: int) -> None:
            pass

        await app.enqueue_many("task", [{"number": number} for number in range(count)])
        backend = await app._lifecycle.open()
        worker = assembly.make_worker(app, backend, concurrency=100, queues=None, until_empty=True)
        wire.reset()
        await worker.run()
        holds("worker.statements_per_1000_jobs", wire.statements * 1000 / count)
        holds("worker.round_trips_per_1000_jobs", wire.round_trips * 1000 / count)
        stats = await app.get_queue_stats()
        assert [row["done"] for row in stats] == [count]
