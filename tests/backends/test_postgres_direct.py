import asyncio
from functools import partial

import pytest
from psycopg import errors
from psycopg.pq import TransactionStatus

from soniqd.backends.postgres.connection import Connection
from soniqd.backends.postgres.direct import DirectStatement
from soniqd.backends.postgres.statements import Statement
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


async def test_a_server_that_goes_away_meanwhile_is_quoted(connection, sleeping, postgres_server):
    postgres_server.execute(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
    with pytest.raises(errors.AdminShutdown, match=r"^terminating connection due to administrator command"):
        await sleeping
    assert connection.closed
