"""Removing dead rows from a real server's table of jobs."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from soniqd.backends.postgres import PostgresBackend, vacuum
from soniqd.backends.vacuuming import Vacuuming
from soniqd.errors import DatabaseError, DatabaseUnavailableError
from soniqd.policy.vacuuming import ENDED_FROM
from tests.support.jobs import claim, new_job, registered
from tests.support.pgbouncer import PgBouncer, find_pgbouncer
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def sql(postgres_url, postgres_server):
    """Run statements, each in a session of its own: sessions tell of their statistics when they end."""
    return lambda statement: postgres_server.execute(statement, database=postgres_url.rpartition("/")[2])


@pytest.fixture
def alone(sql):
    """Keep autovacuum away."""
    sql("ALTER TABLE soniq_jobs SET (autovacuum_enabled = off)")


@pytest.fixture
def kill(sql, postgres):
    """Return what leaves so many dead rows behind, and waits until they are counted."""

    async def leave(count: int) -> None:
        before = (await postgres.wear()).dead_rows
        sql(
            "INSERT INTO soniq_jobs (id, job_name, args) "
            f"SELECT gen_random_uuid(), 'task', '{{}}' FROM generate_series(1, {count})"
        )
        sql("DELETE FROM soniq_jobs")

        async def counted() -> bool:
            return (await postgres.wear()).dead_rows >= before + count

        await eventually(counted)

    return leave


def duty(backend: PostgresBackend) -> Vacuuming:
    return Vacuuming(backend, ended=lambda: ENDED_FROM)


async def test_a_fresh_table_is_not_worn(postgres):
    wear = await postgres.wear()
    assert (wear.live_rows, wear.dead_rows, wear.vacuums, wear.vacuumed_ago_s) == (0, 0, 0, None)
    assert 0 < wear.horizon <= wear.next_transaction
    assert wear.may_vacuum


async def test_many_dead_rows_are_removed_and_few_are_left(postgres, kill):
    await kill(19_000)
    await duty(postgres).look()
    assert (await postgres.wear()).dead_rows == 19_000
    await kill(2_000)
    await duty(postgres).look()
    wear = await postgres.wear()
    assert (wear.dead_rows, wear.vacuums) == (0, 1)
    assert wear.vacuumed_ago_s < 60


async def test_a_snapshot_moves_the_horizon_of_its_database_only(postgres, postgres_url, postgres_server, sql):
    with psycopg.connect(postgres_url) as holder, psycopg.connect(postgres_server.url()) as other:
        for session in (holder, other):
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT 1")
        for _ in range(20):
            sql("SELECT txid_current()")
        free = await postgres.wear()
        assert free.next_transaction - free.horizon < 20
        holder.execute("SELECT 1")
        for _ in range(20):
            sql("SELECT txid_current()")
        held = await postgres.wear()
        assert held.next_transaction - held.horizon >= 20
        assert held.horizon <= free.next_transaction


async def test_while_a_snapshot_is_held_nothing_is_tried_in_vain_and_its_end_is_noticed(
    postgres, postgres_url, kill, sql, monkeypatch
):
    monkeypatch.setattr("soniqd.policy.vacuuming.SHORTEST_REST_S", 0.0)
    monkeypatch.setattr("soniqd.policy.vacuuming.REST_TIMES", 0.0)
    watching = duty(postgres)
    await kill(25_000)
    with psycopg.connect(postgres_url) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1")
        await watching.look()
        assert (await postgres.wear()).vacuums == 1
        await kill(25_000)
        await watching.look()
        assert (await postgres.wear()).vacuums == 1
    await watching.look()
    wear = await postgres.wear()
    assert (wear.dead_rows, wear.vacuums) == (0, 2)


async def test_two_hosts_do_not_wait_for_each_other(postgres, postgres_url, sql):
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE soniq_jobs IN SHARE UPDATE EXCLUSIVE MODE")
        assert await asyncio.wait_for(postgres.vacuum(), 10) is False
    assert await postgres.vacuum() is True


async def test_it_waits_for_nobody_and_nobody_for_it(postgres, postgres_url):
    """Claims hold their locks until their transactions end, and vacuum needs none that they would wait for."""
    await postgres.enqueue([new_job() for _ in range(10)])
    worker_id = await registered(postgres)
    with psycopg.connect(postgres_url) as claimer:
        claimer.execute("UPDATE soniq_jobs SET updated_at = now() WHERE seq = 1")
        assert await asyncio.wait_for(postgres.vacuum(), 10) is True
        with psycopg.connect(postgres_url) as reader:
            reader.execute("LOCK TABLE soniq_jobs IN ACCESS SHARE MODE")
            assert await asyncio.wait_for(postgres.vacuum(), 10) is True
        assert len(await claim(postgres, worker_id, 10)) == 9


async def test_a_role_that_does_not_own_the_table_knows(postgres_url, sql):
    sql("CREATE ROLE soniq_tenant LOGIN")
    try:
        sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO soniq_tenant")
        backend = PostgresBackend(postgres_url.replace("postgres@", "soniq_tenant@"))
        wear = await backend.wear()
        assert wear is not None
        assert not wear.may_vacuum
        sql("GRANT postgres TO soniq_tenant")
        wear = await backend.wear()
        assert wear is not None
        assert wear.may_vacuum
        await backend.close()
    finally:
        sql("DROP OWNED BY soniq_tenant")
        sql("DROP ROLE soniq_tenant")


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_pool_that_needs_all_its_connections_for_jobs_leaves_it_to_autovacuum(postgres_url, size):
    backend = PostgresBackend(postgres_url, pool_max_size=size)
    assert ((await backend.wear()) is None) == (size < 3)
    await backend.close()


@pytest.fixture
async def slow_vacuum(kill, sql):
    """Have much to vacuum, slowly; return what counts the vacuums under way."""
    await kill(30_000)
    sql("ALTER SYSTEM SET vacuum_cost_delay = 100")
    sql("ALTER SYSTEM SET vacuum_cost_limit = 1")
    try:
        sql("SELECT pg_reload_conf()")
        await eventually(lambda: sql("SHOW vacuum_cost_limit") == [("1",)])
        yield "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'VACUUM%' AND state = 'active'"
    finally:
        sql("ALTER SYSTEM RESET vacuum_cost_delay")
        sql("ALTER SYSTEM RESET vacuum_cost_limit")
        sql("SELECT pg_reload_conf()")


async def test_one_that_is_cancelled_ends_in_the_server_as_well(postgres, slow_vacuum, sql):
    task = asyncio.create_task(postgres.vacuum())
    await eventually(lambda: sql(slow_vacuum) == [(1,)])
    began_s = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began_s < 5
    await eventually(lambda: sql(slow_vacuum) == [(0,)])
    await postgres.ping()


async def test_one_that_takes_too_long_is_ended_by_the_server(postgres, kill, sql, monkeypatch):
    monkeypatch.setattr(vacuum, "_LONGEST_S", 0.001)
    await kill(30_000)
    with pytest.raises(
        DatabaseError, match="cannot vacuum the table of jobs: canceling statement due to statement"
    ) as e:
        await postgres.vacuum()
    assert not isinstance(e.value, DatabaseUnavailableError), "the database is there"
    [(timeout,)] = await _ask(postgres, "SHOW statement_timeout")
    assert timeout == "30s"


async def test_one_that_takes_too_long_is_told(postgres, kill, monkeypatch, caplog):
    monkeypatch.setattr(vacuum, "_LONGEST_S", 0.001)
    await kill(30_000)
    await duty(postgres).look()
    assert [record.event for record in caplog.records] == ["vacuum_failed"]


async def test_a_session_that_is_ended_under_it_is_a_database_that_is_away(postgres, postgres_url, slow_vacuum, sql):
    task = asyncio.create_task(postgres.vacuum())
    await eventually(lambda: sql(slow_vacuum) == [(1,)])
    sql(slow_vacuum.replace("count(*)", "pg_terminate_backend(pid)"))
    with pytest.raises(DatabaseUnavailableError, match="cannot vacuum the table of jobs"):
        await task


async def _ask(backend: PostgresBackend, statement: str) -> list[tuple[object, ...]]:
    async with backend._database.lent() as connection:
        cursor = await connection.execute(statement.encode())
        return await cursor.fetchall()


@pytest.mark.skipif(find_pgbouncer() is None, reason="pgbouncer is not installed")
async def test_behind_a_pooler_it_works_as_well(postgres_server, postgres_url, kill):
    await kill(25_000)
    with PgBouncer(postgres_server, mode="transaction", pool_size=2) as pooler:
        backend = PostgresBackend(pooler.url(postgres_url))
        try:
            await duty(backend).look()
            wear = await backend.wear()
            assert wear is not None
            assert (wear.dead_rows, wear.vacuums) == (0, 1)
        finally:
            await backend.close()
