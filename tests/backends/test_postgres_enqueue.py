import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.rows import dict_row

from soniqd.backends.postgres import PostgresBackend
from soniqd.backends.postgres.database import Transaction
from soniqd.backends.postgres.direct import DirectStatement
from soniqd.errors import InvalidArgumentsError
from soniqd.model import JobId
from tests.support.jobs import claim, new_job, registered


@pytest.fixture
async def caller(postgres_url):
    """Return a connection of the application's own, as psycopg makes it by default."""
    connection = await psycopg.AsyncConnection.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
def heard(postgres_url):
    """Return what lists the notifications since the last call."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for channel in ("soniq_new_job", "soniq_due"):
            connection.execute(f"LISTEN {channel}")

        def collect():
            connection.execute("SELECT 1")
            return [(note.channel, note.payload) for note in connection.notifies(timeout=0.2)]

        yield collect


async def stored(backend):
    return {job.fence.job_id for job in await claim(backend, await registered(backend), 1000)}


MANY = 600
"""Enough for COPY."""


@pytest.mark.parametrize("count", [1, 3, MANY])
async def test_a_rolled_back_transaction_takes_its_jobs_with_it(postgres, caller, heard, count):
    await postgres.enqueue([new_job() for _ in range(count)], connection=caller)
    await caller.rollback()
    assert await stored(postgres) == set()
    assert heard() == []


@pytest.mark.parametrize("count", [1, 3, MANY])
async def test_a_committed_transaction_stores_and_tells_once(postgres, caller, heard, count):
    ids = await postgres.enqueue([new_job() for _ in range(count)], connection=caller)
    assert heard() == []
    await caller.commit()
    assert heard() == [("soniq_new_job", "default")]
    assert await stored(postgres) == set(ids)


async def test_several_calls_in_one_transaction_tell_each_queue_once(postgres, caller, heard):
    for _ in range(3):
        await postgres.enqueue([new_job(queue="a"), new_job(queue="b")], connection=caller)
    await caller.commit()
    assert sorted(heard()) == [("soniq_new_job", "a"), ("soniq_new_job", "b")]


@pytest.mark.parametrize("count", [1, MANY])
async def test_an_autocommit_connection_stores_at_once(postgres, caller, count):
    await caller.set_autocommit(True)
    ids = await postgres.enqueue([new_job() for _ in range(count)], connection=caller)
    assert await stored(postgres) == set(ids)


async def test_a_transaction_block_of_an_autocommit_connection_is_joined(postgres, caller):
    await caller.set_autocommit(True)

    class StopHereError(Exception): ...

    async def enqueue_and_stop():
        async with caller.transaction():
            await postgres.enqueue([new_job() for _ in range(MANY)], connection=caller)
            raise StopHereError

    with pytest.raises(StopHereError):
        await enqueue_and_stop()
    assert await stored(postgres) == set()


async def test_the_callers_row_and_cursor_factories_do_not_matter(postgres, caller):
    caller.row_factory = dict_row
    caller.cursor_factory = psycopg.AsyncRawCursor
    ids = await postgres.enqueue([new_job(dedup_key="k"), new_job()], connection=caller)
    assert await postgres.enqueue([new_job(dedup_key="k")], connection=caller) == ids[:1]
    await caller.commit()
    assert await stored(postgres) == set(ids)


async def test_a_callers_pipeline_is_joined(postgres, caller):
    async with caller.pipeline():
        ids = await postgres.enqueue([new_job() for _ in range(MANY)], connection=caller)
    await caller.commit()
    assert await stored(postgres) == set(ids)


async def test_a_callers_transaction_that_failed_before_is_reported(postgres, caller):
    from soniqd.errors import DatabaseError

    with pytest.raises(psycopg.errors.UndefinedTable):
        await caller.execute("SELECT * FROM no_such_table")
    with pytest.raises(DatabaseError, match="current transaction is aborted"):
        await postgres.enqueue([new_job()], connection=caller)


async def test_a_connection_that_is_not_psycopgs_is_refused(postgres, postgres_url):
    with (
        psycopg.connect(postgres_url) as synchronous,
        pytest.raises(InvalidArgumentsError, match=r"psycopg\.Connection"),
    ):
        await postgres.enqueue([new_job()], connection=synchronous)
    with pytest.raises(InvalidArgumentsError, match=r"builtins\.object"):
        await postgres.enqueue([new_job()], connection=object())


@pytest.mark.parametrize("count", [1, 3, MANY])
@pytest.mark.parametrize(
    "changes",
    [
        {"args_json": '{"a": "\\u0000"}'},
        {"args_json": "{"},
        {"args_json": '"\ud800"'},
        {"name": "with\x00nul"},
        {"queue": "half \ud800"},
        {"priority": 2**40},
    ],
)
async def test_a_job_that_cannot_be_stored_is_the_callers_mistake_and_stores_nothing(postgres, count, changes):
    jobs = [new_job() for _ in range(count - 1)]
    with pytest.raises(InvalidArgumentsError, match="cannot store"):
        await postgres.enqueue([*jobs, new_job(**changes)])
    assert await stored(postgres) == set()


async def test_args_come_back_as_they_were(postgres):
    args = {"text": "ü \\ \t \n 'quoted' \"double\" {braces} \\N", "numbers": [1, -2.5e10, None, True]}
    await postgres.enqueue([new_job(args_json=json.dumps(args)) for _ in range(MANY)])
    claimed = await claim(postgres, await registered(postgres), MANY)
    assert [json.loads(job.args_json) for job in claimed] == [args] * MANY


async def test_a_bulk_keeps_the_order_in_which_it_was_given(postgres):
    jobs = [new_job() for _ in range(2 * MANY)]
    jobs[50] = new_job(dedup_key="in between")
    jobs[-50] = new_job(delay_s=0.0)
    ids = await postgres.enqueue(jobs)
    assert ids == [job.id for job in jobs]
    assert [job.fence.job_id for job in await claim(postgres, await registered(postgres), 2 * MANY)] == ids


async def test_jobs_for_later_are_announced_by_their_time(postgres, heard):
    at = datetime.now(UTC) + timedelta(hours=1)
    await postgres.enqueue([new_job(run_at=at), new_job(run_at=at + timedelta(hours=1))])
    [(channel, payload)] = heard()
    assert channel == "soniq_due"
    assert float(payload) == pytest.approx(at.timestamp(), abs=0.001)


async def test_a_delay_counts_from_the_statement_and_not_from_the_callers_transaction(postgres, caller):
    await caller.execute("SELECT pg_sleep(0.3)")
    [job_id] = await postgres.enqueue([new_job(delay_s=60)], connection=caller)
    cursor = await caller.execute(
        "SELECT scheduled_at > now() + interval '60.2 s' FROM soniq_jobs WHERE id = %s", [job_id]
    )
    assert await cursor.fetchone() == (True,)


async def test_many_producers_of_one_key_store_one_job(postgres):
    answers = await asyncio.gather(*(postgres.enqueue([new_job(dedup_key="k")]) for _ in range(30)))
    assert len({job_id for [job_id] in answers}) == 1
    assert len(await stored(postgres)) == 1


async def test_a_key_that_changes_hands_all_the_time_always_finds_its_holder(postgres):
    worker_id = await registered(postgres)
    stop = asyncio.Event()

    async def take_away():
        while not stop.is_set():
            await claim(postgres, worker_id)

    taker = asyncio.create_task(take_away())
    answers = await asyncio.gather(*(postgres.enqueue([new_job(dedup_key="k")]) for _ in range(100)))
    stop.set()
    await taker
    assert all(uuid.UUID(job_id) for [job_id] in answers)


async def test_the_same_job_stored_again_under_its_key_is_one_job(postgres):
    """A caller repeats after a lost connection: the first try had arrived."""
    job = new_job(dedup_key="k")
    assert await postgres.enqueue([job]) == await postgres.enqueue([job]) == [job.id]
    assert await stored(postgres) == {JobId(job.id)}


async def test_two_keys_that_two_jobs_hold_find_the_holder_of_the_dedup_key(postgres):
    first = new_job(dedup_key="k")
    second = new_job(unique=True, args_hash="h")
    await postgres.enqueue([first, second])
    assert await postgres.enqueue([new_job(dedup_key="k", unique=True, args_hash="h")]) == [first.id]


async def test_whole_and_broken_seconds_may_be_mixed(postgres):
    ids = await postgres.enqueue([new_job(delay_s=0), new_job(delay_s=-0.5), new_job(delay_s=None)])
    assert await stored(postgres) == set(ids)


async def test_a_lent_connection_joins_raw_sql_and_jobs(postgres):
    async with postgres.acquire() as connection:
        await connection.execute("CREATE TABLE orders (n int)")
        async with connection.transaction():
            await connection.execute("INSERT INTO orders VALUES (1)")
            ids = await postgres.enqueue([new_job()], connection=connection)
            assert await stored(postgres) == set()
    assert await stored(postgres) == set(ids)


async def test_a_statement_that_a_borrower_has_deallocated_is_prepared_again(postgres):
    await postgres.enqueue([new_job()])
    async with postgres.acquire() as connection:
        await connection.execute("DEALLOCATE ALL")
    await postgres.enqueue([new_job()])
    assert len(await stored(postgres)) == 2


async def test_nothing_stays_prepared_where_the_url_says_so(postgres, postgres_url):
    backend = PostgresBackend(f"{postgres_url}?prepare_threshold=none", pool_max_size=1)
    await backend.open()
    try:
        for _ in range(10):
            await backend.enqueue([new_job()])
        async with backend.acquire() as connection:
            cursor = await connection.execute("SELECT count(*) FROM pg_prepared_statements")
            assert await cursor.fetchone() == (0,)
    finally:
        await backend.close()
    assert len(await stored(postgres)) == 10


async def test_a_cancelled_enqueue_leaves_its_connection_usable(postgres, caller):
    await caller.execute("LOCK TABLE soniq_jobs IN ACCESS EXCLUSIVE MODE")
    storing = asyncio.create_task(postgres.enqueue([new_job()]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(storing), 0.2)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    await caller.rollback()
    await postgres.enqueue([new_job()])
    assert len(await stored(postgres)) == 1


async def test_a_caller_who_is_cancelled_while_preparing_spoils_nothing(postgres_url, monkeypatch):
    """The server has prepared the statement, and nobody here has heard of it."""
    backend = PostgresBackend(postgres_url, pool_max_size=1)
    prepare = DirectStatement._prepare

    def cancelled_meanwhile(self, pgconn):
        yielded = prepare(self, pgconn)
        wanted = next(yielded)
        enqueueing.cancel()
        while True:
            try:
                wanted = yielded.send((yield wanted))
            except StopIteration:
                return

    with monkeypatch.context() as patched:
        patched.setattr(DirectStatement, "_prepare", cancelled_meanwhile)
        enqueueing = asyncio.create_task(backend.enqueue([new_job()]))
        with pytest.raises(asyncio.CancelledError):
            await enqueueing
    jobs = [new_job() for _ in range(3)]
    for job in jobs:
        assert await backend.enqueue([job]) == [job.id]
    assert await stored(backend) == {job.id for job in jobs}
    await backend.close()


async def test_jobs_with_and_without_keys_by_turns_are_stored_together_in_order(postgres, monkeypatch):
    fetched = []

    async def fetch(self, statement, parameters):
        fetched.append(statement.name)
        return await fetch_for_real(self, statement, parameters)

    fetch_for_real = Transaction.fetch
    monkeypatch.setattr(Transaction, "fetch", fetch)
    jobs = [new_job(dedup_key=str(n) if n % 2 else None) for n in range(MANY)]
    assert await postgres.enqueue(jobs) == [job.id for job in jobs]
    assert fetched == ["enqueue_keyed"]
    claimed = await claim(postgres, await registered(postgres), MANY)
    assert [job.fence.job_id for job in claimed] == [job.id for job in jobs]
