"""Loading soniq.toml: sources, precedence, paths, and every problem with its place."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from soniqd.errors import ConfigurationError
from soniqd.settings import (
    DaemonSettings,
    dump_settings,
    load_configuration,
    load_daemon_settings,
    restore_settings,
)


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="soniq.toml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def load(write):
    def load_text(text, environ=None, **overrides):
        return load_daemon_settings(write(text), environ=environ or {}, overrides=overrides.get("overrides"))

    return load_text


@pytest.fixture
def problems(write):
    def load_bad_text(text, environ=None):
        path = write(text)
        with pytest.raises(ConfigurationError) as caught:
            load_daemon_settings(path, environ=environ or {})
        return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]

    return load_bad_text


# -- values and where they come from


def test_an_empty_file_is_all_defaults(load, tmp_path):
    settings = load("")
    assert settings.database.url == f"sqlite:///{tmp_path}/soniq.db"
    assert replace(settings, database=DaemonSettings().database) == DaemonSettings()


def test_tables_and_groups(load):
    settings = load("""
        [soniqd]
        drain_timeout = "5m"
        [scheduler]
        enabled = false
        [[workers]]
        name = "mail"
        queues = ["mail", "bulk"]
        [[workers]]
        processes = 3
    """)
    assert settings.soniqd.drain_timeout == 300
    assert not settings.scheduler.enabled
    assert [(g.name, g.queues, g.processes) for g in settings.workers] == [
        ("mail", ("mail", "bulk"), 1),
        ("default", (), 3),
    ]


def test_no_groups_are_no_workers(load):
    assert load("workers = []").workers == ()


def test_command_line_environment_dotenv_file_default(write):
    write("SONIQ_RESULT_TTL=2\nSONIQ_MAX_RETRIES=2\nSONIQ_POLL_INTERVAL=2\n", ".env")
    path = write("[jobs]\nresult_ttl = 1\nmax_retries = 1\npoll_interval = 1\ntimeout = 1\n")
    loaded = load_configuration(
        path,
        environ={"SONIQ_RESULT_TTL": "3", "SONIQ_MAX_RETRIES": "3"},
        overrides={"jobs.result_ttl": 4},
    )
    jobs = loaded.settings.jobs
    assert (jobs.result_ttl, jobs.max_retries, jobs.poll_interval, jobs.timeout, jobs.max_crashes) == (4, 3, 2, 1, 3)
    assert {key: loaded.origins.get(f"jobs.{key}") for key in ("result_ttl", "max_retries", "max_crashes")} == {
        "result_ttl": "command line",
        "max_retries": "SONIQ_MAX_RETRIES",
        "max_crashes": None,
    }
    assert loaded.origins["jobs.poll_interval"] == f"{path.parent / '.env'}: SONIQ_POLL_INTERVAL"
    assert loaded.origins["jobs.timeout"] == f"{path}: jobs.timeout"


@pytest.mark.parametrize(
    ("variable", "text", "read", "value"),
    [
        ("SONIQ_DATABASE_URL", "postgresql://h/d", lambda s: s.database.url, "postgresql://h/d"),
        ("SONIQ_JOBS_MODULES", "a.b, c:app", lambda s: s.jobs.modules, ("a.b", "c:app")),
        ("SONIQ_CONCURRENCY", "7", lambda s: [g.concurrency for g in s.workers], [7, 7]),
        ("SONIQ_WORKER_CONCURRENCY", "8", lambda s: [g.concurrency for g in s.workers], [8, 8]),
        ("SONIQ_JOB_TIMEOUT", "0", lambda s: s.jobs.timeout, 0),
        ("SONIQ_HEARTBEAT_TIMEOUT", "1m", lambda s: s.sweep.heartbeat_timeout, 60),
        ("SONIQ_HEARTBEAT_INTERVAL", "2.5", lambda s: s.sweep.heartbeat_interval, 2.5),
        ("SONIQ_CLEANUP_INTERVAL", "90", lambda s: s.sweep.interval, 90),
        ("SONIQ_POOL_MAX_SIZE", "30", lambda s: s.database.pool_max_size, 30),
        ("SONIQ_LOG_LEVEL", "warning", lambda s: s.soniqd.log_level, "WARNING"),
        ("SONIQ_SHUTDOWN_TIMEOUT", "9", lambda s: s.soniqd.drain_timeout, 9),
    ],
)
def test_variables(load, variable, text, read, value):
    groups = '[[workers]]\nname = "a"\nconcurrency = 1\n[[workers]]\nname = "b"\n'
    assert read(load(groups, {variable: text})) == value


def test_a_variable_for_workers_counts_where_the_file_has_no_group(load):
    assert load("", {"SONIQ_CONCURRENCY": "9"}).workers[0].concurrency == 9


def test_queues_of_the_environment_are_the_librarys_only(load):
    assert load("", {"SONIQ_QUEUES": "a,b"}).workers[0].queues == ()


def test_without_a_file_there_is_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = load_configuration(None, environ={"SONIQ_DATABASE_URL": "jobs.db"})
    assert loaded.settings.database.url == str(tmp_path / "jobs.db")
    assert loaded.files == ()


# -- includes


def test_included_files_are_read_in_order_and_the_later_one_wins(load, write, tmp_path):
    write("[jobs]\nmax_retries = 1\nmax_crashes = 1\n", "conf.d/10.toml")
    write("[jobs]\nmax_retries = 2\n", "conf.d/20.toml")
    settings = load('include = ["conf.d/*.toml"]\n[jobs]\nmax_retries = 9\nmax_crashes = 9\npoll_interval = 9\n')
    assert (settings.jobs.max_retries, settings.jobs.max_crashes, settings.jobs.poll_interval) == (2, 1, 9)


def test_groups_of_several_files_are_merged_by_name(load, write):
    write('[[workers]]\nname = "mail"\nprocesses = 4\n[[workers]]\nname = "new"\n', "conf.d/a.toml")
    settings = load('include = ["conf.d/*.toml"]\n[[workers]]\n[[workers]]\nname = "mail"\nconcurrency = 2\n')
    assert [(g.name, g.processes, g.concurrency) for g in settings.workers] == [
        ("default", 1, 4),
        ("mail", 4, 2),
        ("new", 1, 4),
    ]


def test_a_pattern_without_a_match_is_fine_and_a_missing_file_is_not(problems):
    assert problems('include = ["conf.d/*.toml", "missing.toml"]') == ['include[1]: no such file: "missing.toml"']


def test_an_included_file_includes_nothing(problems, write, tmp_path):
    inner = write('include = ["more.toml"]\n', "conf.d/a.toml")
    (problem,) = problems('include = ["conf.d/*.toml"]')
    assert problem == f"{inner}: include: only {tmp_path / 'soniq.toml'} itself can include files"


def test_a_problem_of_an_included_file_is_told_with_its_place_there(problems, write):
    inner = write('[[workers]]\nname = "mail"\nprocesses = "x"\n', "conf.d/a.toml")
    found = problems('include = ["conf.d/*.toml"]\n[[workers]]\n[[workers]]\nname = "mail"\n')
    assert found == [f'{inner}: workers[0].processes: expected a whole number, got "x"']


# -- variables in strings


def test_variables_in_strings_are_replaced_also_from_dotenv(load, write):
    write("FROM_FILE=f\n", ".env")
    settings = load('[database]\nurl = "postgresql://u:${PW}@${FROM_FILE}/$$d${PW}$"', {"PW": "p"})
    assert settings.database.url == "postgresql://u:p@f/$dp$"


def test_a_missing_variable_is_a_problem_at_its_place(problems):
    assert problems('[jobs]\npath = ["/a", "${NOWHERE}/b"]') == ["jobs.path[1]: ${NOWHERE} is not set"]


def test_what_is_no_variable_is_told_how_to_be_written(problems):
    (problem,) = problems('[jobs]\npath = ["${not one}"]')
    assert 'write "$$" for a dollar sign' in problem


# -- paths and secrets


def test_relative_paths_start_at_the_files_folder(load, tmp_path):
    settings = load("""
        [soniqd]
        socket = "run/s.sock"
        [jobs]
        path = [".", "/abs"]
        python = ".venv/bin/python"
        [database]
        url = "sqlite:///data/jobs.db"
    """)
    assert settings.soniqd.socket == tmp_path / "run/s.sock"
    assert [str(path) for path in settings.jobs.path] == [str(tmp_path), "/abs"]
    assert settings.jobs.python == tmp_path / ".venv/bin/python"
    assert settings.database.url == f"sqlite:///{tmp_path}/data/jobs.db"


def test_an_absolute_sqlite_path_stays(load):
    assert load('[database]\nurl = "sqlite:////var/lib/jobs.db"').database.url == "sqlite:////var/lib/jobs.db"


def test_the_url_of_a_file_beside_the_configuration(load, write):
    write("postgresql://u:secret@h/d\n", "db.url")
    assert load('[database]\nurl_file = "db.url"').database.url == "postgresql://u:secret@h/d"


def test_the_url_of_a_credential(load, write):
    credential = write("postgresql://h/credential\n", "credentials/db")
    environ = {"CREDENTIALS_DIRECTORY": str(credential.parent)}
    assert load('[database]\nurl_file = "db"', environ).database.url == "postgresql://h/credential"


def test_a_url_of_the_environment_wins_over_a_file(load):
    environ = {"SONIQ_DATABASE_URL": "postgresql://h/d"}
    assert load('[database]\nurl_file = "missing"', environ).database.url == "postgresql://h/d"


def test_url_and_url_file_together_are_a_problem(problems, tmp_path):
    assert problems('[database]\nurl = "x.db"\nurl_file = "y"') == [
        f"database.url_file: expected either url or url_file; url is given at {tmp_path / 'soniq.toml'}: database.url"
    ]


def test_a_missing_url_file_is_a_problem(problems, tmp_path):
    assert problems('[database]\nurl_file = "y"') == [
        f"database.url_file: cannot read {tmp_path}/y: no such file or directory"
    ]


def test_no_text_of_settings_or_problems_shows_the_password(load, problems):
    bad = '[database]\nurl = "nosql://u:secret@h/d"\n[jobs]\nmodules = ["postgresql://u:secret@h/d"]'
    assert "secret" not in str(problems(bad))
    assert "secret" not in repr(load('[database]\nurl = "postgresql://u:secret@h/d"'))


# -- problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[soniqd]\nsockett = 1", 'soniqd.sockett: unknown key; did you mean "socket"?'),
        ("[schedulers]", 'schedulers: unknown key; did you mean "scheduler"?'),
        ("[quux]", "quux: unknown key"),
        ("[worker]", 'worker: unknown key; did you mean "workers"?'),
        (
            "[[workers]]\n[[workers]]\nname='b'\nconcurency = 3",
            'workers[1].concurency: unknown key; did you mean "concurrency"?',
        ),
        ("[jobs]\nconcurrency = 3", "jobs.concurrency: unknown key; did you mean [[workers]].concurrency?"),
        (
            "[jobs]\ninclude = []",
            'jobs.include: unknown key; did you mean "include", which belongs above the first [table]?',
        ),
        ("[workers]\nprocesses = 2", "workers: expected an array of tables, each written as [[workers]]"),
        ("[[workers]]\nprocesses = '2'", 'workers[0].processes: expected a whole number, got "2"'),
        ("[[workers]]\nprocesses = true", "workers[0].processes: expected a whole number, got true"),
        ("[[workers]]\nprocesses = -1", "workers[0].processes: expected 0 or more, got -1"),
        ("[[workers]]\nprocesses = 1001", "workers[0].processes: expected 1000 or less, got 1001"),
        ("[[workers]]\nqueues = 'a'", 'workers[0].queues: expected an array, got "a"'),
        ("[[workers]]\nqueues = [1]", "workers[0].queues[0]: expected a string, got 1"),
        (
            "[[workers]]\nname = 'Mail'",
            'workers[0].name: expected text that matches ^[a-z][a-z0-9_-]*$, got "Mail"',
        ),
        ("[[workers]]\nname = 'scheduler'", 'workers[0].name: expected another name: "scheduler" is reserved'),
        (
            "[[workers]]\n[[workers]]",
            'workers[1].name: expected a name of its own, got "default", which workers[0] has',
        ),
        ("[scheduler]\nenabled = 'yes'", 'scheduler.enabled: expected true or false, got "yes"'),
        ("soniqd = 3", "soniqd: expected a table, got 3"),
        (
            "[soniqd]\nlog_format = 'xml'",
            'soniqd.log_format: expected one of "auto", "text", "json" or "journald", got "xml"',
        ),
        (
            "[soniqd]\ndrain_timeout = 'soon'",
            'soniqd.drain_timeout: expected a duration such as "500ms", "30s", "5m" or a number of seconds, got "soon"',
        ),
        ("[sweep]\nheartbeat_interval = 0", "sweep.heartbeat_interval: expected more than 0, got 0"),
        (
            "[sweep]\nheartbeat_timeout = '15s'",
            (
                "sweep.heartbeat_timeout: expected more than 3 x heartbeat_interval (15s), got 15s: "
                "one late heartbeat would take a worker's jobs away"
            ),
        ),
        (
            "[jobs]\nmodules = ['my-app.jobs']",
            'jobs.modules[0]: expected "package.module" or "package.module:name", got "my-app.jobs"',
        ),
        (
            "[database]\nurl = 'mysql://h/d'",
            'database.url: expected "postgresql://..." or "sqlite:///path", got "mysql://h/d"',
        ),
        (
            "[database]\nurl = 'memory://'",
            'database.url: expected a database that several processes can share, got "memory://"',
        ),
        (
            "[database]\npool_min_size = 9\npool_max_size = 8",
            "database.pool_min_size: expected pool_max_size (8) or less, got 9",
        ),
        (
            "[database]\nurl = 'postgresql://h/d'\npool_max_size = 5\n[[workers]]\nconcurrency = 4",
            (
                "workers[0].concurrency: Connection pool too small: "
                "concurrency 4 and pool_headroom 2 need 6 connections, and pool_max_size is 5"
            ),
        ),
        ("when = 2026-11-22", "when: unknown key"),
    ],
)
def test_a_problem_is_told_with_place_expectation_and_finding(problems, text, problem):
    assert problems(text) == [problem]


def test_an_embedded_database_has_no_pool_to_be_too_small(load):
    assert load("[database]\npool_max_size = 2\n[[workers]]\nconcurrency = 50").workers[0].concurrency == 50


def test_every_problem_is_told_at_once_those_between_values_included(problems):
    found = problems("""
        [soniqd]
        drain_timeout = -1
        [jobs]
        modules = ["1"]
        [[workers]]
        name = "scheduler"
        processes = 1.5
        [sweep]
        heartbeat_timeout = 1
        interval = "?"
    """)
    assert [problem.split(": ")[0] for problem in found] == [
        "soniqd.drain_timeout",
        "workers[0].processes",
        "sweep.interval",
        "jobs.modules[0]",
        "workers[0].name",
        "sweep.heartbeat_timeout",
    ]


def test_a_finding_that_depends_on_a_wrong_value_is_not_told(problems):
    found = problems("[sweep]\nheartbeat_interval = 'x'\nheartbeat_timeout = 1")
    assert [problem.split(": ")[0] for problem in found] == ["sweep.heartbeat_interval"]


def test_a_wrong_variable_is_blamed_by_its_name(problems):
    assert problems("", {"SONIQ_POOL_MAX_SIZE": "many"}) == ['SONIQ_POOL_MAX_SIZE: expected a whole number, got "many"']


@pytest.mark.parametrize(
    ("text", "where"), [("[soniqd]\nsocket = \n", ":2:10: "), ("[soniqd\n", ":1:8: "), ('a = "', " (at its end): ")]
)
def test_a_syntax_error_has_line_and_column(write, text, where):
    path = write(text)
    with pytest.raises(ConfigurationError) as caught:
        load_daemon_settings(path, environ={})
    assert caught.value.problems[0].startswith(f"{path}{where}cannot parse: ")


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000], ids=["digits", "arrays"])
def test_what_python_refuses_to_read_is_a_problem(write, value):
    path = write(f"a = {value}")
    with pytest.raises(ConfigurationError) as caught:
        load_daemon_settings(path, environ={})
    assert caught.value.problems[0].startswith(f"{path}: cannot parse: ")


@pytest.mark.parametrize(
    ("key", "expected"), [("url_file", "a path"), ("url", '"postgresql://..." or "sqlite:///path"')]
)
def test_no_file_has_a_nul_character_in_its_name(problems, key, expected):
    [problem] = problems(f'[database]\n{key} = "sqlite:///a\\u0000b"')
    assert problem.startswith(f"database.{key}: expected {expected}, got ")


def test_a_file_that_is_no_text_is_a_problem(write):
    path = write("")
    path.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match="not UTF-8 at byte 5"):
        load_daemon_settings(path, environ={})


def test_a_missing_file_is_a_problem(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere.toml: cannot read: no such file or directory"):
        load_daemon_settings(tmp_path / "nowhere.toml", environ={})


def test_a_folder_is_a_problem(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read: is a directory"):
        load_daemon_settings(tmp_path, environ={})


def test_the_message_counts_and_lists_the_problems(write):
    path = write("[a]\n[b]\n")
    with pytest.raises(ConfigurationError, match=r"cannot use .*soniq.toml: 2 problems: .*a: unknown.*b: unknown"):
        load_daemon_settings(path, environ={})


# -- transfer


def test_settings_come_back_from_their_dump(load):
    settings = load('[database]\nurl = "postgresql://u:secret@h/d"\n[jobs]\npath = ["."]\n[[workers]]\nname = "x"')
    assert restore_settings(json.loads(json.dumps(dump_settings(settings)))) == settings


def test_a_dump_of_another_release_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match=r"jobs\.nonsense"):
        restore_settings({"jobs": {"nonsense": 1}})
