"""``soniqctl status``: what runs, what is wrong, once or again and again."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from soniqd.cli.options import DURATION, json_option
from soniqd.cli.render import Tone, print_fields, print_json, print_line, print_table
from soniqd.cli.session import Session
from soniqd.cli.wording import count, duration
from soniqd.errors import ControlError, DaemonUnreachableError

_UNHEALTHY = frozenset({"hung", "misconfigured", "waiting"})
_LEAVING = frozenset({"stopping", "leaving"})
_UNCLAIMABLE_SHOWN = 3
_OLD_S = 5.0
_CLEAR = "\x1b[H\x1b[2J"


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--interval", type=DURATION, default=1.0, help="Pause between two looks with --watch; default: 1s.")
@json_option
@click.pass_obj
def status(session: Session, *, watch: bool, interval: float) -> None:
    """Show the daemon, its processes and what is wrong with them."""
    if not watch:
        _show(session, session.daemon().call("status"))
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            _look(session)
            time.sleep(interval)


def _look(session: Session) -> None:
    """Show one look; a daemon that is away for now is something to show, too."""
    try:
        answer = session.daemon().call("status")
    except DaemonUnreachableError as error:
        if session.as_json:
            click.echo(json.dumps({"state": "unreachable", "error": str(error)}))
        else:
            _begin()
            print_line(str(error), tone="bad")
        return
    if session.as_json:
        click.echo(json.dumps(answer))
    else:
        _begin()
        _show(session, answer)
    sys.stdout.flush()


def _begin() -> None:
    if sys.stdout.isatty():
        click.echo(_CLEAR, nl=False)
    else:
        click.echo()


def _show(session: Session, answer: dict[str, Any]) -> None:
    if session.as_json:
        print_json(answer)
        return
    try:
        _print(answer)
    except (KeyError, TypeError, AttributeError) as error:
        raise ControlError(f"cannot read the daemon's status: {error!r}: is soniqctl of the same version?") from error


def _print(answer: dict[str, Any]) -> None:
    children = answer["children"]
    for text, tone in _complaints(answer):
        print_line(text, tone=tone)
    print_fields(
        [
            ("soniqd", f"{answer['state']}, version {answer['version']}, pid {answer['pid']}"),
            ("up", f"{duration(answer.get('uptime_s'))}, generation {answer['generation']}"),
            ("database", f"{answer['database']}, {answer.get('location') or '-'}"),
            *([("scheduler", _leader(answer["leader"]))] if "leader" in answer else []),
            ("config", answer.get("config")),
            ("last reload", _last_reload(answer.get("last_reload"))),
            *([("scaled", scaled)] if (scaled := _scaled(answer)) else []),
        ]
    )
    print_line("")
    print_table(
        ("slot", "state", "pid", "up", "running", "done", "failed", "gen", "restarts", "last exit"),
        [_row(child) for child in children],
        empty="no child processes",
    )
    if answer.get("queues"):
        print_line("")
        _print_backlog(answer)


def _scaled(answer: dict[str, Any]) -> str:
    """Name the groups that somebody has given another number of processes than the configuration does."""
    return ", ".join(
        f"{group['name']} {group['processes']} instead of {group['configured']}"
        for group in answer.get("groups", ())
        if group.get("configured", group.get("processes")) != group.get("processes")
    )


def _leader(leader: dict[str, Any] | None) -> str:
    if leader is None:
        return "nobody is known to lead"
    here = f", {leader['slot']} of this daemon" if leader.get("slot") else ""
    pid = f" (pid {leader['pid']}{here})" if leader["pid"] else ""
    return f"led by {leader['hostname']}{pid}"


def _print_backlog(answer: dict[str, Any]) -> None:
    print_table(
        ("queue", "state", "ready", "oldest", "later", "running"),
        [
            (
                queue["name"],
                "paused" if queue["paused"] else "open",
                _counted(queue["ready"], more=queue["ready_more"]),
                duration(queue["oldest_s"]),
                _counted(queue["later"], more=queue["later_more"]),
                queue["processing"],
            )
            for queue in answer["queues"]
        ],
        empty="no queues",
    )
    if (age_s := answer["backlog_age_s"]) > _OLD_S:
        error = f": {answer['backlog_error']}" if answer.get("backlog_error") else ""
        print_line(f"the queues are as they were {duration(age_s)} ago{error}", tone="warn")
    if not answer["backlog_complete"]:
        print_line("there are more queues or tasks than are counted here", tone="warn")


def _counted(number: int, *, more: bool) -> str:
    return f"{number}{'+' if more else ''}"


def _row(child: dict[str, Any]) -> tuple[object, ...]:
    up = duration(child["uptime_s"]) if child["pid"] else None
    counts = (child["in_flight"], child.get("done"), child.get("failed"))
    # A scheduler runs no jobs: dashes instead of zeros that look like news.
    shown = counts if child["role"] == "worker" else (None, None, None)
    return (
        child["slot"],
        child["state"],
        child["pid"],
        up,
        *shown,
        child["generation"],
        child["restarts"],
        child.get("last_exit"),
    )


def _complaints(answer: dict[str, Any]) -> list[tuple[str, Tone]]:
    """Say first what an operator has to know."""
    found = [*_about_database(answer)]
    if lack := answer.get("descriptors_short"):
        found.append((_files(lack["limit"], lack["enough"], answer["pid"]), "bad"))
    failure = (answer.get("last_reload") or {}).get("error")
    if failure:
        found.append((f"! the last reload failed, generation {answer['generation']} goes on: {failure}", "bad"))
    for child in answer["children"]:
        if child["state"] in _UNHEALTHY and answer["state"] not in _LEAVING and not (lack and _not_started(child)):
            exits = f", last exit: {child['last_exit']}" if child.get("last_exit") else ""
            found.append((f"! {child['slot']} is {child['state']}{exits}", "bad"))
    found.extend(
        (f"! {group['name']} is drained: soniqctl resume {group['name']} lets it claim again", "warn")
        for group in answer.get("groups", ())
        if group.get("paused")
    )
    found.extend((text, "warn") for text in (*_scaled_to_nothing(answer), *_paused_queues(answer)))
    found.extend((f"! {text}", "bad") for text in _unclaimable(answer))
    if pending := answer.get("pending_releases"):
        found.append((f"! jobs of {count(pending, 'dead worker')} wait for the database to be requeued", "warn"))
    return found


def _scaled_to_nothing(answer: dict[str, Any]) -> Iterator[str]:
    for group in answer.get("groups", ()):
        configured = group.get("configured")
        if configured and group.get("processes") == 0:
            yield f"! {group['name']} has no processes (scaled to 0): soniqctl scale {group['name']} {configured}"


def _paused_queues(answer: dict[str, Any]) -> Iterator[str]:
    for queue in answer.get("queues") or ():
        if queue["paused"] and queue["ready"]:
            ready = _counted(queue["ready"], more=queue["ready_more"])
            waits = "job waits" if ready == "1" else "jobs wait"
            yield f"! queue {queue['name']} is paused, {ready} {waits}: soniqctl queues resume {queue['name']}"


def _about_database(answer: dict[str, Any]) -> Iterator[tuple[str, Tone]]:
    if problem := answer.get("database_problem"):
        yield f"! nothing is claimed: {problem}", "bad"
    elif answer["database"] == "connecting":
        yield "the daemon is connecting to the database", "warn"
    elif answer["database"] != "up":
        because = f": {error}" if (error := answer.get("database_error")) else ""
        yield f"! the database is {answer['database']}, nothing is claimed until it is back{because}", "bad"
    if problem := (answer.get("connections") or {}).get("problem"):
        yield f"! the database server may run out of connections: {problem}", "bad"
    if answer.get("hears_wake_ups") is False and answer["database"] == "up":
        poll_s = answer.get("poll_interval_s")
        later = "later" if poll_s is None else f"up to {duration(poll_s)} later"
        yield f"! notifications of the database do not arrive, jobs start {later}: soniqctl doctor", "warn"


def _not_started(child: dict[str, Any]) -> bool:
    return str(child.get("last_exit")).startswith("not started")


def _files(limit: int, enough: int, pid: int) -> str:
    return (
        f"! soniqd has no file descriptors left for its processes, it may have {limit}: allow it {enough}, now by "
        f"prlimit --pid {pid} --nofile={enough}:{enough} (as root), for good by LimitNOFILE= of its systemd unit, "
        "--ulimit nofile= of its container, or ulimit -n where it is started"
    )


def _unclaimable(answer: dict[str, Any]) -> list[str]:
    names: dict[str, int] = answer.get("unclaimable") or {}
    declared = answer.get("unclaimable_declared", ())
    shown = sorted(names.items(), key=lambda item: -item[1])[:_UNCLAIMABLE_SHOWN]
    lines = [
        f"{count(number, 'job')} of {name} {'waits' if number == 1 else 'wait'} for a worker that knows this task: "
        + ("it is declared here, and no such worker is up" if name in declared else _advice(name))
        for name, number in shown
    ]
    if hidden := len(names) - len(shown):
        lines.append(f"{count(hidden, 'further task')} that no worker knows: soniqctl tasks-check")
    return lines


def _advice(name: str) -> str:
    return f"deploy it; if the name is wrong: soniqctl jobs list --name {name}, then jobs cancel ID"


def _last_reload(result: dict[str, Any] | None) -> str | None:
    if not result:
        return None
    if result.get("error"):
        return f"failed: {result['error']}"
    replaced = count(result.get("replaced", 0), "process", "processes")
    return f"generation {result.get('generation')}, {replaced} replaced in {duration(result.get('duration_s'))}"
