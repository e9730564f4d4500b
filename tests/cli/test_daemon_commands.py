from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from soniqd.errors import ConfigurationError, ControlError

STATUS: dict[str, Any] = {
    "state": "running",
    "pid": 4711,
    "version": "0.1.0",
    "generation": 2,
    "started_at": 0.0,
    "uptime_s": 93784.0,
    "database": "up",
    "location": "postgresql://soniq@db/jobs",
    "config": "/etc/soniq.toml",
    "children": [
        {
            "role": "scheduler",
            "group": "scheduler",
            "slot": "scheduler/1",
            "pid": 4712,
            "state": "leading",
            "restarts": 0,
            "generation": 2,
            "uptime_s": 60.0,
            "in_flight": 0,
            "done": 0,
            "failed": 0,
            "last_exit": None,
        },
        {
            "role": "worker",
            "group": "mail",
            "slot": "mail/1",
            "pid": 4713,
            "state": "running",
            "restarts": 3,
            "generation": 2,
            "uptime_s": 3.25,
            "in_flight": 2,
            "done": 40,
            "failed": 1,
            "last_exit": "killed by SIGKILL",
        },
    ],
    "groups": [{"name": "mail", "processes": 1, "paused": False, "in_flight": 2}],
    "last_reload": None,
}


@pytest.fixture
def running(master):
    master.answers["status"] = STATUS
    return master


def test_status_as_text(running, soniqctl):
    lines = soniqctl("status").stdout.splitlines()
    assert lines[:5] == [
        "soniqd       running, version 0.1.0, pid 4711",
        "up           1d 2h, generation 2",
        "database     up, postgresql://soniq@db/jobs",
        "config       /etc/soniq.toml",
        "last reload  -",
    ]
    assert [line.split() for line in lines[6:]] == [
        ["SLOT", "STATE", "PID", "UP", "RUNNING", "DONE", "FAILED", "GEN", "RESTARTS", "LAST", "EXIT"],
        ["scheduler/1", "leading", "4712", "1m", "-", "-", "-", "2", "0", "-"],
        ["mail/1", "running", "4713", "3.2s", "2", "40", "1", "2", "3", "killed", "by", "SIGKILL"],
    ]


@pytest.mark.parametrize("arguments", [("--json", "status"), ("status", "--json")])
def test_status_as_json_is_what_the_master_said(running, soniqctl, arguments):
    assert json.loads(soniqctl(*arguments).stdout) == STATUS


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"database": "down"}, "! the database is down: nothing is claimed until it is back"),
        (
            {"last_reload": {"generation": 3, "replaced": 0, "duration_s": 1.0, "error": "cannot import myapp"}},
            "! the last reload failed, generation 2 goes on: cannot import myapp",
        ),
        (
            {"children": [{**STATUS["children"][1], "state": "waiting", "pid": None}]},
            "! mail/1 is waiting, last exit: killed by SIGKILL",
        ),
        (
            {"groups": [{"name": "mail", "paused": True}]},
            "! mail is drained: soniqctl resume mail lets it claim again",
        ),
        ({"pending_releases": 2}, "! jobs of 2 dead workers wait for the database to be requeued"),
    ],
)
def test_status_says_first_what_is_wrong(running, soniqctl, change, complaint):
    running.answers["status"] = {**STATUS, **change}
    assert soniqctl("status").stdout.splitlines()[0] == complaint


def test_status_of_another_version_is_an_error_not_a_traceback(running, soniqctl):
    running.answers["status"] = {"children": []}
    assert "is soniqctl of the same version?" in soniqctl("status", expect=1).stderr


def test_status_shows_no_control_characters(running, soniqctl):
    running.answers["status"] = {**STATUS, "config": "/etc/\x1b[31mred"}
    assert "/etc/\\x1b[31mred" in soniqctl("status").stdout


def test_watch_looks_again_and_outlives_the_daemon(running):
    soniqctl = str(Path(sys.executable).parent / "soniqctl")
    arguments = ["--socket", str(running.path), "--json", "status", "--watch", "--interval", "10ms"]
    watching = subprocess.Popen([soniqctl, *arguments], stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    with watching.stdout:
        try:
            assert [json.loads(watching.stdout.readline())["state"] for _ in range(2)] == ["running", "running"]
            running.close()
            assert any(json.loads(line)["state"] == "unreachable" for line in watching.stdout)
            watching.send_signal(signal.SIGINT)
            watching.stdout.read()
            assert watching.wait(20) == 0
        finally:
            watching.kill()
            watching.wait()


def test_reload_waits_for_the_result(master, soniqctl):
    master.answers["reload"] = {"generation": 3, "replaced": 4, "duration_s": 1.25}
    assert soniqctl("reload").stdout == "reloaded: generation 3, 4 processes replaced in 1.2s\n"


def test_a_failed_reload_says_why_and_fails(master, soniqctl):
    master.answers["reload"] = ConfigurationError("cannot reload", ("jobs.modules: no myapp", "x: unknown key"))
    result = soniqctl("reload", expect=1)
    assert result.stderr.splitlines() == [
        "soniqctl: cannot reload",
        "soniqctl: jobs.modules: no myapp",
        "soniqctl: x: unknown key",
    ]


def test_a_refusal_as_json(master, soniqctl):
    master.answers["reload"] = ConfigurationError("cannot reload", ("a", "b"))
    error = json.loads(soniqctl("reload", "--json", expect=1).stderr)["error"]
    assert error == {"code": "SONIQ_CONFIGURATION", "message": "cannot reload", "problems": ["a", "b"]}


def test_drain_names_the_group(master, soniqctl):
    master.answers["drain"] = {"groups": ["mail"], "in_flight": 2}
    assert soniqctl("drain", "mail").stdout == "workers of mail claim nothing more; 2 jobs still running\n"
    assert master.requests == [("drain", {"group": "mail", "wait": False})]


def test_drain_waits_until_nothing_runs(master, soniqctl):
    running = iter([2, 1, 0])
    master.answers["drain"] = {"groups": ["mail"], "in_flight": 2}
    master.answers["status"] = lambda _: {"groups": [{"name": "mail", "paused": True, "in_flight": next(running)}]}
    assert soniqctl("drain", "--wait").stdout == "workers of mail claim nothing more; no job is running\n"
    assert [command for command, _ in master.requests] == ["drain", "status", "status", "status"]


def test_drain_does_not_wait_for_ever(master, soniqctl):
    master.answers["drain"] = {"groups": ["mail"], "in_flight": 2}
    master.answers["status"] = {"groups": [{"name": "mail", "paused": True, "in_flight": 2}]}
    result = soniqctl("drain", "--wait", "--timeout", "10ms", expect=1)
    assert "cannot drain mail within 0.0s: 2 jobs still running" in result.stderr


def test_drain_notices_that_somebody_resumed(master, soniqctl):
    master.answers["drain"] = {"groups": ["mail"], "in_flight": 2}
    master.answers["status"] = {"groups": [{"name": "mail", "paused": False, "in_flight": 2}]}
    assert "resumed by somebody else" in soniqctl("drain", "--wait", expect=1).stderr


def test_a_refused_drain_fails(master, soniqctl):
    master.answers["drain"] = ControlError("cannot drain nix: there is no such group")
    assert soniqctl("drain", "nix", expect=1).stderr == "soniqctl: cannot drain nix: there is no such group\n"


def test_resume(master, soniqctl):
    master.answers["resume"] = {"groups": ["a", "b"], "in_flight": 0}
    assert soniqctl("resume").stdout == "workers of a, b claim jobs again\n"
    assert master.requests == [("resume", {"group": None})]


def test_stop(master, soniqctl):
    master.answers["stop"] = {}
    assert json.loads(soniqctl("stop", "--json").stdout) == {}
    assert master.requests == [("stop", {})]


def test_a_daemon_that_is_not_there_has_an_exit_code_of_its_own(soniqctl):
    result = soniqctl("status", expect=3)
    assert "there is no such socket: is it running" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("drain", "--timeout", "5s"),
        ("nonsense",),
        ("drain", "a", "b"),
        ("status", "--interval", "soon"),
        ("jobs", "show"),
    ],
)
def test_wrong_usage(soniqctl, arguments):
    assert soniqctl(*arguments, expect=2).stderr.startswith("Usage: ")


def test_a_mistyped_command_is_suggested(soniqctl):
    assert 'There is no command "statos"; did you mean "status"?' in soniqctl("statos", expect=2).stderr


def test_a_broken_configuration_does_not_keep_anybody_from_asking(running, soniqctl, tmp_path, monkeypatch):
    (tmp_path / "soniq.toml").write_text(f'nonsense = 1\n[soniqd]\nsocket = "{running.path.name}"\n')
    from click.testing import CliRunner

    from soniqd.cli.soniqctl import main

    result = CliRunner().invoke(main, ["-c", str(tmp_path / "soniq.toml"), "status"])
    assert result.exit_code == 0
    assert "warning: cannot use" in result.stderr
    assert "running, version 0.1.0" in result.stdout
