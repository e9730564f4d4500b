import asyncio

import psycopg
import pytest

from soniqd.backends import PruneReport
from soniqd.backends.postgres import PostgresBackend, database
from soniqd.backends.postgres.leadership import advisory_key
from soniqd.errors import DatabaseUnavailableError
from soniqd.model import Done, WorkerStatus
from tests.support.jobs import claim, new_job, new_worker, registered
from tests.support.waiting import eventually


@pytest.fixture
def execute(postgres_url):
    def run(statement):
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return run


async def test_jobs_of_a_worker_that_marked_itself_stopped_are_swept(postgres):
    """Soniq's sweep looked at active workers only."""
    job = new_job()
    await postgres.enqueue([job])
    worker_id = await registered(postgres)
    await claim(postgres, worker_id)
    await postgres.set_worker_status([worker_id], WorkerStatus.STOPPED)
    report = await postgres.sweep(heartbeat_timeout_s=300, max_crashes=3)
    assert report.released.requeued == (job.id,)
    assert report.workers == ()


async def test_jobs_whose_workers_row_is_gone_are_swept(postgres, execute):
    job = new_job()
    await postgres.enqueue([job])
    await claim(postgres, await registered(postgres))
    execute("DELETE FROM soniq_workers")
    report = await postgres.sweep(heartbeat_timeout_s=300, max_crashes=3)
    assert report.released.requeued == (job.id,)


async def test_a_falsely_swept_worker_is_told_and_its_jobs_run_elsewhere(postgres, execute):
    await postgres.enqueue([new_job()])
    worker_id = await registered(postgres)
    [claimed] = await claim(postgres, worker_id)
    execute("UPDATE soniq_workers SET last_heartbeat = now() - interval '1 day'")
    await postgres.sweep(heartbeat_timeout_s=300, max_crashes=3)
    assert await postgres.heartbeat([worker_id]) == frozenset()
    assert await claim(postgres, worker_id) == []
    assert len(await claim(postgres, await registered(postgres))) == 1
    assert await postgres.complete([Done(claimed.fence, "1", 60)]) == frozenset()


async def test_a_worker_that_drains_longer_than_the_timeout_keeps_its_jobs_while_it_beats(postgres, execute):
    """Soniq stopped the heartbeat of a draining worker, and the sweep took its jobs while they ran."""
    await postgres.enqueue([new_job()])
    worker_id = await registered(postgres)
    [claimed] = await claim(postgres, worker_id)
    await postgres.set_worker_status([worker_id], WorkerStatus.STOPPING)
    execute("UPDATE soniq_workers SET last_heartbeat = now() - interval '1 day'")
    assert await postgres.heartbeat([worker_id]) == {worker_id}
    report = await postgres.sweep(heartbeat_timeout_s=300, max_crashes=3)
    assert report.workers == ()
    assert await postgres.complete([Done(claimed.fence, "1", 60)]) == {claimed.fence.job_id}


async def test_one_host_sweeps_at_a_time(postgres, postgres_url):
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [advisory_key("sweep")])
        assert (await postgres.sweep(heartbeat_timeout_s=300, max_crashes=3)).ran is False
        other.rollback()
    assert (await postgres.sweep(heartbeat_timeout_s=300, max_crashes=3)).ran is True


async def test_many_hosts_sweeping_at_once_release_each_job_once(postgres, execute):
    jobs = [new_job() for _ in range(40)]
    await postgres.enqueue(jobs)
    for _ in range(4):
        await claim(postgres, await registered(postgres), 10)
    execute("UPDATE soniq_workers SET last_heartbeat = now() - interval '1 day'")
    reports = await asyncio.gather(*(postgres.sweep(heartbeat_timeout_s=300, max_crashes=3) for _ in range(6)))
    released = [job_id for report in reports for job_id in report.released.requeued]
    assert sorted(released) == sorted(job.id for job in jobs)
    assert execute("SELECT DISTINCT crashes FROM soniq_jobs") == [(1,)]


async def test_what_nobody_needs_is_pruned_in_bounded_numbers(postgres, execute):
    """Soniq kept cancelled jobs, stopped workers and the task registry for ever."""
    jobs = [new_job() for _ in range(6)]
    await postgres.enqueue(jobs)
    worker_id = await registered(postgres, "task", "other")
    await postgres.complete([Done(one.fence, "1", 60) for one in await claim(postgres, worker_id, 3)])
    for job in jobs[3:]:
        await postgres.cancel_job(job.id)
    await postgres.set_worker_status([worker_id], WorkerStatus.STOPPED)
    assert await postgres.prune() == PruneReport()
    execute("UPDATE soniq_finished_jobs SET expires_at = now() - interval '1 second'")
    execute("UPDATE soniq_workers SET last_heartbeat = now() - interval '2 days'")
    execute("INSERT INTO soniq_schedule_ticks VALUES ('s', now() - interval '30 days', gen_random_uuid())")
    assert await postgres.prune(limit=4) == PruneReport(history=4, workers=1, ticks=1)
    assert await postgres.prune(limit=4) == PruneReport(history=2)
    for table in ("soniq_finished_jobs", "soniq_workers", "soniq_task_registry", "soniq_schedule_ticks"):
        assert execute(f"SELECT count(*) FROM {table}") == [(0,)]


async def test_many_hosts_pruning_at_once_delete_each_row_once(postgres, execute):
    """Rows are not locked first: whoever meets another one's deletion waits for it, in the order of their places."""
    execute(
        "INSERT INTO soniq_finished_jobs (id, seq, job_name, args, status, queue, priority, attempts, max_attempts, "
        "crashes, interruptions, unique_job, outcome_no, created_at, expires_at) "
        "SELECT gen_random_uuid(), n, 'task', '{}', 'done', 'default', 100, 1, 1, 0, 0, false, 1, now(), "
        "now() - (n * 7919 % 251) * interval '1 second' - interval '1 second' FROM generate_series(1, 3000) n"
    )
    deleted = 0
    while reports := [r.history for r in await asyncio.gather(*(postgres.prune(limit=500) for _ in range(6)))]:
        deleted += sum(reports)
        if not any(reports):
            break
    assert deleted == 3000


async def test_names_of_workers_that_never_had_a_row_are_pruned(postgres, execute):
    execute("INSERT INTO soniq_task_registry VALUES ('t', 'soniq-worker-1', now() - interval '2 days')")
    await postgres.prune()
    assert execute("SELECT count(*) FROM soniq_task_registry") == [(0,)]


async def test_heartbeats_leave_no_index_entries_behind(postgres, execute):
    ids = [await registered(postgres) for _ in range(5)]
    for _ in range(10):
        await postgres.heartbeat(ids)
    statistics = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'soniq_workers'"
    async with asyncio.timeout(10):
        while (row := execute(statistics)[0])[0] < 50:
            await postgres.ping()
    assert row[1] >= row[0] * 0.9


async def test_two_processes_with_one_pid_on_one_host_are_two_workers(postgres):
    first, second = new_worker(), new_worker()
    for record in (first, second):
        await postgres.register_worker(record, names=["task"])
    assert {record.id for record in await postgres.list_workers()} == {first.id, second.id}


async def test_a_host_that_stands_still_while_it_sweeps_keeps_nobody_from_sweeping(postgres, postgres_url, monkeypatch):
    monkeypatch.setattr(database, "_LONGEST_SILENCE_S", 0.2)
    await postgres.enqueue([new_job()])
    [job] = await claim(postgres, await registered(postgres))
    frozen = PostgresBackend(postgres_url)
    standing = asyncio.Event()
    fetch = database.Transaction.fetch

    async def stand_still(self, statement, parameters):
        rows = await fetch(self, statement, parameters)
        if self._database is frozen._database and statement.name == "held_by_workers":
            standing.set()
            await go_on.wait()
        return rows

    go_on = asyncio.Event()
    monkeypatch.setattr(database.Transaction, "fetch", stand_still)
    sweeping = asyncio.create_task(frozen.sweep(heartbeat_timeout_s=-1, max_crashes=3))
    await standing.wait()

    async def swept():
        return (await postgres.sweep(heartbeat_timeout_s=-1, max_crashes=3)).released.requeued

    assert await eventually(swept) == (job.fence.job_id,)
    go_on.set()
    with pytest.raises(DatabaseUnavailableError):
        await sweeping
    await frozen.close()
