"""Jobs in the caller's own transaction, with a real PostgreSQL."""

from __future__ import annotations

import asyncio
import gc
import os

import psycopg
import pytest

from soniqd import Soniq
from soniqd.errors import InvalidArgumentsError, UnsupportedByBackendError
from tests.support.waiting import eventually_sync


@pytest.fixture
async def app(postgres_url):
    async with Soniq(postgres_url, pool_min_size=1, pool_max_size=4) as app:

        @app.job(name="receipts.send")
        async def send_receipt(order_id): ...

        async with app.backend.acquire() as conn:
            await conn.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        yield app


async def orders(app) -> list[int]:
    async with app.backend.acquire() as conn:
        cursor = await conn.execute("SELECT id FROM orders ORDER BY id")
        return [row[0] for row in await cursor.fetchall()]


async def test_a_commit_stores_both_the_order_and_its_job(app):
    async with app.backend.acquire() as conn, conn.transaction():
        await conn.execute("INSERT INTO orders VALUES (42)")
        job_id = await app.enqueue("receipts.send", connection=conn, order_id=42)
        assert await app.get_job(job_id) is None, "nobody else sees it before the commit"
    assert await orders(app) == [42]
    assert (await app.get_job(job_id))["args"] == {"order_id": 42}


async def test_a_rollback_stores_neither(app):
    async with app.backend.acquire() as conn, conn.transaction(force_rollback=True):
        await conn.execute("INSERT INTO orders VALUES (42)")
        await app.enqueue("receipts.send", connection=conn, order_id=42)
    assert await orders(app) == []
    assert await app.list_jobs() == []


async def test_a_savepoint_takes_back_only_its_own_job(app):
    async with app.backend.acquire() as conn, conn.transaction():
        kept = await app.enqueue("receipts.send", connection=conn, order_id=1)
        async with conn.transaction(force_rollback=True):
            await app.enqueue("receipts.send", connection=conn, order_id=2)
    assert [job["id"] for job in await app.list_jobs()] == [kept]


async def test_many_jobs_join_the_transaction_together(app):
    with pytest.raises(InvalidArgumentsError, match="item 2"):
        async with app.backend.acquire() as conn, conn.transaction():
            await app.enqueue_many("receipts.send", [{"order_id": 1}, {"order_id": 2}, {}], connection=conn)
    assert await app.list_jobs() == []
    async with app.backend.acquire() as conn, conn.transaction():
        ids = await app.enqueue_many("receipts.send", [{"order_id": 1}, {"order_id": 2}], connection=conn)
    assert {job["id"] for job in await app.list_jobs()} == set(ids)


async def test_a_twin_is_found_from_within_the_transaction(app):
    first = await app.enqueue("receipts.send", order_id=1, dedup_key="order-1")
    async with app.backend.acquire() as conn, conn.transaction():
        assert await app.enqueue("receipts.send", connection=conn, order_id=1, dedup_key="order-1") == first
    assert len(await app.list_jobs()) == 1


async def test_a_job_can_be_scheduled_in_a_transaction(app):
    async with app.backend.acquire() as conn, conn.transaction():
        job_id = await app.schedule("receipts.send", 3600, connection=conn, order_id=1)
    assert (await app.get_job(job_id))["scheduled_at"] is not None


async def test_a_connection_of_the_callers_own_making_does_as_well(app, postgres_url):
    async with await psycopg.AsyncConnection.connect(postgres_url) as conn:
        job_id = await app.enqueue("receipts.send", connection=conn, order_id=1)
        assert await app.get_job(job_id) is None
        await conn.commit()
    assert await app.get_job(job_id) is not None


async def test_who_only_enqueues_in_transactions_needs_no_connection_beside_them(postgres_url):
    app = Soniq(postgres_url, enqueue_validation="none")
    async with await psycopg.AsyncConnection.connect(postgres_url) as conn:
        await app.enqueue("receipts.send", connection=conn, order_id=1)
    assert not app.is_initialized
    await app.close()


def test_one_event_loop_after_the_other_and_a_fork_leave_no_connection_behind(postgres_url):
    """Warnings are errors here: a connection that is dropped without being closed would warn."""
    app = Soniq(postgres_url, pool_min_size=2, enqueue_validation="none")
    for _ in range(3):
        asyncio.run(app.enqueue("receipts.send", order_id=1))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(app.enqueue("receipts.send", order_id=2))
            asyncio.run(app.close())
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(asyncio.run(app.list_jobs())) == 4
    asyncio.run(app.close())
    gc.collect()
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        eventually_sync(lambda: conn.execute(query).fetchone() == (0,))


async def test_a_connection_without_async_is_refused(app, postgres_url):
    with (
        psycopg.connect(postgres_url) as conn,
        pytest.raises(InvalidArgumentsError, match=r"expected psycopg\.AsyncConnection, got psycopg\.Connection"),
    ):
        await app.enqueue("receipts.send", connection=conn, order_id=1)
    assert await app.list_jobs() == []


async def test_sqlite_says_that_it_has_no_such_thing(tmp_path):
    async with Soniq(tmp_path.joinpath("jobs.db").as_posix(), enqueue_validation="none") as app:
        with pytest.raises(UnsupportedByBackendError, match="the sqlite backend has no such thing"):
            await app.enqueue("receipts.send", connection=object(), order_id=1)
        with pytest.raises(UnsupportedByBackendError):
            async with app.backend.acquire():
                pass
