import asyncio
import os
import signal
import socket

import psycopg
import pytest
from psycopg import waiting

from soniqd.backends import JobFilter
from soniqd.backends.postgres import PostgresBackend
from soniqd.backends.postgres.failure import translate
from soniqd.backends.postgres.statements import Statement
from soniqd.errors import ClosedError, DatabaseError, DatabaseUnavailableError, SchemaError
from soniqd.model import Done, JobId, WorkerStatus
from tests.support.jobs import claim, new_job, new_worker, registered
from tests.support.waiting import eventually


@pytest.fixture
def connect(postgres_url):
    """Return a maker of backends that are closed afterwards."""
    made = []

    def make(url=postgres_url, **options):
        made.append(PostgresBackend(url, **options))
        return made[-1]

    yield make
    asyncio.run(_close(made))


async def _close(backends):
    await asyncio.gather(*(backend.close() for backend in backends))


async def sessions(postgres_server, url):
    name = url.rpartition("/")[2]
    rows = await asyncio.to_thread(
        postgres_server.execute, f"SELECT pid, application_name FROM pg_stat_activity WHERE datname = '{name}'"
    )
    return dict(rows)


async def test_a_database_that_is_down_is_reported_at_once_and_used_when_it_is_back(postgres_server, postgres_url):
    backend = PostgresBackend(postgres_url)
    postgres_server.stop()
    async with asyncio.timeout(3):
        with pytest.raises(DatabaseUnavailableError, match=r"cannot connect to the database: .*[Cc]onnection refused"):
            await backend.open()
        with pytest.raises(DatabaseUnavailableError):
            await backend.enqueue([new_job()])
    postgres_server.start()
    await backend.open()
    await backend.enqueue([new_job()])
    await backend.close()


async def test_every_method_works_after_a_crash_of_the_server_without_a_new_object(postgres, postgres_server):
    job = new_job()
    worker = new_worker()
    await postgres.register_worker(worker, names=["task"])
    await asyncio.gather(*(postgres.ping() for _ in range(8)))
    calls = (
        postgres.ping,
        lambda: postgres.enqueue([job]),
        lambda: claim(postgres, worker.id),
        postgres.promote_due,
        lambda: postgres.heartbeat([worker.id]),
        lambda: postgres.get_job(JobId(job.id)),
        lambda: postgres.list_jobs(JobFilter()),
        postgres.list_workers,
        lambda: postgres.sweep(heartbeat_timeout_s=60, max_crashes=3),
        postgres.check_schema,
    )
    for number, call in enumerate(calls):
        if number % 3 == 0:
            await asyncio.to_thread(postgres_server.restart, "immediate")
        await call()
    held = await postgres.claims_of(worker.id)
    assert await postgres.complete([Done(one.fence, None, 0) for one in held]) == {job.id}


async def test_a_statement_that_is_cut_reports_the_database_as_away(postgres, postgres_server, postgres_url):
    async with postgres.acquire() as connection:
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        pid = connection.info.backend_pid
        await eventually(lambda: _is_active(postgres_server, pid))
        postgres_server.execute(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(psycopg.OperationalError):
            await sleeping
    await postgres.ping()


def _is_active(server, pid):
    return server.execute(f"SELECT state = 'active' FROM pg_stat_activity WHERE pid = {pid}")[0][0]


async def test_a_slow_statement_ends_by_the_servers_deadline(connect):
    backend = connect(statement_timeout_s=0.2)
    async with backend._database.transaction("sleep") as transaction:
        with pytest.raises(psycopg.errors.QueryCanceled):
            await transaction.connection.execute("SELECT pg_sleep(60)")
    await backend.ping()


async def test_a_server_that_does_not_answer_any_more_ends_by_our_own_deadline(
    connect, postgres_server, postgres_url, monkeypatch
):
    monkeypatch.setattr("soniqd.backends.postgres.database._CLIENT_GRACE_S", 0.2)
    backend = connect(statement_timeout_s=0.3)
    await backend.open()
    [pid] = await sessions(postgres_server, postgres_url)
    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(DatabaseUnavailableError):
                await backend.enqueue([new_job()])
            await backend.ping()
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_host_that_does_not_answer_ends_by_the_connect_timeout(connect):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        backend = connect(f"postgresql://u:s3cret@127.0.0.1:{port}/db", connect_timeout_s=0.3)
        async with asyncio.timeout(5):
            with pytest.raises(DatabaseUnavailableError, match="cannot connect to the database") as caught:
                await backend.open()
    assert "s3cret" not in str(caught.value)


async def test_a_wrong_user_is_reported_without_the_password(connect, postgres_url):
    backend = connect(postgres_url.replace("postgres@", "stranger:s3cret@"))
    with pytest.raises(DatabaseError, match="stranger") as caught:
        await backend.ping()
    assert "s3cret" not in f"{caught.value}{caught.value.__cause__}"


async def test_the_pool_grows_to_its_limit_and_callers_wait_in_line(connect, postgres_server, postgres_url):
    backend = connect(pool_max_size=3)
    await asyncio.gather(*(backend.enqueue([new_job(), new_job()]) for _ in range(30)))
    assert len(await sessions(postgres_server, postgres_url)) == 3
    assert len(await claim(backend, await registered(backend), 100)) == 60


async def test_an_exhausted_pool_says_so(connect):
    backend = connect(pool_max_size=1, statement_timeout_s=0.2)
    async with backend.acquire():
        with pytest.raises(DatabaseUnavailableError, match=r"all 1 of the pool were in use for 0\.2 s"):
            await backend.ping()
    await backend.ping()


async def test_a_caller_that_gives_up_while_waiting_loses_no_connection(connect):
    backend = connect(pool_max_size=1)
    async with backend.acquire():
        waiting = [asyncio.create_task(backend.ping()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [None, None]
    await backend.ping()


async def test_a_cancelled_statement_leaves_a_working_pool(connect, postgres_server):
    backend = connect(pool_max_size=1)
    await backend.open()

    async def sleep():
        async with backend._database.transaction("sleep") as transaction:
            await transaction.connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(sleep())
    running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
    await eventually(lambda: postgres_server.execute(running) == [(1,)])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await backend.ping()


async def test_a_cancellation_is_not_lost_when_the_connection_breaks_meanwhile(connect, postgres_server, monkeypatch):
    """psycopg 3.2 goes on waiting for a statement that was cancelled, and may raise what becomes of that instead."""

    async def wait_as_3_2_does(self, gen, interval):
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval)
        except asyncio.CancelledError:
            raise psycopg.OperationalError("the connection is lost")  # noqa: B904  in 3.2 nothing says "from", either

    backend = connect()
    await backend.open()
    monkeypatch.setattr(psycopg.AsyncConnection, "wait", wait_as_3_2_does)
    statement = Statement("sleep", "sleep", b"SELECT pg_sleep(60)")
    task = asyncio.create_task(backend._database.fetch(statement, {}, repeat=True))
    running = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
    await eventually(lambda: postgres_server.execute(running) == [(1,)])
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()


async def test_a_lent_connection_is_ordinary_and_comes_back_clean(connect):
    backend = connect(pool_max_size=1)
    async with backend.acquire() as connection:
        [(seqscan,)] = await (await connection.execute("SHOW enable_seqscan")).fetchall()
        assert seqscan == "on"
        await connection.execute("BEGIN")
        await connection.execute("CREATE TABLE left_open (n int)")
    async with backend._database.transaction("look") as transaction:
        cursor = await transaction.connection.execute(
            "SELECT to_regclass('left_open'), current_setting('enable_seqscan'), current_setting('TimeZone')"
        )
        assert await cursor.fetchone() == (None, "off", "UTC")


async def test_texts_are_stored_as_they_are_whatever_encoding_a_stranger_left_behind(connect):
    backend = connect(pool_max_size=1)
    await backend.enqueue([new_job()])
    async with backend.acquire() as connection:
        await connection.execute("SET client_encoding TO 'LATIN1'")
    [job_id] = await backend.enqueue([new_job(args_json='{"text": "é"}')])
    job = await backend.get_job(job_id)
    assert job is not None
    assert job["args"] == {"text": "é"}


async def test_a_connection_tells_who_it_is(connect, postgres_server, postgres_url):
    backend = connect()
    await backend.open()
    wake_ups = await backend.subscribe()
    assert await backend.leadership("x").acquire()
    names = sorted((await sessions(postgres_server, postgres_url)).values())
    assert names == ["soniqd", f"soniqd leader {os.getpid()}@{socket.gethostname()}", "soniqd listener"]
    await wake_ups.close()


async def test_closing_gives_every_connection_back_and_may_be_repeated(postgres_server, postgres_url):
    backend = PostgresBackend(postgres_url)
    await asyncio.gather(*(backend.ping() for _ in range(5)))
    await backend.subscribe()
    assert await backend.leadership("x").acquire()
    await backend.close()
    await backend.close()

    async def all_gone():
        return not await sessions(postgres_server, postgres_url)

    await eventually(all_gone)
    with pytest.raises(ClosedError):
        await backend.ping()


async def test_behind_a_pooler_nothing_is_prepared_and_no_state_is_set(connect, postgres_url):
    backend = connect(f"{postgres_url}?prepare_threshold=none", pool_max_size=1)
    for _ in range(5):
        await backend.enqueue([new_job()])
        await claim(backend, await registered(backend), 1)
    async with backend.acquire() as connection:
        cursor = await connection.execute(
            "SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('TimeZone'), "
            "current_setting('statement_timeout')"
        )
        assert await cursor.fetchone() == (0, "America/St_Johns", "0")


async def test_times_are_in_utc_whatever_the_servers_zone(postgres):
    from datetime import timedelta

    assert (await postgres.now()).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.UndefinedTable, SchemaError),
        (psycopg.errors.UndefinedColumn, SchemaError),
        (psycopg.errors.AdminShutdown, DatabaseUnavailableError),
        (psycopg.errors.CannotConnectNow, DatabaseUnavailableError),
        (psycopg.errors.DiskFull, DatabaseUnavailableError),
        (psycopg.errors.DeadlockDetected, DatabaseUnavailableError),
        (psycopg.errors.ReadOnlySqlTransaction, DatabaseUnavailableError),
        (psycopg.InterfaceError, DatabaseUnavailableError),
        (psycopg.errors.InsufficientPrivilege, DatabaseError),
        (psycopg.errors.CheckViolation, DatabaseError),
    ],
)
def test_an_error_is_classed_by_what_can_be_done_about_it(error, kind):
    translated = translate(error("password=s3cret refused"), "do it")
    assert type(translated) is kind
    assert str(translated).startswith("cannot do it: ")
    assert "s3cret" not in str(translated)


async def test_a_standby_is_reported_as_away(connect, postgres_url):
    backend = connect(f"{postgres_url}?options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(DatabaseUnavailableError, match="read-only"):
        await backend.enqueue([new_job()])


async def test_a_worker_status_survives_as_it_is(postgres):
    worker_id = await registered(postgres)
    await postgres.set_worker_status([worker_id], WorkerStatus.STOPPING)
    [record] = await postgres.list_workers()
    assert record.status is WorkerStatus.STOPPING


async def test_a_server_that_is_too_old_is_named(connect, monkeypatch):
    monkeypatch.setattr("soniqd.backends.postgres.database._OLDEST_SERVER", 990_000)
    with pytest.raises(DatabaseError, match=r"the server is PostgreSQL \d\d, 14 or newer is needed"):
        await connect().open()
