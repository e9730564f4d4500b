import asyncio
import os
import signal
from functools import partial

import psycopg
import pytest
import uvloop
from psycopg import errors
from psycopg.pq import TransactionStatus

from soniqd.backends.postgres import PostgresBackend, direct, pool
from soniqd.backends.postgres.connection import Connection
from soniqd.backends.postgres.direct import DirectStatement
from soniqd.backends.postgres.statements import Statement
from tests.support.jobs import new_job
from tests.support.waiting import eventually

SLEEP = Statement("sleep", "sleep", b"SELECT pg_sleep(%(seconds)s::float8)::text")
ECHO = Statement(
    "echo", "echo", b"SELECT length(%(text)s::text), repeat('x', %(length)s::int) FROM generate_series(1, 3)"
)


@pytest.fixture
async def connection(postgres_url):
    connection = await Connection.connect(postgres_url, autocommit=True)
    yield connection
    await connection.close()


@pytest.fixture
async def sleeping(connection, postgres_server):
    """Return a task that the server has begun to work for."""
    task = asyncio.create_task(DirectStatement(SLEEP).run(connection, {"seconds": "60"}))
    look = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {connection.info.backend_pid} AND wait_event = 'PgSleep'"
    await eventually(partial(works, postgres_server, look))
    return task


def works(postgres_server, look):
    return postgres_server.execute(look) == [(1,)]


async def test_values_and_rows_may_be_larger_than_what_goes_through_a_socket_at_once(connection):
    rows = await DirectStatement(ECHO).run(connection, {"text": "y" * 5_000_000, "length": "5000000"})
    assert [(length, len(echo)) for length, echo in rows] == [(5_000_000, 5_000_000)] * 3


async def test_a_connection_whose_user_was_cancelled_can_be_used_again(connection, sleeping):
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert connection.pgconn.transaction_status == TransactionStatus.IDLE
    assert await DirectStatement(ECHO).run(connection, {"text": "y", "length": "1"}) == [(1, "x")] * 3


async def test_a_user_that_is_cancelled_waits_for_no_silent_server(connection, sleeping, monkeypatch):
    monkeypatch.setattr(direct, "_HEAR_OUT_S", 0.2)
    os.kill(connection.info.backend_pid, signal.SIGSTOP)
    try:
        sleeping.cancel()
        await asyncio.wait({sleeping}, timeout=3)
        assert sleeping.cancelled()
    finally:
        os.kill(connection.info.backend_pid, signal.SIGCONT)


async def test_a_server_that_goes_away_meanwhile_is_quoted(connection, sleeping, postgres_server):
    postgres_server.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
    with pytest.raises(errors.AdminShutdown, match=r"^terminating connection due to administrator command"):
        await sleeping
    assert connection.closed


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_server_that_went_away_while_the_loop_was_busy_keeps_nobody_waiting(postgres_url, postgres_server, run):
    """It has said goodbye and resets what is sent then: uvloop calls the reader of such a socket only once."""

    async def use():
        connection = await Connection.connect(postgres_url, autocommit=True)
        statement, values = DirectStatement(ECHO), {"text": "y", "length": "1"}
        await statement.run(connection, values)
        postgres_server.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid}, 10000)")
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(statement.run(connection, values), 10)
        assert connection.closed
        await connection.close()

    run(use())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_job_is_stored_after_its_connection_was_ended_while_the_loop_was_busy(
    postgres_url, postgres_server, monkeypatch, run
):
    monkeypatch.setattr(pool, "_FRESH_FOR_S", 0.0)

    async def use():
        backend = PostgresBackend(postgres_url)
        await backend.open()
        async with backend.acquire() as connection:
            pid = connection.info.backend_pid
        await backend.enqueue([new_job()])
        postgres_server.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        async with asyncio.timeout(10):  # and no task, before which the loop might look
            await backend.enqueue([new_job()])
        await backend.close()

    run(use())
