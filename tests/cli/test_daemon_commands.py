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


def test_status_tells_what_somebody_has_scaled(running, soniqctl):
    groups = [
        {"name": "mail", "processes": 3, "configured": 1, "paused": False, "in_flight": 0},
        {"name": "other", "processes": 1, "configured": 1, "paused": False, "in_flight": 0},
    ]
    running.answers["status"] = STATUS | {"groups": groups}
    lines = soniqctl("status").stdout.splitlines()
    assert "scaled       mail 3 instead of 1" in lines


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
        ({"database": "down"}, "! the database is down, nothing is claimed until it is back"),
        (
            {"database": "down", "database_error": "cannot connect to the database: refused"},
            "! the database is down, nothing is claimed until it is back: cannot connect to the database: refused",
        ),
        ({"database": "connecting"}, "the daemon is connecting to the database"),
        (
            {"database": "down", "database_problem": 'it has no tables; run "soniqctl setup"'},
            '! nothing is claimed: it has no tables; run "soniqctl setup"',
        ),
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
        (
            {"groups": [{"name": "mail", "processes": 0, "configured": 2, "paused": False}]},
            "! mail has no processes (scaled to 0): soniqctl scale mail 2",
        ),
        ({"pending_releases": 2}, "! jobs of 2 dead workers wait for the database to be requeued"),
        (
            {"hears_wake_ups": False},
            "! notifications of the database do not arrive, jobs start later: soniqctl doctor",
        ),
        (
            {"hears_wake_ups": False, "poll_interval_s": 5.0},
            "! notifications of the database do not arrive, jobs start up to 5.0s later: soniqctl doctor",
        ),
    ],
)
def test_status_says_first_what_is_wrong(running, soniqctl, change, complaint):
    running.answers["status"] = {**STATUS, **change}
    assert soniqctl("status").stdout.splitlines()[0] == complaint


def test_status_finds_nothing_wrong_with_processes_that_left_because_soniqd_leaves(running, soniqctl):
    gone = {**STATUS["children"][1], "state": "waiting", "pid": None, "last_exit": "exit code 0"}
    running.answers["status"] = {**STATUS, "state": "stopping", "children": [gone]}
    assert "!" not in soniqctl("status").stdout


BACKLOG: dict[str, Any] = {
    "leader": {"hostname": "web1", "pid": 4712, "slot": "scheduler/1"},
    "queues": [
        {
            "name": "default",
            "paused": False,
            "ready": 10_000,
            "ready_more": True,
            "later": 3,
            "later_more": False,
            "processing": 2,
            "oldest_s": 75.0,
        },
        {
            "name": "mail",
            "paused": True,
            "ready": 0,
            "ready_more": False,
            "later": 0,
            "later_more": False,
            "processing": 0,
            "oldest_s": None,
        },
    ],
    "unclaimable": {},
    "backlog_complete": True,
    "backlog_age_s": 0.2,
    "backlog_error": None,
}


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"paused": True, "ready": 12}, ["! queue default is paused, 12 jobs wait: soniqctl queues resume default"]),
        ({"paused": True, "ready": 1}, ["! queue default is paused, 1 job waits: soniqctl queues resume default"]),
        (
            {"paused": True, "ready": 10_000, "ready_more": True},
            ["! queue default is paused, 10000+ jobs wait: soniqctl queues resume default"],
        ),
        ({"paused": True, "ready": 0}, []),
        ({"paused": False, "ready": 12}, []),
    ],
)
def test_status_names_a_paused_queue_that_has_jobs(running, soniqctl, change, lines):
    queue = {**BACKLOG["queues"][0], "ready_more": False, **change}
    running.answers["status"] = {**STATUS, **BACKLOG, "queues": [queue], "unclaimable": {}}
    assert [line for line in soniqctl("status").stdout.splitlines() if line.startswith("!")] == lines


def test_a_group_that_the_configuration_leaves_empty_is_nothing_wrong(running, soniqctl):
    groups = [{"name": "mail", "processes": 0, "configured": 0, "paused": False}]
    running.answers["status"] = {**STATUS, "groups": groups}
    assert "!" not in soniqctl("status").stdout


def test_status_shows_each_queue_and_who_leads(running, soniqctl):
    running.answers["status"] = {**STATUS, **BACKLOG}
    lines = soniqctl("status").stdout.splitlines()
    assert "scheduler    led by web1 (pid 4712, scheduler/1 of this daemon)" in lines
    assert [line.split() for line in lines[-3:]] == [
        ["QUEUE", "STATE", "READY", "OLDEST", "LATER", "RUNNING"],
        ["default", "open", "10000+", "1m", "15s", "3", "2"],
        ["mail", "paused", "0", "-", "0", "0"],
    ]


@pytest.mark.parametrize(
    ("leader", "line"),
    [
        (None, "scheduler    nobody is known to lead"),
        ({"hostname": "web2", "pid": 9, "slot": None}, "scheduler    led by web2 (pid 9)"),
        ({"hostname": "10.0.0.9", "pid": None, "slot": None}, "scheduler    led by 10.0.0.9"),
    ],
)
def test_status_tells_where_the_leader_is(running, soniqctl, leader, line):
    running.answers["status"] = {**STATUS, "leader": leader}
    assert line in soniqctl("status").stdout.splitlines()


def test_status_says_when_the_queues_are_no_news(running, soniqctl):
    running.answers["status"] = {**STATUS, **BACKLOG, "backlog_age_s": 75.0, "backlog_error": "no answer"}
    assert soniqctl("status").stdout.splitlines()[-1] == "the queues are as they were 1m 15s ago: no answer"


def test_status_says_when_there_is_more_than_it_looked_at(running, soniqctl):
    running.answers["status"] = {**STATUS, **BACKLOG, "backlog_complete": False}
    assert "there are more queues or tasks than are counted here" in soniqctl("status").stdout


def test_a_task_that_is_declared_here_has_no_wrong_name(running, soniqctl):
    unclaimable = {"unclaimable": {"a": 2}, "unclaimable_declared": ["a"]}
    running.answers["status"] = {**STATUS, **BACKLOG, **unclaimable}
    assert soniqctl("status").stdout.splitlines()[0] == (
        "! 2 jobs of a wait for a worker that knows this task: it is declared here, and no such worker is up"
    )


ADVICE = "wait for a worker that knows this task: deploy it; if the name is wrong: soniqctl jobs list --name"


def test_status_names_the_tasks_that_nobody_knows(running, soniqctl):
    running.answers["status"] = {**STATUS, "unclaimable": {"a": 1, "b": 5, "c": 4, "d": 3}}
    assert [line for line in soniqctl("status").stdout.splitlines() if line.startswith("!")] == [
        f"! 5 jobs of b {ADVICE} b, then jobs cancel ID",
        f"! 4 jobs of c {ADVICE} c, then jobs cancel ID",
        f"! 3 jobs of d {ADVICE} d, then jobs cancel ID",
        "! 1 further task that no worker knows: soniqctl tasks-check",
    ]


def test_health_says_yes(master, soniqctl):
    master.answers["health"] = {"healthy": True, "reasons": []}
    assert soniqctl("health").stdout == "alive\n"
    assert soniqctl("health", "--ready").stdout == "ready\n"
    assert master.requests == [("health", {"ready": False}), ("health", {"ready": True})]


def test_health_says_why_not_and_fails(master, soniqctl):
    reason = {"code": "database_down", "text": "the database is down", "group": None}
    master.answers["health"] = {"healthy": False, "reasons": [reason]}
    assert soniqctl("health", "--ready", expect=1).stdout == "the database is down\n"
    assert json.loads(soniqctl("health", "--ready", "--json", expect=1).stdout)["reasons"] == [reason]


def test_health_of_nobody_is_no_answer(soniqctl):
    soniqctl("health", expect=3)


def look(at_s: float, done: int, cpu_s: float) -> dict[str, Any]:
    child = {
        "role": "worker",
        "group": "mail",
        "slot": "mail/1",
        "pid": 4713,
        "state": "running",
        "uptime_s": 9.0,
        "cpu_s": cpu_s,
        "memory_bytes": 34 * 1024 * 1024,
        "in_flight": 1,
        "concurrency": 4,
        "done": done,
        "failed": 2,
        "oldest_job": {"id": "j1", "job_name": "send", "ran_s": 75.0},
    }
    scheduler = {**child, "role": "scheduler", "slot": "scheduler/1", "pid": 4712, "oldest_job": None, "done": 0}
    own = {"name": "master", "pid": 4711, "cpu_s": 1.0, "memory_bytes": None}
    processes = [own]
    return {"at_s": at_s, "state": "running", "database": "up", "processes": processes, "children": [scheduler, child]}


def test_top_shows_rates_between_two_looks(master, soniqctl):
    looks = iter([look(100.0, 40, 1.0), look(102.0, 50, 2.0)])
    master.answers["top"] = lambda _: next(looks)
    lines = soniqctl("top", "--interval", "1ms").stdout.splitlines()
    assert lines[0] == "soniqd running, database up: 2 running, 5 jobs/s"
    cells = [line.split() for line in lines[3:]]
    assert cells[0] == ["master", "4711", "-", "0.0", "-", "-", "-", "-", "-", "-"]
    assert cells[1] == ["scheduler/1", "4712", "running", "50.0", "34M", "-", "-", "-", "-", "-"]
    assert cells[2] == ["mail/1", "4713", "running", "50.0", "34M", "1/4", "5.0", "50", "2", "1m", "15s", "send", "j1"]


def test_top_as_json_has_no_rates_for_who_has_just_come(master, soniqctl):
    earlier = {**look(100.0, 40, 1.0), "children": []}
    looks = iter([earlier, look(102.0, 50, 2.0)])
    master.answers["top"] = lambda _: next(looks)
    answer = json.loads(soniqctl("top", "--interval", "1ms", "--json").stdout)
    assert [child["jobs_per_s"] for child in answer["children"]] == [None, None]
    assert answer["processes"][0]["cpu_percent"] == 0.0
    assert (answer["jobs_per_s"], answer["interval_s"]) == (0.0, 2.0)


def test_top_of_another_version_is_an_error_not_a_traceback(master, soniqctl):
    master.answers["top"] = {"children": []}
    assert "is soniqctl of the same version?" in soniqctl("top", "--interval", "1ms", expect=1).stderr


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


def group(
    name: str, *, started: int = 0, stopped: int = 0, replaced: int = 0, kept: int = 0, reasons: tuple[str, ...] = ()
):
    action = "change" if started or stopped or replaced else "stay"
    numbers = {"started": started, "stopped": stopped, "replaced": replaced, "kept": kept}
    return {"name": name, "action": action, **numbers, "reasons": list(reasons)}


def reload_answer(*groups: dict[str, Any], settings: tuple[str, ...] = (), replaced: int = 0, kept: int = 0):
    changes = {"settings": list(settings), "code": [], "groups": list(groups)}
    counts = {"replaced": replaced, "kept": kept}
    return {"generation": 3, **counts, "duration_s": 1.25, "error": None, "changes": changes}


def test_reload_tells_which_groups_changed_and_why(master, soniqctl):
    mail = group("mail", started=1, replaced=2, reasons=("concurrency: 4 -> 8",))
    master.answers["reload"] = reload_answer(mail, group("default", kept=3), replaced=3, kept=3)
    lines = soniqctl("reload").stdout.splitlines()
    assert lines[0] == "reloaded: generation 3, 3 processes replaced or started in 1.2s, 3 not concerned"
    assert [line.split() for line in lines[1:]] == [
        ["GROUP", "STARTED", "STOPPED", "REPLACED", "STAYED", "WHY"],
        ["mail", "1", "-", "2", "-", "concurrency:", "4", "->", "8"],
    ]


def test_reload_of_nothing_new_says_so_and_what_to_do_about_it(master, soniqctl):
    master.answers["reload"] = reload_answer(group("default", kept=1), kept=1)
    first, second = soniqctl("reload").stdout.splitlines()
    assert first == "reloaded: nothing has changed, 1 process stayed; generation 3 is ready for the next ones, in 1.2s"
    assert "soniqctl reload --all" in second


def test_reload_of_a_setting_that_concerns_nobody_names_it(master, soniqctl):
    master.answers["reload"] = reload_answer(group("default", kept=1), settings=("[sweep] interval: 1m -> 2m",), kept=1)
    first, second = soniqctl("reload").stdout.splitlines()
    assert first.startswith("reloaded: no process is concerned, 1 process stayed;")
    assert second == "[sweep] interval: 1m -> 2m (no process has to be replaced for it)"


def test_reload_hands_its_options_to_the_daemon(master, soniqctl):
    master.answers["reload"] = reload_answer(group("default", replaced=1), replaced=1)
    soniqctl("reload", "--all")
    assert master.requests[-1] == ("reload", {"all": True, "dry_run": False})


def test_a_rehearsal_says_what_would_happen_and_that_nothing_did(master, soniqctl):
    default = group("default", replaced=2, reasons=("a", "b", "c", "d", "e"))
    changes = reload_answer(default, group("mail", kept=1))["changes"]
    master.answers["reload"] = {"refused": False, "problems": [], "needs_restart": [], "changes": changes}
    lines = soniqctl("reload", "--dry-run").stdout.splitlines()
    assert [line.split() for line in lines[:-1]] == [
        ["GROUP", "START", "STOP", "REPLACE", "STAY", "WHY"],
        ["default", "-", "-", "2", "-", "a;", "b;", "c;", "2", "more"],
        ["mail", "-", "-", "-", "1", "nothing", "has", "changed"],
    ]
    assert lines[-1] == "the new code can be imported; nothing was done"


def test_a_rehearsal_of_what_would_be_refused_fails(master, soniqctl):
    answer = {
        "refused": True,
        "problems": ["cannot import shop"],
        "needs_restart": ["[soniqd] socket"],
        "changes": None,
    }
    master.answers["reload"] = answer
    assert soniqctl("reload", "--dry-run", expect=1).stdout.splitlines() == [
        "! cannot import shop",
        "! [soniqd] socket changed: restart soniqd to apply that",
        "a reload would be refused; nothing was done",
    ]
    assert json.loads(soniqctl("reload", "--dry-run", "--json", expect=1).stdout) == answer


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


@pytest.mark.parametrize(
    ("arguments", "answer", "says"),
    [
        ((), {"already": False, "in_flight": 2}, "soniqd is stopping: running jobs may finish first"),
        ((), {"already": True, "in_flight": 2}, "it is stopping already: 2 jobs may still finish"),
        ((), {"already": True, "in_flight": 0}, "it is stopping already: no job is running any more"),
        (
            ("--now",),
            {"already": False, "now": True, "in_flight": 1},
            "soniqd is leaving now: 1 running job is given back",
        ),
        (("--now",), {}, "soniqd is stopping: running jobs may finish first"),
    ],
)
def test_stop_says_what_it_does_to_running_jobs(master, soniqctl, arguments, answer, says):
    master.answers["stop"] = answer
    assert soniqctl("stop", *arguments).stdout == f"{says}\n"
    assert master.requests == [("stop", {"now": True} if arguments else {})]


def test_a_stop_that_joins_another_one_says_so_before_it_waits(master, soniqctl):
    master.answers["stop"] = {"already": True, "in_flight": 1}
    master.answers["status"] = {"state": "stopping"}
    failed = soniqctl("stop", "--wait", "--timeout", "0.1s", expect=1)
    assert failed.stdout == "it is stopping already: 1 job may still finish\n"
    assert "soniqd is not gone within" in failed.stderr


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
