"""Counting and listing what is too much to be looked at row by row."""

from __future__ import annotations

import psycopg
import pytest

from soniqd.backends import JobFilter
from soniqd.backends.postgres import inspect
from soniqd.model import JobId
from soniqd.queue.ids import new_job_id, new_job_ids
from tests.support.jobs import new_job
from tests.support.waiting import eventually

_MANY = 40_000


@pytest.fixture
def many(postgres_url):
    """Store three parts of ready jobs and one for later, in two queues."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO soniq_jobs (id, job_name, args, queue, scheduled_at) SELECT gen_random_uuid(), 'task', '{}', "
            "CASE WHEN g %% 4 = 0 THEN 'few' ELSE 'many' END, CASE WHEN g %% 2 = 0 THEN now() + interval '1 h' END "
            "FROM generate_series(1, %s) g",
            [_MANY],
        )


async def test_small_tables_are_counted(postgres, many):
    few, most = await postgres.list_queues()
    assert (few.stats["queued"], most.stats["queued"]) == (_MANY // 4, _MANY * 3 // 4)
    assert not few.estimated


async def test_large_tables_are_estimated_and_that_is_said(postgres, many, monkeypatch):
    monkeypatch.setattr(inspect, "COUNTED_EXACTLY", 1000)
    monkeypatch.setattr(inspect, "_SAMPLED_PAGES", 200)
    few, most = await postgres.list_queues()
    assert few.estimated
    assert few.stats["queued"] == pytest.approx(_MANY / 4, rel=0.4)
    assert most.stats["queued"] == pytest.approx(_MANY * 3 / 4, rel=0.4)
    assert most.oldest_queued_s is not None
    assert [row["queue"] for row in await postgres.queue_stats()] == ["few", "many"]


async def test_an_estimate_is_never_less_than_what_was_counted(postgres, many, monkeypatch):
    monkeypatch.setattr(inspect, "COUNTED_EXACTLY", 1000)
    monkeypatch.setattr(inspect, "_SAMPLED_PAGES", 0)
    stats = await postgres.queue_stats()
    assert sum(row["queued"] for row in stats) == 1001


async def test_jobs_of_all_kinds_of_ids_are_listed_by_their_age(postgres):
    ids = []
    for n in range(6):
        job = new_job() if n % 2 else new_job(id=new_job_id())
        ids += await postgres.enqueue([job])
    await postgres.cancel_job(JobId(ids[3]))
    await postgres.cancel_job(JobId(ids[4]))
    ids.reverse()
    assert [job["id"] for job in await postgres.list_jobs(JobFilter())] == ids
    assert [job["id"] for job in await postgres.list_jobs(JobFilter(limit=2, offset=3))] == ids[3:5]


async def test_listing_the_newest_of_many_jobs_reads_few(postgres, postgres_url):
    jobs = [new_job(id=new_job_id(), queue="q") for _ in range(5000)]
    await postgres.enqueue(jobs)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        before = _rows_read(connection)
        listed = await postgres.list_jobs(JobFilter(limit=10))
        await postgres.close()  # a session tells of its statistics when it ends
        read = await eventually(lambda: _rows_read(connection) - before)
    assert {job["id"] for job in listed} <= {job.id for job in jobs[-1200:]}
    assert 0 < read < 2500


def _rows_read(connection) -> int:
    [(read,)] = connection.execute(
        "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables"
    ).fetchall()
    return int(read)


async def test_the_pages_of_a_list_of_bulk_jobs_neither_overlap_nor_leave_one_out(postgres):
    jobs = [new_job(id=job_id) for job_id in new_job_ids(5000)]
    await postgres.enqueue(jobs)
    pages = [await postgres.list_jobs(JobFilter(limit=500, offset=offset)) for offset in range(0, 5000, 500)]
    assert [job["id"] for page in pages for job in page] == [job.id for job in reversed(jobs)]
