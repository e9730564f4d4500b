"""``soniqctl upgrade``: what it says, and its exit codes."""

from __future__ import annotations

import json

import pytest

from soniqd.errors import ControlError

ANSWER = {"version": "0.2.0", "from_version": "0.1.0", "pid": 4711, "children": 3, "duration_s": 1.2, "gap_s": 0.45}


@pytest.fixture
def running(master):
    master.answers["status"] = {"version": "0.1.0", "uptime_s": 93784.0}
    master.answers["upgrade"] = ANSWER
    return master


def test_it_tells_both_versions_and_what_was_kept(running, soniqctl):
    assert soniqctl("upgrade").stdout == (
        "upgraded: soniqd 0.1.0 became 0.2.0, pid 4711, 3 processes kept, 0.5s without a master\n"
    )


def test_the_same_version_is_no_change(running, soniqctl):
    running.answers["upgrade"] = ANSWER | {"version": "0.1.0"}
    assert soniqctl("upgrade").stdout.startswith("upgraded: soniqd 0.1.0 began anew, pid 4711")


def test_json_is_what_the_master_said(running, soniqctl):
    assert json.loads(soniqctl("upgrade", "--json").stdout) == ANSWER


def test_a_refusal_is_exit_code_1_and_says_why(running, soniqctl):
    running.answers["upgrade"] = ControlError("cannot upgrade: a reload is under way")
    assert "cannot upgrade: a reload is under way" in soniqctl("upgrade", expect=1).stderr


def test_without_a_daemon_it_is_exit_code_3(running, soniqctl):
    running.close()
    soniqctl("upgrade", expect=3)


def test_an_answer_that_never_comes_is_exit_code_1_with_what_runs_now(running, soniqctl):
    running.silent.add("upgrade")
    result = soniqctl("upgrade", "--timeout", "0.2s", expect=1)
    assert "cannot tell whether the upgrade went well" in result.stderr
    assert "soniqd 0.1.0 runs there now, for 1d 2h" in result.stderr
