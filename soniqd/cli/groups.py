"""Commands that change a group's processes: ``scale`` and ``restart``."""

from __future__ import annotations

import click

from soniqd.cli.daemon import Deadline
from soniqd.cli.options import DURATION, json_option
from soniqd.cli.render import print_json, print_line
from soniqd.cli.session import Session
from soniqd.cli.wording import count, duration
from soniqd.errors import ControlError

_RESTART_TIMEOUT_S = 900.0
_WORKS = frozenset({"running", "paused"})


@click.command()
@click.argument("group")
@click.argument("processes", type=click.IntRange(0, 1000))
@click.option("--wait", is_flag=True, help="Wait until so many run.")
@click.option("--timeout", type=DURATION, help="How long --wait waits at most.")
@json_option
@click.pass_obj
def scale(session: Session, group: str, processes: int, *, wait: bool, timeout: float | None) -> None:
    """Run another number of processes in a group of workers.

    It holds until soniqd stops, or a reload finds another number in the configuration than there was before, or
    `reload --all`. Processes that are too many finish what they run. The signals TTIN and TTOU to soniqd start and end
    one process of the first group.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout belongs to --wait")
    answer = session.daemon().call("scale", {"group": group, "processes": processes})
    if wait:
        _wait_until_running(session, group, processes, timeout)
    if session.as_json:
        print_json(answer)
        return
    number = count(processes, "process", "processes")
    rest = "" if processes == answer["configured"] else f"; the configuration says {answer['configured']}"
    if processes == answer["before"]:
        print_line(f"{group} has {number} already{rest}")
    else:
        print_line(f"{group} {'has' if wait else 'gets'} {number} instead of {answer['before']}{rest}")


@click.command()
@click.argument("group", required=False)
@click.option(
    "--timeout", type=DURATION, default=_RESTART_TIMEOUT_S, help="How long to wait for the result; default: 15m."
)
@json_option
@click.pass_obj
def restart(session: Session, group: str | None, *, timeout: float) -> None:
    """Replace the processes of a group, or all, by fresh ones, one by one.

    Each is replaced when its replacement can work, and finishes what it runs. Code and configuration are those in use;
    `reload` takes new ones. If a replacement fails, the rest stays as it is and the command fails.
    """
    answer = session.daemon().call("restart", {"group": group}, timeout_s=timeout)
    if session.as_json:
        print_json(answer)
        return
    replaced = count(answer["replaced"], "process", "processes")
    print_line(f"restarted {', '.join(answer['groups'])}: {replaced} replaced in {duration(answer['duration_s'])}")


def _wait_until_running(session: Session, group: str, processes: int, timeout_s: float | None) -> None:
    deadline = Deadline(timeout_s)
    while (running := _running(session, group)) != processes:
        if not deadline.wait():
            raise ControlError(
                f"cannot scale {group} to {processes} within {duration(timeout_s)}: "
                f"{count(running, 'process is', 'processes are')} running"
            )


def _running(session: Session, group: str) -> int:
    children = session.daemon().call("status").get("children", ())
    return sum(1 for child in children if child["group"] == group and child["state"] in _WORKS)
