import asyncio

import psycopg
import pytest

from soniqd.backends.postgres import PostgresBackend, migrate
from soniqd.backends.postgres.database import Database
from soniqd.errors import DatabaseError, SchemaError
from tests.support.jobs import new_job


@pytest.fixture
async def empty(empty_postgres_url):
    backend = PostgresBackend(empty_postgres_url)
    yield backend
    await backend.close()


@pytest.fixture
def new_name(postgres_server):
    """Return a name that no database has yet; it is dropped afterwards."""
    name = f'{postgres_server.new_name()} "odd"; näme'
    yield name
    postgres_server.drop_database(name)


async def test_a_fresh_database_gets_everything(empty):
    assert (await empty.migration_status()).applied == ()
    status = await empty.setup()
    assert status.pending == status.applied == tuple(m.stem for m in migrate.MIGRATIONS)
    assert (await empty.migration_status()).pending == ()
    await empty.check_schema()


async def test_a_second_setup_does_nothing(empty):
    await empty.setup()
    assert (await empty.setup()).pending == ()


async def test_two_setups_at_once_apply_each_migration_once(empty, empty_postgres_url):
    others = [PostgresBackend(empty_postgres_url) for _ in range(4)]
    statuses = await asyncio.gather(*(backend.setup() for backend in (empty, *others)))
    assert sorted(len(status.pending) for status in statuses) == [0, 0, 0, 0, len(migrate.MIGRATIONS)]


async def test_a_missing_database_is_created_whatever_its_name(postgres_server, new_name):
    backends = [PostgresBackend(postgres_server.url(new_name)) for _ in range(3)]
    await asyncio.gather(*(backend.setup() for backend in backends))
    await backends[0].enqueue([new_job()])
    await asyncio.gather(*(backend.close() for backend in backends))


async def test_a_missing_database_is_created_through_several_hosts(postgres_server, new_name):
    url = postgres_server.url(new_name).replace("@", "@127.0.0.1:1,") + "?target_session_attrs=read-write"
    backend = PostgresBackend(url)
    await backend.setup()
    await backend.check_schema()
    await backend.close()


async def test_a_role_that_may_not_create_databases_is_told_so(postgres_server, new_name):
    role = postgres_server.new_name()
    postgres_server.execute(f"CREATE ROLE {role} LOGIN NOCREATEDB")
    backend = PostgresBackend(postgres_server.url(new_name, user=role))
    with pytest.raises(DatabaseError, match=f'cannot create database .*role "{role}" may not create databases'):
        await backend.setup()


async def test_a_role_that_may_not_connect_hears_that_and_nothing_else(postgres_server, empty_postgres_url):
    backend = PostgresBackend(empty_postgres_url.replace("postgres@", "nobody_of_that_name:s3cret@"))
    with pytest.raises(DatabaseError, match="nobody_of_that_name") as caught:
        await backend.setup()
    assert "s3cret" not in str(caught.value)


async def test_without_tables_the_schema_error_says_what_to_run(empty):
    with pytest.raises(SchemaError, match='run "soniqctl setup"'):
        await empty.check_schema()
    with pytest.raises(SchemaError, match='run "soniqctl setup"'):
        await empty.enqueue([new_job()])


async def test_a_missing_migration_is_named(postgres, postgres_server, postgres_url):
    with psycopg.connect(postgres_url) as connection:
        connection.execute("DELETE FROM soniq_migrations WHERE version = '1004'")
    with pytest.raises(SchemaError, match="it lacks 1004_queues_and_schedules"):
        await postgres.check_schema()


async def test_a_migration_with_another_text_is_refused(postgres, postgres_url):
    with psycopg.connect(postgres_url) as connection:
        connection.execute("UPDATE soniq_migrations SET checksum = 'other' WHERE version = '1001'")
    with pytest.raises(SchemaError, match="migration 1001_hot_table was applied with another text"):
        await postgres.setup()
    with pytest.raises(SchemaError, match="1001_hot_table"):
        await postgres.check_schema()


async def test_versions_of_a_later_release_are_left_alone(postgres, postgres_url):
    with psycopg.connect(postgres_url) as connection:
        connection.execute(
            "INSERT INTO soniq_migrations (version, name) VALUES ('2001', 'later'), ('0004', 'webhooks')"
        )
    assert (await postgres.migration_status()).foreign == ("2001",)
    await postgres.check_schema()


async def test_a_setup_that_fails_leaves_nothing(empty, empty_postgres_url, monkeypatch):
    broken = migrate.Migration("9001", "broken", "CREATE TABLE half_way (n int); SELECT no_such_function();")
    monkeypatch.setattr(migrate, "MIGRATIONS", (*migrate.MIGRATIONS, broken))
    with pytest.raises(DatabaseError, match="no_such_function"):
        await empty.setup()
    with psycopg.connect(empty_postgres_url) as connection:
        assert connection.execute("SELECT to_regclass('half_way'), to_regclass('soniq_jobs')").fetchone() == (
            None,
            None,
        )


async def test_setup_does_not_queue_behind_a_long_transaction_for_ever(empty, empty_postgres_url, monkeypatch):
    await empty.setup()
    later = migrate.Migration("9001", "later", "ALTER TABLE soniq_jobs ADD COLUMN later int")
    monkeypatch.setattr(migrate, "MIGRATIONS", (*migrate.MIGRATIONS, later))
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT_S", 0.1)
    with psycopg.connect(empty_postgres_url) as connection:
        connection.execute("LOCK TABLE soniq_jobs IN ROW EXCLUSIVE MODE")
        with pytest.raises(DatabaseError, match="a long transaction holds a table"):
            await empty.setup()


@pytest.mark.parametrize(
    ("index", "predicate"),
    [
        ("idx_soniq_jobs_unique_queued", "((status = 'queued'::text) AND (unique_job = true))"),
        ("idx_soniq_jobs_dedup_key", "((status = 'queued'::text) AND (dedup_key IS NOT NULL))"),
    ],
)
async def test_the_unique_indexes_have_the_predicates_that_producers_infer(postgres, postgres_url, index, predicate):
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute(
            "SELECT pg_get_expr(indpred, indrelid), indisunique FROM pg_index WHERE indexrelid = %s::regclass", [index]
        ).fetchone()
    assert row == (predicate, True)


async def test_a_database_that_another_setup_makes_in_between_is_used(postgres_url, monkeypatch):
    connect, refusals = Database.connect, ['FATAL:  database "x" does not exist']

    async def refused_once(self, *, purpose, database=None):
        if refusals and database is None:
            raise psycopg.OperationalError(refusals.pop())
        return await connect(self, purpose=purpose, database=database)

    monkeypatch.setattr(Database, "connect", refused_once)
    backend = PostgresBackend(postgres_url)
    assert not (await backend.setup()).created
    await backend.close()
