"""`soniqctl --json`: every command answers programs, and nothing but the answer is on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
import pytest

from soniqd import Soniq
from soniqd.cli.soniqctl import main
from tests.support.daemon import Daemon

JOBS = """
from soniqd import Soniq

app = Soniq()


@app.job(name="fail")
async def fail():
    raise RuntimeError("no")


@app.periodic(every=3600, name="hourly")
async def hourly():
    pass
"""
ENDLESS = {"scheduler", "logs"}
"""They run until they are told to leave; what ``logs`` prints is for the tests of following."""
ELSEWHERE = {"doctor"}
"""Its exit code is a finding about the machine: tests/cli/test_doctor.py holds what it prints."""
IN_THIS_ORDER = """
setup | migrate-status | status | health --ready | top | enqueue unheard | enqueue fail --delay 1h
jobs list | jobs show QUEUED | jobs why QUEUED
jobs cancel QUEUED | jobs delete LATER | queues list | queues pause mail | queues resume mail
schedules list | schedules pause hourly | schedules resume hourly | schedules remove hourly
dead-letter list | dead-letter replay DEAD --dry-run | dead-letter replay DEAD | dead-letter delete DEAD
inspect | inspect --stale | inspect --schedules | inspect --cleanup | tasks-check
drain default --wait | resume | reload | scale default 2 | restart default | stacks default/1 | upgrade | events -n 1
config check | config show | config schema | worker --run-once | stop --wait
"""


def commands() -> list[list[str]]:
    return [command.split() for line in IN_THIS_ORDER.strip().splitlines() for command in line.split("|")]


def all_commands(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from all_commands(found, (*path, name))


def test_no_command_is_left_out() -> None:
    tried = {" ".join(command) for command in commands()}
    left_out = {one for one in all_commands() if not any(f"{command} ".startswith(f"{one} ") for command in tried)}
    assert left_out == ENDLESS | ELSEWHERE


@pytest.mark.timeout(300)  # some fifty processes, one after the other
async def test_every_command_prints_json_on_either_side_of_the_option(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=JOBS, database_url=database_url) as daemon:
        dead = await app.enqueue("fail")

        async def buried() -> bool:
            return await app.dead_letter.get(dead) is not None

        await daemon.eventually(buried)
        ids = {"DEAD": dead}
        for command in commands():
            arguments = [ids.get(argument, argument) for argument in command]
            before = command[0] in ("status", "worker")
            options = ["--json", *arguments] if before else [*arguments, "--json"]
            answer: Any = json.loads(await daemon.soniqctl(*options, expect=0))
            if command[:2] == ["enqueue", "unheard"]:
                ids["QUEUED"] = answer["id"]
            elif command[0] == "enqueue":
                ids["LATER"] = answer["id"]
        assert await daemon.exit_code() == 0


async def test_exit_codes_tell_refused_usage_and_unreachable_apart(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.soniqctl("status")
        await daemon.soniqctl("jobs", "show", "00000000-0000-7000-8000-000000000000", expect=1)
        await daemon.soniqctl("drain", "unknown", expect=1)
        await daemon.soniqctl("frobnicate", expect=2)
        await daemon.soniqctl("enqueue", expect=2)
        await daemon.soniqctl("--socket", str(tmp_path / "other.sock"), "status", expect=3)
        await daemon.stop()
        await daemon.soniqctl("status", expect=3)


async def test_status_has_the_fields_that_were_promised(tmp_path):
    async with Daemon(tmp_path, workers=[{"processes": 2}, {"name": "mail"}]) as daemon:
        status = await daemon.soniqctl_json("status")
        assert {"state", "pid", "version", "generation", "database", "children"} <= set(status)
        assert (status["state"], status["pid"], status["database"]) == ("running", daemon.pid, "up")
        fields = {"role", "group", "slot", "pid", "state", "restarts", "generation", "uptime_s", "in_flight"}
        assert all(fields <= set(child) for child in status["children"])
        slots = [(child["role"], child["group"], child["slot"]) for child in status["children"]]
        assert sorted(slots) == [
            ("scheduler", "scheduler", "scheduler/1"),
            ("worker", "default", "default/1"),
            ("worker", "default", "default/2"),
            ("worker", "mail", "mail/1"),
        ]
