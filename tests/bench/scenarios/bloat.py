"""What claims cost while a transaction elsewhere keeps every dead row, and after it has ended."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence

import psycopg

from soniqd.backends import StorageBackend
from soniqd.backends.factory import create_backend
from soniqd.control.identity import current_identity
from soniqd.model import Done, JobId, NewJob, WorkerId, WorkerRecord
from soniqd.queue.ids import new_job_id
from tests.bench.contestants import SONIQD
from tests.bench.distribution import quantile
from tests.bench.scenario import Bench, Case, Sample, Scenario

BATCH = 100
CHUNK = 2000


def cases(bench: Bench) -> Sequence[Case]:
    async def measure() -> Sample:
        async with SONIQD.database(bench.server) as url:
            return await _measure(url, fresh=bench.size(60_000, 10_000), held=bench.size(200_000, 30_000))

    return [Case("soniqd", measure)]


async def _measure(url: str, *, fresh: int, held: int) -> Sample:
    backend = create_backend(url, pool_min_size=1, pool_max_size=2)
    await backend.open()
    try:
        worker_id = await _register(backend)
        await _pass_through(backend, worker_id, CHUNK)
        before = await _pass_through(backend, worker_id, fresh)
        with psycopg.connect(url, autocommit=False) as holder:
            holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            holder.execute("SELECT count(*) FROM pg_class")
            during = await _pass_through(backend, worker_id, held)
            bloated = _sizes(url)
        after = await _pass_through(backend, worker_id, fresh)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM soniq_jobs")
        settled = await _pass_through(backend, worker_id, fresh)
        table, indexes = _sizes(url)
    finally:
        await backend.close()
    base = quantile(before, 0.99)
    return {
        "claim p99 ms, fresh": base,
        "claim p99 ms, while open": quantile(during, 0.99),
        "claim p99 ms, right after": quantile(after, 0.99),
        "claim p99 ms, after a vacuum": quantile(settled, 0.99),
        "open / fresh": quantile(during, 0.99) / base,
        "after / fresh": quantile(after, 0.99) / base,
        "jobs, while open": held,
        "jobs/s, while open": held / during.seconds,
        "table MiB, while open": bloated[0],
        "indexes MiB, while open": bloated[1],
        "table MiB, after": table,
        "indexes MiB, after": indexes,
    }


class _Timed(list[float]):
    """Milliseconds of each claim, and the seconds of all that was done."""

    seconds = 0.0


async def _register(backend: StorageBackend) -> WorkerId:
    record = WorkerRecord(
        id=WorkerId(str(uuid.uuid4())), process=current_identity(), queues=(), concurrency=BATCH, version="bench"
    )
    await backend.register_worker(record, names=["noop"])
    return record.id


async def _pass_through(backend: StorageBackend, worker_id: WorkerId, count: int) -> _Timed:
    """Let so many jobs go through the table, a chunk queued at a time; return what claims took."""
    timed, began = _Timed(), time.perf_counter()
    for start in range(0, count, CHUNK):
        await backend.enqueue([_job(number) for number in range(start, min(start + CHUNK, count))])
        while True:
            asked = time.perf_counter()
            jobs = await backend.claim(worker_id, names=["noop"], queues=None, limit=BATCH)
            if not jobs:
                break
            timed.append((time.perf_counter() - asked) * 1000)
            await backend.complete([Done(job.fence, None, 300.0) for job in jobs])
    timed.seconds = time.perf_counter() - began
    return timed


def _job(number: int) -> NewJob:
    return NewJob(JobId(new_job_id()), "noop", json.dumps({"i": number}))


def _sizes(url: str) -> tuple[float, float]:
    """Return MiB of the hot table and of its indexes."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pg_table_size('soniq_jobs'), pg_indexes_size('soniq_jobs'::regclass)"
        ).fetchone()
    assert row is not None
    return row[0] / 2**20, row[1] / 2**20


SCENARIO = Scenario(
    name="bloat",
    title="A transaction that stays open elsewhere",
    figure="open / fresh",
    cases=cases,
    rounds=(2, 1),
    estimate_s=(80, 8),
    note=f"Claims of {BATCH}, {CHUNK:,} jobs queued at a time, the database's own autovacuum.",
)
