"""What a PostgreSQL database shows of its health."""

from __future__ import annotations

import psycopg
import pytest

from soniqd.backends.postgres import PostgresBackend
from soniqd.backends.postgres.checkup import expected_indexes
from soniqd.model.checkup import Checkup
from soniqd.policy.doctor import examine
from tests.support.jobs import new_job
from tests.support.waiting import eventually

NOT_DURABLE = {"not_durable"}
"""The server of the tests writes nothing durably."""


async def look(url: str) -> Checkup:
    backend = PostgresBackend(url)
    try:
        return await backend.checkup()
    finally:
        await backend.close()


def found(checkup: Checkup) -> set[str]:
    return {finding.code for finding in examine(checkup)} - NOT_DURABLE


@pytest.fixture
def sql(postgres_url, postgres_server):
    """Run statements, each in a session of its own: sessions tell of their statistics when they end."""
    return lambda statement: postgres_server.execute(statement, database=postgres_url.rpartition("/")[2])


async def test_a_fresh_database_is_well(postgres_url):
    checkup = await look(postgres_url)
    assert found(checkup) == set()
    assert checkup.server is not None
    assert checkup.server.listening
    assert not checkup.server.pooled
    assert abs(checkup.clock_ahead_s) < 1
    assert 0 < checkup.round_trip_s < 1
    assert {table.name for table in checkup.tables} >= {"soniq_jobs", "soniq_finished_jobs", "soniq_workers"}


async def test_every_index_of_a_fresh_database_is_known_and_none_is_missing(postgres_url):
    checkup = await look(postgres_url)
    assert [index.name for index in checkup.indexes if not index.ours] == []
    assert checkup.missing == ()
    assert {index.name for index in checkup.indexes} >= set(expected_indexes())


async def test_a_database_without_tables_lacks_migrations(empty_postgres_url):
    checkup = await look(empty_postgres_url)
    assert found(checkup) == {"migrations_pending"}
    assert checkup.tables == ()


async def test_a_dropped_index_is_missed_and_its_statement_makes_it_again(postgres_url, sql):
    sql("DROP INDEX soniq_jobs_held")
    [missing] = (await look(postgres_url)).missing
    assert (missing.name, missing.table) == ("soniq_jobs_held", "soniq_jobs")
    sql(missing.definition)
    assert (await look(postgres_url)).missing == ()


async def test_an_index_of_others_is_told_apart_and_one_that_is_not_valid_is_found(postgres_url, sql):
    sql("CREATE INDEX mine ON soniq_jobs (created_at)")
    sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass")
    checkup = await look(postgres_url)
    assert [(index.name, index.ours, index.valid) for index in checkup.indexes if not index.ours] == [
        ("mine", False, False)
    ]
    assert found(checkup) == {"index_invalid"}


async def test_who_holds_the_horizon_is_named(postgres_url, sql):
    with psycopg.connect(postgres_url, application_name="report") as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1 AS longest_report")
        checkup = await look(postgres_url)
        assert checkup.server is not None
        [seen] = [one for one in checkup.server.horizon if one.application == "report"]
        assert (seen.kind, seen.name) == ("transaction", str(holder.info.backend_pid))
        assert (seen.state, seen.query) == ("idle in transaction", "SELECT 1 AS longest_report")
        assert seen.age_s is not None
        assert 0 <= seen.age_s < 60


async def test_a_transaction_that_is_open_without_a_snapshot_holds_nothing(postgres_url):
    with psycopg.connect(postgres_url, application_name="idler") as idler:
        idler.execute("SELECT 1")
        checkup = await look(postgres_url)
        assert checkup.server is not None
        assert [one for one in checkup.server.horizon if one.application == "idler"] == []


async def test_connections_are_counted_by_who_holds_them(postgres_url):
    backend = PostgresBackend(postgres_url)
    await backend.open()
    with psycopg.connect(postgres_url, application_name="shop"):
        checkup = await look(postgres_url)
    await backend.close()
    assert checkup.server is not None
    counted = {use.application: (use.count, use.ours) for use in checkup.server.uses}
    assert counted["shop"] == (1, False)
    assert counted["soniqd"][1]
    assert counted["soniqd"][0] >= 1


async def test_autovacuum_that_is_off_for_a_table_is_found(postgres_url, sql):
    sql("ALTER TABLE soniq_jobs SET (autovacuum_enabled = off)")
    assert found(await look(postgres_url)) == {"table_autovacuum_off"}


async def test_dead_rows_and_bloat_are_seen(postgres_url, postgres, sql):
    sql("ALTER TABLE soniq_jobs SET (autovacuum_enabled = off)")
    await postgres.enqueue([new_job() for _ in range(2000)])
    sql("ANALYZE soniq_jobs")
    before = await table(postgres_url, "soniq_jobs")
    assert before.rows == 2000
    assert before.wanted_bytes is not None
    assert 0.5 < before.wanted_bytes / before.bytes < 1.5
    sql("DELETE FROM soniq_jobs")

    async def dead() -> bool:
        return (await table(postgres_url, "soniq_jobs")).dead_rows == 2000

    await eventually(dead)
    sql("ANALYZE soniq_jobs")
    after = await table(postgres_url, "soniq_jobs")
    assert after.wanted_bytes in (0, None)
    assert after.vacuum_at is not None
    assert after.vacuumed_ago_s is None
    sql("VACUUM soniq_jobs")

    async def vacuumed() -> bool:
        return (await table(postgres_url, "soniq_jobs")).vacuumed_ago_s is not None

    await eventually(vacuumed)


async def table(url: str, name: str):
    return next(one for one in (await look(url)).tables if one.name == name)


async def test_it_changes_nothing(postgres_url, postgres_server, sql):
    name = postgres_url.rpartition("/")[2]
    sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert found(await look(postgres_url)) == set()


async def test_a_role_that_may_not_look_is_told_so(postgres_url, postgres_server, sql):
    sql("CREATE ROLE soniq_onlooker LOGIN")
    try:
        url = postgres_url.replace("postgres@", "soniq_onlooker@")
        sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO soniq_onlooker")
        checkup = await look(url)
        assert checkup.server is not None
        assert not checkup.server.sees_all
        assert found(checkup) == set()
    finally:
        sql("REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM soniq_onlooker")
        sql("DROP ROLE soniq_onlooker")
