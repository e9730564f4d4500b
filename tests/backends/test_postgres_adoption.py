"""A database that Soniq 0.1.0's own setup made, and its producers, which go on after soniqd has taken over."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from soniq import Soniq

from soniqd.backends import JobFilter, WakeUp
from soniqd.backends.postgres import PostgresBackend
from soniqd.model import Done, JobId
from tests.support.jobs import claim, new_worker, registered


@pytest.fixture
async def producer(empty_postgres_url):
    app = Soniq(database_url=empty_postgres_url, enqueue_validation="none")

    @app.job(name="mail.send")
    async def send(to: str) -> None: ...

    @app.job(name="report.build", unique=True)
    async def build(day: str) -> None: ...

    await app.setup()
    yield app
    await app.close()


@pytest.fixture
async def adopt(producer, empty_postgres_url):
    """Return what sets soniqd up over the producer's database."""
    backend = PostgresBackend(empty_postgres_url)

    async def setup():
        status = await backend.setup()
        assert "0001_core" in status.applied
        assert "0001_core" not in status.pending
        return backend

    yield setup
    await backend.close()


@pytest.fixture
def execute(empty_postgres_url):
    def run(statement, *parameters):
        with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    return run


async def enqueue(producer, name="mail.send", args=None, **options):
    return await producer.enqueue(name, args=args or {"to": "ada"}, **options)


async def test_queued_jobs_are_kept_and_run_in_the_order_of_their_arrival(producer, adopt):
    ids = [await enqueue(producer, args={"to": str(n)}) for n in range(5)]
    backend = await adopt()
    claimed = await claim(backend, await registered(backend, "mail.send"))
    assert [job.fence.job_id for job in claimed] == ids
    assert [json.loads(job.args_json) for job in claimed] == [{"to": str(n)} for n in range(5)]
    assert await backend.complete([Done(job.fence, None, 0) for job in claimed]) == set(ids)


async def test_done_and_cancelled_jobs_are_kept_in_the_history(producer, adopt, execute):
    done, cancelled = await enqueue(producer), await enqueue(producer)
    execute("UPDATE soniq_jobs SET status = 'done', result = '{\"n\": 1}' WHERE id = %s", done)
    assert await producer.cancel_job(cancelled)
    backend = await adopt()
    finished = await backend.get_job(JobId(done))
    assert finished is not None
    assert (finished["status"], finished["result"]) == ("done", {"n": 1})
    assert [job["id"] for job in await backend.list_jobs(JobFilter(status="cancelled"))] == [cancelled]
    assert execute("SELECT count(*) FROM soniq_jobs") == [(0,)]


async def test_dead_letters_are_kept_and_can_be_replayed(producer, adopt):
    job_id = await enqueue(producer)
    await producer.backend.mark_job_dead_letter(job_id, attempts=3, error="it broke", reason="max_retries_exceeded")
    backend = await adopt()
    dead = await backend.get_dead_letter(JobId(job_id))
    assert dead is not None
    assert (dead["job_name"], dead["last_error"], dead["crashes"]) == ("mail.send", "it broke", 0)
    fresh = await backend.replay_dead_letter(JobId(job_id), JobId(str(uuid.uuid4())))
    assert [job.fence.job_id for job in await claim(backend, await registered(backend))] == [fresh]


async def test_a_job_for_later_becomes_due(producer, adopt, execute):
    job_id = await enqueue(producer, scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    backend = await adopt()
    assert (await backend.promote_due()).promoted == 0
    execute("UPDATE soniq_jobs SET scheduled_at = now() - interval '1 second'")
    assert (await backend.promote_due()).promoted == 1
    assert [job.fence.job_id for job in await claim(backend, await registered(backend))] == [job_id]


async def test_jobs_that_soniqs_workers_left_behind_are_swept(producer, adopt, execute):
    """Of a worker that stopped, of one that never had a row, and of one whose heartbeat is old."""
    stopped, nobody, stale = [await enqueue(producer) for _ in range(3)]
    for job_id, status, age in ((stopped, "stopped", "0 s"), (stale, "active", "1 day")):
        worker_id = uuid.uuid4()
        execute(
            "INSERT INTO soniq_workers (id, hostname, pid, status, last_heartbeat) "
            "VALUES (%s, 'h', %s, %s, now() - %s::interval)",
            worker_id,
            len(age),
            status,
            age,
        )
        execute("UPDATE soniq_jobs SET status = 'processing', worker_id = %s WHERE id = %s", worker_id, job_id)
    execute("UPDATE soniq_jobs SET status = 'processing', updated_at = now() - interval '1 day' WHERE id = %s", nobody)
    backend = await adopt()
    report = await backend.sweep(heartbeat_timeout_s=300, max_crashes=3)
    assert set(report.released.requeued) == {stopped, nobody, stale}
    assert len(await claim(backend, await registered(backend))) == 3


async def test_two_workers_of_one_host_and_pid_register(adopt):
    """A container that restarts as pid 1 must not fight with its predecessor's row."""
    backend = await adopt()
    for record in (new_worker(), new_worker()):
        await backend.register_worker(record, names=["mail.send"])
    assert len(await backend.list_workers()) == 2


async def test_a_producer_goes_on_and_is_heard(producer, adopt):
    backend = await adopt()
    wake_ups = await backend.subscribe()
    assert await wake_ups.wait(5) == (WakeUp(),)
    job_id = await enqueue(producer, queue="urgent")
    assert await wake_ups.wait(5) == (WakeUp(queue="urgent"),)
    assert [job.fence.job_id for job in await claim(backend, await registered(backend))] == [job_id]
    await wake_ups.close()


@pytest.mark.parametrize(
    ("name", "options"), [("mail.send", {"dedup_key": "only"}), ("report.build", {"unique": True})]
)
async def test_a_producers_keyed_jobs_are_stored_once_while_queued(producer, adopt, name, options):
    backend = await adopt()
    args = {"to": "ada"} if name == "mail.send" else {"day": "today"}
    first = await enqueue(producer, name, args, **options)
    assert await enqueue(producer, name, args, **options) == first
    worker_id = await registered(backend)
    assert len(await claim(backend, worker_id)) == 1
    assert await enqueue(producer, name, args, **options) != first


async def test_a_producers_hash_is_ours(producer, adopt):
    from soniqd.queue.payload import args_hash

    backend = await adopt()
    args = {"day": {"z": "ü", "n": [1, {"b": None, "a": 2.5}]}}
    job_id = await enqueue(producer, "report.build", args, unique=True)
    twin = await backend.enqueue([_unique("report.build", args, args_hash(args))])
    assert twin == [job_id]


async def test_producers_that_enqueue_while_setup_runs_lose_nothing(producer, adopt):
    ids = [await enqueue(producer) for _ in range(50)]

    async def go_on():
        return [await enqueue(producer) for _ in range(50)]

    backend, more = await asyncio.gather(adopt(), go_on())
    claimed = await claim(backend, await registered(backend))
    assert {job.fence.job_id for job in claimed} == {*ids, *more}


async def test_soniqs_setup_changes_nothing_afterwards(producer, adopt, execute):
    await adopt()
    schema = "SELECT indexname FROM pg_indexes WHERE tablename IN ('soniq_jobs', 'soniq_workers') ORDER BY 1"
    before = execute(schema)
    assert await producer.setup() == 0
    assert execute(schema) == before
    assert execute("SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = 'soniq_jobs'::regclass") == []


async def test_a_database_that_soniqd_made_serves_a_producer(postgres_url):
    backend = PostgresBackend(postgres_url)
    app = Soniq(database_url=postgres_url, enqueue_validation="none")
    await app.setup()
    job_id = await enqueue(app, dedup_key="k")
    assert [job.fence.job_id for job in await claim(backend, await registered(backend))] == [job_id]
    await backend.check_schema()
    await app.close()
    await backend.close()


async def test_a_job_that_a_producer_cancelled_in_place_is_pruned(producer, adopt, execute):
    backend = await adopt()
    job_id = await enqueue(producer)
    assert await producer.cancel_job(job_id)
    assert await backend.cancel_job(JobId(job_id)) == "finished"
    await backend.prune()
    assert execute("SELECT count(*) FROM soniq_jobs") == [(0,)]
    kept = await backend.get_job(JobId(job_id))
    assert kept is not None
    assert kept["status"] == "cancelled"


def _unique(name, args, digest):
    from soniqd.model import NewJob

    return NewJob(JobId(str(uuid.uuid4())), name, json.dumps(args), unique=True, args_hash=digest)
