"""What only a database server can do to soniqctl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import psycopg
import pytest
from click.testing import CliRunner

from soniqd.cli.soniqctl import main
from tests.support.postgres import PostgresServer


@pytest.fixture
def soniqctl():
    def run(url, *arguments, expect=0):
        result = CliRunner().invoke(main, ["--database-url", url, *arguments])
        assert result.exit_code == expect, result.output
        return result

    return run


def test_a_job_goes_in_and_comes_out(soniqctl, postgres_url):
    job_id = json.loads(soniqctl(postgres_url, "enqueue", "a.b", "--args", '{"x": [1]}', "--json").stdout)["id"]
    job = json.loads(soniqctl(postgres_url, "jobs", "show", job_id, "--json").stdout)
    assert (job["status"], job["args"]) == ("queued", {"x": [1]})
    assert soniqctl(postgres_url, "jobs", "cancel", job_id).stdout == f"{job_id} cancelled\n"


def test_a_database_without_tables_is_one_clear_line(soniqctl, empty_postgres_url):
    (line,) = soniqctl(empty_postgres_url, "jobs", "list", expect=1).stderr.splitlines()
    assert "soniqctl setup" in line


def test_migrate_status_before_and_after_setup(soniqctl, empty_postgres_url):
    before = json.loads(soniqctl(empty_postgres_url, "migrate-status", "--json").stdout)
    assert before["applied"] == []
    answer = json.loads(soniqctl(empty_postgres_url, "setup", "--json").stdout)
    applied = answer["applied"]
    assert (applied, answer["created"]) == (before["pending"], False)
    after = json.loads(soniqctl(empty_postgres_url, "migrate-status", "--json").stdout)
    assert (after["applied"], after["pending"]) == (applied, [])


def test_setup_makes_a_database_that_is_missing(soniqctl, postgres_server: PostgresServer):
    url = postgres_server.url("made_by_setup")
    try:
        assert ": database created, " in soniqctl(url, "setup").stdout
        assert soniqctl(url, "jobs", "list").stdout == "no jobs\n"
    finally:
        postgres_server.drop_database("made_by_setup")


def test_many_setups_at_once_of_a_database_that_is_missing(postgres_server: PostgresServer):
    """As when all replicas of an application start at once: each is content, one has done it."""
    name = postgres_server.new_name()
    command = [str(Path(sys.executable).parent / "soniqctl"), "--database-url", postgres_server.url(name), "setup"]
    try:
        setups = [subprocess.Popen([*command, "--json"], stdout=PIPE, stderr=PIPE, text=True) for _ in range(4)]
        answers = [(*setup.communicate(timeout=60), setup.returncode) for setup in setups]
        assert [(errors, code) for _, errors, code in answers] == [("", 0)] * 4
        told = [json.loads(output) for output, _, _ in answers]
        assert sorted(bool(answer["applied"]) for answer in told) == [False, False, False, True]
        assert sorted(answer["created"] for answer in told) == [False, False, False, True]
    finally:
        postgres_server.drop_database(name)


def test_a_missing_database_is_one_clear_line(soniqctl, postgres_server: PostgresServer):
    (line,) = soniqctl(postgres_server.url("nowhere"), "jobs", "list", expect=1).stderr.splitlines()
    assert "nowhere" in line


def test_a_wrong_password_does_not_appear(soniqctl, postgres_server: PostgresServer):
    url = f"postgresql://nobody:secret@127.0.0.1:{postgres_server.port}/postgres"
    (line,) = soniqctl(url, "jobs", "list", expect=1).stderr.splitlines()
    assert "secret" not in line


def test_counts_that_are_estimates_are_called_so(postgres_url, monkeypatch):
    monkeypatch.setattr("soniqd.backends.postgres.inspect.COUNTED_EXACTLY", 5)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO soniq_jobs (id, job_name, args) SELECT gen_random_uuid(), 't', '{}' FROM generate_series(1, 9)"
        )
    command = ["--database-url", postgres_url, "queues", "list"]
    assert "large numbers are estimates" in CliRunner().invoke(main, command).stdout
    [queue] = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert (queue["queued"], queue["estimated"]) == (9, True)
