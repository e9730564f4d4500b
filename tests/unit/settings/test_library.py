from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from soniqd.errors import ConfigurationError
from soniqd.settings import SoniqSettings, load_library_settings
from soniqd.settings.fields import settings_of

NO_FILE = Path("/nonexistent/.env")


def load(environ=None, dotenv=NO_FILE, /, **settings):
    return load_library_settings(environ or {}, dotenv, **settings)


def problems(*args, **settings):
    with pytest.raises(ConfigurationError) as caught:
        load(*args, **settings)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database_url", "postgresql://postgres@localhost/soniq"),
        ("concurrency", 4),
        ("max_retries", 3),
        ("priority", 100),
        ("queues", ["default"]),
        ("result_ttl", 300),
        ("job_timeout", 300.0),
        ("pool_min_size", 5),
        ("pool_max_size", 20),
        ("pool_headroom", 2),
        ("poll_interval", 5.0),
        ("heartbeat_interval", 5.0),
        ("heartbeat_timeout", 300.0),
        ("cleanup_interval", 300.0),
        ("error_retry_delay", 5.0),
        ("log_level", "INFO"),
        ("debug", False),
        ("environment", "production"),
    ],
)
def test_documented_defaults(name, value):
    assert getattr(load(), name) == value


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("SONIQ_DATABASE_URL", "postgresql://h/d", "database_url", "postgresql://h/d"),
        ("SONIQ_CONCURRENCY", "7", "concurrency", 7),
        ("SONIQ_WORKER_CONCURRENCY", "8", "concurrency", 8),
        ("SONIQ_MAX_RETRIES", "0", "max_retries", 0),
        ("SONIQ_PRIORITY", "-5", "priority", -5),
        ("SONIQ_QUEUES", "mail, reports,", "queues", ["mail", "reports"]),
        ("SONIQ_JOBS_MODULES", "a.b,c", "jobs_modules", ("a.b", "c")),
        ("SONIQ_RESULT_TTL", "1h", "result_ttl", 3600),
        ("SONIQ_JOB_TIMEOUT", "0", "job_timeout", None),
        ("SONIQ_JOB_TIMEOUT", "2.5", "job_timeout", 2.5),
        ("SONIQ_HEARTBEAT_TIMEOUT", "60", "heartbeat_timeout", 60.0),
        ("SONIQ_LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("SONIQ_DEBUG", "true", "debug", True),
        ("SONIQ_ENVIRONMENT", "testing", "environment", "testing"),
    ],
)
def test_variables(variable, text, name, value):
    assert getattr(load({variable: text}), name) == value


def test_every_setting_has_a_variable():
    text = {"database_url": "x.db", "enqueue_validation": "warn", "log_level": "ERROR", "debug": "1"}
    for name in settings_of(SoniqSettings):
        value = text.get(name, "9")
        assert getattr(load({f"SONIQ_{name.upper()}": value}), name) != getattr(load(), name), name


def test_arguments_win_over_variables_those_over_the_file_and_that_over_defaults(tmp_path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("SONIQ_CONCURRENCY=2\nSONIQ_MAX_RETRIES=2\nSONIQ_PRIORITY=2\n")
    settings = load({"SONIQ_CONCURRENCY": "3", "SONIQ_MAX_RETRIES": "3"}, dotenv, concurrency=4)
    assert (settings.concurrency, settings.max_retries, settings.priority) == (4, 3, 2)


def test_either_name_of_a_variable_wins_over_the_file(tmp_path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("SONIQ_CONCURRENCY=2\n")
    assert load({"SONIQ_WORKER_CONCURRENCY": "3"}, dotenv).concurrency == 3


def test_an_empty_variable_is_not_set():
    assert load({"SONIQ_JOB_TIMEOUT": ""}).job_timeout == 300.0


def test_the_dotenv_file_of_the_working_directory_is_read(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("SONIQ_PRIORITY=7\n")
    monkeypatch.chdir(tmp_path)
    assert load_library_settings({}).priority == 7


def test_no_database_url_leaves_it_to_the_environment():
    assert load({"SONIQ_DATABASE_URL": "postgresql://h/d"}, database_url=None).database_url == "postgresql://h/d"


def test_no_job_timeout_is_no_limit():
    assert load({"SONIQ_JOB_TIMEOUT": "5"}, job_timeout=None).job_timeout is None


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        load().concurrency = 3


def test_every_problem_is_told_at_once():
    assert problems({"SONIQ_CONCURRENCY": "many"}, max_retries=-1, conurrency=3) == (
        'SONIQ_CONCURRENCY: expected a whole number, got "many"',
        "max_retries: expected 0 or more, got -1",
        'conurrency: unknown setting; did you mean "concurrency"?',
    )


def test_a_value_of_the_file_is_blamed_on_the_file(tmp_path):
    dotenv = tmp_path / ".env"
    dotenv.write_text("SONIQ_POLL_INTERVAL=soon\n")
    (problem,) = problems({}, dotenv)
    assert problem.startswith(f"{dotenv}: SONIQ_POLL_INTERVAL: expected a duration")


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path):
    assert problems({}, tmp_path) == (f"{tmp_path}: cannot read: is a directory",)


def test_a_task_name_pattern_has_to_compile():
    (problem,) = problems(task_name_pattern="(")
    assert problem.startswith('task_name_pattern: expected a regular expression, got "("')


def test_neither_text_nor_problem_shows_the_password():
    assert "secret" not in repr(load(database_url="postgresql://u:secret@h/d"))
    assert "secret" not in str(problems(concurrency="postgresql://u:secret@h/d"))
