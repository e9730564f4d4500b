import psycopg
import pytest


def test_the_server_survives_a_crash_restart_on_the_same_port(postgres_server, empty_postgres_url):
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int)")
        postgres_server.restart("immediate")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")

    with psycopg.connect(empty_postgres_url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_each_test_gets_a_database_of_its_own(postgres_server, empty_postgres_url):
    with psycopg.connect(empty_postgres_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert row == (0,)
