"""soniqctl doctor: words, exit codes, JSON."""

from __future__ import annotations

import inspect
import json
import re
import sqlite3

import click
import psycopg
import pytest
from click.testing import CliRunner

from soniqd.cli import explanations, findings
from soniqd.cli.findings import WORDS, word
from soniqd.cli.soniqctl import main
from soniqd.policy import doctor as policy
from soniqd.policy.doctor import Finding

HOLDER = {
    "kind": "transaction",
    "name": "4711",
    "age_s": 600.0,
    "age_transactions": 12,
    "application": "report",
    "user": "ann",
    "client": None,
    "state": "idle in transaction",
    "query": "SELECT 1",
}


def test_every_finding_has_words():
    source = policy.__loader__.get_source(policy.__name__)  # type: ignore[union-attr]
    assert set(re.findall(r'Finding\(\s*"(\w+)"', source)) == set(WORDS) == set(policy.ORDER)


def test_advice_names_only_commands_that_there_are():
    source = inspect.getsource(findings) + inspect.getsource(explanations)
    said = set(re.findall(r"soniqctl ([a-z-]+)(?: ([a-z]+))?", source))
    assert len(said) > 10
    for name, inner in said:
        command = main.get_command(click.Context(main), name)
        assert command is not None, f"soniqctl {name}"
        if isinstance(command, click.Group):
            assert inner in command.commands, f"soniqctl {name} {inner}"


def test_who_holds_the_horizon_is_said_with_what_ends_it():
    said = word(Finding("horizon_held", "warning", HOLDER))
    assert said.summary == (
        "a transaction of pid 4711, application report, user ann, state idle in transaction "
        '(last statement: "SELECT 1") keeps dead rows from being removed for 10m: claims get slower with each job'
    )
    assert "SELECT pg_terminate_backend(4711);" in said.advice[0]


@pytest.mark.parametrize(
    ("kind", "words", "cure"),
    [
        ("standby", "a standby with hot_standby_feedback, pid it's", "hot_standby_feedback = off"),
        ("prepared transaction", 'the prepared transaction "it\'s"', "ROLLBACK PREPARED 'it''s';"),
        ("replication slot", 'the replication slot "it\'s"', "pg_drop_replication_slot('it''s')"),
    ],
)
def test_other_holders_have_other_cures(kind, words, cure):
    nobody = dict.fromkeys(HOLDER)
    said = word(Finding("horizon_held", "warning", {**nobody, "kind": kind, "name": "it's", "age_transactions": 2}))
    assert said.summary.startswith(f"{words} keeps dead rows")
    assert "for 2 transactions" in said.summary
    assert cure in said.advice[0]


def test_a_sound_file_ends_with_0(soniqctl):
    soniqctl("setup")
    result = soniqctl("doctor")
    assert result.stdout.startswith("nothing is wrong with the database\n")
    assert "structure   sound" in result.stdout


def test_findings_end_with_1_and_say_what_to_do(soniqctl, tmp_path):
    soniqctl("setup")
    connection = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("DROP INDEX soniq_jobs_due")
    connection.close()
    lines = soniqctl("doctor", expect=1).stdout.splitlines()
    assert lines[0] == "! the index soniq_jobs_due of soniq_jobs is missing: somebody has dropped it"
    assert lines[1].startswith("  -> CREATE INDEX soniq_jobs_due ON soniq_jobs (scheduled_at)")
    answer = json.loads(soniqctl("doctor", "--json", expect=1).stdout)
    assert not answer["healthy"]
    assert [finding["code"] for finding in answer["findings"]] == ["index_missing"]
    assert answer["facts"]["file"]["journal_mode"] == "wal"


def test_a_missing_file_is_one_line(soniqctl, tmp_path):
    [line] = soniqctl("doctor", expect=1).stderr.splitlines()
    assert line.endswith("there is no such file; soniqctl setup makes it")
    assert not (tmp_path / "jobs.db").exists()


def test_a_server_is_shown(postgres_url):
    with psycopg.connect(postgres_url, application_name="shop"):
        result = CliRunner().invoke(main, ["--database-url", postgres_url, "doctor"])
    assert result.exit_code == 1, result.output  # the server of the tests writes nothing durably
    assert result.stdout.splitlines()[0].startswith("! fsync is off on this server")
    assert "by notification" in result.stdout
    assert "soniq_jobs_claim" not in result.stdout  # nothing is wrong with it
    assert "shop" not in result.stdout


def test_what_a_finding_speaks_of_is_shown_and_no_more(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE soniq_jobs SET (autovacuum_enabled = off)")
        connection.execute("DROP INDEX soniq_jobs_due")
    result = CliRunner().invoke(main, ["--database-url", postgres_url, "doctor"])
    told = [line for line in result.stdout.splitlines() if line.startswith("! ")]
    assert [finding for finding in told if "soniq_jobs" in finding] == [
        "! the index soniq_jobs_due of soniq_jobs is missing: somebody has dropped it",
        "! autovacuum is off for soniq_jobs: dead rows stay, and claims get slower with each job",
    ]
    assert told[0].startswith("! fsync is off")
    assert [line.split()[0] for line in result.stdout.splitlines() if line.startswith("soniq_")] == ["soniq_jobs"]


def test_the_daemons_need_is_compared_with_what_the_server_leaves(postgres_url, postgres_server, tmp_path):
    config = tmp_path / "soniq.toml"
    config.write_text(
        f'[database]\nurl = "{postgres_url}"\n[jobs]\nmodules = ["jobs"]\n'
        "[[workers]]\nprocesses = 50\nconcurrency = 10\n"
    )
    result = CliRunner().invoke(main, ["-c", str(config), "--json", "doctor"])
    answer = json.loads(result.stdout)
    assert "connections_short" in [finding["code"] for finding in answer["findings"]]
    assert answer["needed"] > 200


def test_a_server_that_is_away_is_one_line():
    result = CliRunner().invoke(main, ["--database-url", "postgresql://127.0.0.1:1/none", "doctor"])
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("soniqctl: cannot connect to the database: ")
