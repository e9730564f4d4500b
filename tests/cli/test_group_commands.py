"""soniqctl scale and restart, as people and programs see them."""

from __future__ import annotations

import json
from itertools import chain, repeat

import pytest

from soniqd.errors import ControlError

SCALED = {"group": "mail", "processes": 3, "before": 1, "configured": 1}


def test_scale_asks_for_the_number_and_tells_what_the_configuration_says(master, soniqctl):
    master.answers["scale"] = SCALED
    assert soniqctl("scale", "mail", "3").stdout == ("mail gets 3 processes instead of 1; the configuration says 1\n")
    assert master.requests == [("scale", {"group": "mail", "processes": 3})]


def test_scale_back_to_the_configured_number_has_no_more_to_say(master, soniqctl):
    master.answers["scale"] = SCALED | {"processes": 1, "before": 3}
    assert soniqctl("scale", "mail", "1").stdout == "mail gets 1 process instead of 3\n"


def test_scale_to_the_number_that_there_is_says_that_nothing_changes(master, soniqctl):
    master.answers["scale"] = SCALED | {"processes": 3, "before": 3}
    assert soniqctl("scale", "mail", "3").stdout == "mail has 3 processes already; the configuration says 1\n"


def test_scale_as_json(master, soniqctl):
    master.answers["scale"] = SCALED
    assert json.loads(soniqctl("scale", "mail", "3", "--json").stdout) == SCALED


def test_scale_waits_until_so_many_run(master, soniqctl):
    def status(states):
        return {"children": [{"group": "mail", "state": state} for state in states]}

    looks = chain([["running"], ["running", "starting", "starting"]], repeat(["running", "paused", "running"]))
    master.answers |= {"scale": SCALED, "status": lambda _: status(next(looks))}
    assert "mail has 3 processes" in soniqctl("scale", "mail", "3", "--wait").stdout
    assert [command for command, _ in master.requests] == ["scale", "status", "status", "status"]


def test_scale_that_takes_too_long_fails_and_says_how_many_run(master, soniqctl):
    master.answers |= {"scale": SCALED, "status": {"children": [{"group": "mail", "state": "running"}]}}
    result = soniqctl("scale", "mail", "3", "--wait", "--timeout", "100ms", expect=1)
    assert result.stderr == "soniqctl: cannot scale mail to 3 within 0.1s: 1 process is running\n"


@pytest.mark.parametrize(
    "arguments", [("mail",), ("mail", "-1"), ("mail", "1001"), ("mail", "x"), ("m", "1", "--timeout", "1s")]
)
def test_scale_wants_a_group_and_a_number(soniqctl, arguments):
    soniqctl("scale", *arguments, expect=2)


def test_what_the_daemon_refuses_is_told(master, soniqctl):
    master.answers["scale"] = ControlError("cannot scale nail: there is no such group of workers; there are mail")
    assert "there are mail" in soniqctl("scale", "nail", "3", expect=1).stderr


@pytest.mark.parametrize(("arguments", "group"), [((), None), (("mail",), "mail")])
def test_restart_tells_what_was_replaced(master, soniqctl, arguments, group):
    master.answers["restart"] = {"groups": ["mail"], "replaced": 2, "duration_s": 0.52}
    assert soniqctl("restart", *arguments).stdout == "restarted mail: 2 processes replaced in 0.5s\n"
    assert master.requests == [("restart", {"group": group})]


def test_a_restart_that_failed_exits_with_one(master, soniqctl):
    master.answers["restart"] = ControlError("cannot restart mail: mail/2 ended; replaced before that: 1")
    assert "mail/2 ended" in soniqctl("restart", "mail", expect=1).stderr
