"""The commands as real processes: exit codes, signals, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.waiting import eventually_sync

BIN = Path(sys.executable).parent

JOBS = """
    import asyncio, pathlib
    from soniqd import Soniq

    app = Soniq()

    @app.job(name="touch")
    async def touch(path: str):
        pathlib.Path(path).touch()

    @app.job(name="fail")
    async def fail():
        raise RuntimeError("no")

    @app.periodic(every=1, name="tick")
    async def tick():
        pass
"""


@pytest.fixture
def run(tmp_path):
    def start(*arguments, expect=0, **environ):
        process = subprocess.run(
            [str(BIN / arguments[0]), *arguments[1:]],
            cwd=tmp_path,
            env={**_environment(), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert process.returncode == expect, process.stdout + process.stderr
        assert "Traceback" not in process.stderr
        return process

    return start


@pytest.fixture
def config(tmp_path):
    (tmp_path / "myjobs.py").write_text(textwrap.dedent(JOBS))
    path = tmp_path / "soniq.toml"
    path.write_text(
        '[soniqd]\nsocket = "s.sock"\n[database]\nurl = "sqlite:///jobs.db"\n'
        '[jobs]\nmodules = ["myjobs"]\npath = ["."]\n'
    )
    return path


def _environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("SONIQ", "NOTIFY"))}


def test_soniqd_tells_its_version(run):
    assert run("soniqd", "--version").stdout == "soniqd 0.1.0\n"


def test_soniqd_without_a_configuration(run):
    if Path("/etc/soniq.toml").exists():
        pytest.skip("this machine has a configuration of its own")
    assert run("soniqd", expect=78).stderr == (
        "soniqd: /etc/soniq.toml: there is no such file: write one, or name another with -c FILE\n"
    )


@pytest.mark.parametrize("test", [(), ("-t",)])
def test_soniqd_with_problems_prints_each_and_exits_78(run, config, test):
    config.write_text("[soniqd]\nsockett = 1\n[jobs]\ntimeout = -1\n")
    assert run("soniqd", *test, "-c", str(config), expect=78).stderr.splitlines() == [
        f'soniqd: {config}: soniqd.sockett: unknown key; did you mean "socket"?',
        (
            f'soniqd: {config}: jobs.timeout: expected a duration such as "500ms", "30s", "5m" or a number of seconds, '
            "got -1"
        ),
    ]


def test_soniqd_t_finds_nothing(run, config):
    assert "the configuration is good" in run("soniqd", "-t", "-c", str(config)).stdout


def test_soniqd_t_finds_a_module_that_cannot_be_imported(run, config, tmp_path):
    (tmp_path / "myjobs.py").write_text("import nowhere_to_be_found\n")
    assert "nowhere_to_be_found" in run("soniqd", "-t", "-c", str(config), expect=78).stderr


def test_soniqd_t_finds_an_application_with_another_database(run, config, tmp_path):
    (tmp_path / "myjobs.py").write_text('from soniqd import Soniq\napp = Soniq("postgresql://u:secret@h/d")\n')
    errors = run("soniqd", "-t", "-c", str(config), expect=78).stderr
    assert "postgresql://u:***@h/d" in errors
    assert "jobs.db" in errors


def with_database(config, url):
    config.write_text(config.read_text().replace("sqlite:///jobs.db", url))


def test_soniqd_t_makes_no_sqlite_file(run, config, tmp_path):
    assert "the database can be used" in run("soniqd", "-t", "-c", str(config)).stdout
    assert not (tmp_path / "jobs.db").exists()


def test_soniqd_t_finds_that_an_sqlite_file_cannot_be_made(run, config, tmp_path):
    with_database(config, "sqlite:///nowhere/jobs.db")
    errors = run("soniqd", "-t", "-c", str(config), expect=78).stderr
    assert f"the folder {tmp_path / 'nowhere'} does not exist" in errors


def test_soniqd_t_tells_of_a_database_that_does_not_answer_and_finds_nothing_wrong(run, config):
    with_database(config, "postgresql://u:secret@127.0.0.1:1/d")
    done = run("soniqd", "-t", "-c", str(config))
    assert done.stderr.startswith("soniqd: warning: cannot connect to the database: ")
    assert done.stderr.endswith("; soniqd starts, and jobs wait until it is there\n")
    assert "secret" not in done.stderr
    assert "the configuration is good" in done.stdout
    assert "the database can be used" not in done.stdout


def test_soniqd_t_finds_a_database_that_can_be_used(run, config, postgres_url):
    with_database(config, postgres_url)
    done = run("soniqd", "-t", "-c", str(config))
    assert (done.stderr, "and the database can be used" in done.stdout) == ("", True)


def test_soniqd_t_finds_a_database_without_tables(run, config, empty_postgres_url):
    with_database(config, empty_postgres_url)
    errors = run("soniqd", "-t", "-c", str(config), expect=78).stderr
    assert errors == 'soniqd: cannot use the database: it has no tables of soniqd; run "soniqctl setup"\n'


@pytest.mark.parametrize(
    ("database", "user", "cure"),
    [("nowhere", "postgres", '"soniqctl setup" creates it'), ("postgres", "nobody", "create the role")],
)
def test_soniqd_t_finds_a_database_that_refuses(run, config, postgres_server, database, user, cure):
    with_database(config, postgres_server.url(database, user=user))
    errors = run("soniqd", "-t", "-c", str(config), expect=78).stderr
    assert errors.startswith("soniqd: cannot connect to the database: ")
    assert cure in errors


def test_soniqd_finds_its_configuration_in_a_variable(run, config):
    assert "the configuration is good" in run("soniqd", "-t", SONIQ_CONFIG=str(config)).stdout


def test_soniqd_as_a_module(run, tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "soniqd", "--version"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert process.stdout == "soniqd 0.1.0\n"


def test_soniqctl_exit_codes(run, config):
    run("soniqctl", "-c", str(config), "setup")
    run("soniqctl", "-c", str(config), "jobs", "cancel", "01a203cf-0000-7000-8000-000000000000", expect=1)
    run("soniqctl", "-c", str(config), "nonsense", expect=2)
    run("soniqctl", "-c", str(config), "status", expect=3)
    run("soniqctl", "-c", "missing.toml", "status", expect=1)


def test_a_reader_that_leaves_is_no_error_message(run, config):
    run("soniqctl", "-c", str(config), "setup")
    for _ in range(3):
        run("soniqctl", "-c", str(config), "enqueue", "touch")
    shell = f"{BIN}/soniqctl -c {config} config schema | head -n 1"
    process = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, check=True, env=_environment())
    assert process.stderr == ""


def test_a_worker_alone_runs_once_what_is_there(run, config, tmp_path):
    run("soniqctl", "-c", str(config), "setup")
    run("soniqctl", "-c", str(config), "enqueue", "touch", "--args", json.dumps({"path": str(tmp_path / "done")}))
    run("soniqctl", "-c", str(config), "enqueue", "fail")
    answer = json.loads(run("soniqctl", "-c", str(config), "--json", "worker", "--run-once").stdout)
    assert answer == {"done": 1, "failed": 4}
    assert (tmp_path / "done").exists()


def test_a_worker_alone_needs_no_configuration_file(run, config, tmp_path):
    environ = {"SONIQ_DATABASE_URL": f"sqlite:///{tmp_path / 'jobs.db'}", "SONIQ_JOBS_MODULES": "myjobs"}
    config.unlink()
    run("soniqctl", "setup", **environ)
    run("soniqctl", "enqueue", "touch", "--args", json.dumps({"path": str(tmp_path / "done")}), **environ)
    run("soniqctl", "worker", "--run-once", "--concurrency", "2", "--queues", "default,other", **environ)
    assert (tmp_path / "done").exists()


def test_a_worker_alone_leaves_other_queues_alone(run, config, tmp_path):
    run("soniqctl", "-c", str(config), "setup")
    run("soniqctl", "-c", str(config), "enqueue", "touch", "--args", json.dumps({"path": str(tmp_path / "done")}))
    output = run("soniqctl", "-c", str(config), "worker", "--run-once", "--queues", "mail").stdout
    assert output == "0 jobs done, 0 runs failed\n"
    assert not (tmp_path / "done").exists()


def test_a_worker_alone_tells_what_it_cannot_import(run, config):
    run("soniqctl", "-c", str(config), "setup")
    errors = run("soniqctl", "-c", str(config), "worker", "--jobs-modules", "nowhere", expect=1).stderr
    assert "cannot import nowhere" in errors


def test_a_worker_alone_goes_on_in_the_interpreter_of_the_jobs(run, config, tmp_path):
    python = tmp_path / "jobs-python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    config.write_text(config.read_text() + 'python = "jobs-python"\n')
    run("soniqctl", "-c", str(config), "setup")
    output = run("soniqctl", "-c", str(config), "worker", "--run-once").stdout
    assert output == "0 jobs done, 0 runs failed\n"
    assert (tmp_path / "calls").read_text() == f"-m soniqd.cli.soniqctl -c {config} worker --run-once\n"


def test_a_worker_alone_drains_on_sigterm(run, config, tmp_path):
    run("soniqctl", "-c", str(config), "setup")
    worker = subprocess.Popen([str(BIN / "soniqctl"), "-c", str(config), "worker"], cwd=tmp_path, env=_environment())
    try:
        eventually_sync(
            lambda: json.loads(run("soniqctl", "-c", str(config), "inspect", "--json").stdout), timeout_s=30
        )
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()
    assert _answer(run, config, "inspect") == []


def test_a_scheduler_alone_fires_and_leaves_on_sigterm(run, config, tmp_path):
    run("soniqctl", "-c", str(config), "setup")
    scheduler = subprocess.Popen(
        [str(BIN / "soniqctl"), "-c", str(config), "scheduler"], cwd=tmp_path, env=_environment()
    )
    try:
        eventually_sync(lambda: _answer(run, config, "jobs", "list"), timeout_s=30)
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(30) == 0
    finally:
        scheduler.kill()
        scheduler.wait()


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_terminals_get_colours_unless_they_are_not_wanted(config, tmp_path, run, environ, coloured):
    run("soniqctl", "-c", str(config), "setup")
    run("soniqctl", "-c", str(config), "enqueue", "touch")
    output = _on_terminal([str(BIN / "soniqctl"), "-c", str(config), "queues", "list"], environ)
    assert ("\x1b[32m" in output) is coloured


def test_a_narrow_terminal_breaks_no_cell(config, tmp_path, run):
    run("soniqctl", "-c", str(config), "setup")
    stored = _answer(run, config, "enqueue", "touch")
    environ = {"NO_COLOR": "1", "COLUMNS": "40"}
    output = _on_terminal([str(BIN / "soniqctl"), "-c", str(config), "jobs", "list"], environ)
    header, row = re.sub(r"\x1b\[\d*m", "", output).splitlines()
    assert header.startswith("ID ")
    assert row.startswith(f"{stored['id']}  touch  default  queued")


def test_a_dumb_terminal_gets_plain_text(config, tmp_path, run):
    run("soniqctl", "-c", str(config), "setup")
    output = _on_terminal([str(BIN / "soniqctl"), "-c", str(config), "queues", "list"], {"TERM": "dumb"})
    assert output.isascii()
    assert "\x1b" not in output


def _answer(run, config, *arguments):
    return json.loads(run("soniqctl", "-c", str(config), "--json", *arguments).stdout)


def _on_terminal(command, environ):
    """Run a command whose output is a terminal; return what it printed there."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env={**_environment(), "TERM": "xterm-256color", "COLUMNS": "120", **environ},
        )
        os.close(theirs)
        output = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not data:
                break
            output += data
        assert process.wait(30) == 0
    finally:
        os.close(ours)
    return output.decode()
