"""Commands that change what the daemon does: ``reload``, ``drain``, ``resume``, ``stop``."""

from __future__ import annotations

import time
from typing import Any

import click

from soniqd.cli.options import DURATION, json_option
from soniqd.cli.reloads import print_rehearsal, print_reload
from soniqd.cli.render import print_json, print_line
from soniqd.cli.session import Session
from soniqd.cli.wording import count, duration
from soniqd.errors import ControlError, DaemonUnreachableError

_RELOAD_TIMEOUT_S = 900.0
"""A reload imports the application; the daemon has its own deadline for that."""
_POLL_S = 0.2


@click.command()
@click.option(
    "--timeout", type=DURATION, default=_RELOAD_TIMEOUT_S, help="How long to wait for the result; default: 15m."
)
@click.option("--all", "everything", is_flag=True, help="Replace every process, also where nothing has changed.")
@click.option(
    "--dry-run", is_flag=True, help="Only say what would be replaced, and why; exit 1 if it would be refused."
)
@json_option
@click.pass_context
def reload(ctx: click.Context, *, timeout: float, everything: bool, dry_run: bool) -> None:
    """Read the configuration and the jobs modules again, then replace the processes that this affects.

    Code that has changed affects all of them, a changed group its own. One new process of each group has to last the
    probation first; then the others are replaced one by one. Waits for the result. If the new code cannot be imported,
    or a new process fails, the old ones go on and the command fails.
    """
    session: Session = ctx.obj
    answer = session.daemon().call("reload", {"all": everything, "dry_run": dry_run}, timeout_s=timeout)
    if session.as_json:
        print_json(answer)
    elif dry_run:
        print_rehearsal(answer)
    else:
        print_reload(answer)
    if answer.get("refused"):
        ctx.exit(1)


@click.command()
@click.argument("group", required=False)
@click.option("--wait", is_flag=True, help="Wait until no job runs any more.")
@click.option("--timeout", type=DURATION, help="How long --wait waits at most.")
@json_option
@click.pass_obj
def drain(session: Session, group: str | None, *, wait: bool, timeout: float | None) -> None:
    """Let a group of workers, or all, claim nothing more; what runs goes on. `resume` ends it."""
    if timeout is not None and not wait:
        raise click.UsageError("--timeout belongs to --wait")
    answer = session.daemon().call("drain", {"group": group, "wait": False})
    if wait:
        answer = {**answer, "in_flight": _wait_until_drained(session, answer["groups"], timeout)}
    if session.as_json:
        print_json(answer)
        return
    running = answer["in_flight"]
    rest = f"{count(running, 'job')} still running" if running else "no job is running"
    print_line(f"{_named(answer)} claim nothing more; {rest}")


@click.command()
@click.argument("group", required=False)
@json_option
@click.pass_obj
def resume(session: Session, group: str | None) -> None:
    """Let a drained group of workers, or all, claim jobs again."""
    answer = session.daemon().call("resume", {"group": group})
    if session.as_json:
        print_json(answer)
    else:
        print_line(f"{_named(answer)} claim jobs again")


@click.command()
@click.option("--now", is_flag=True, help="Leave at once: running jobs are given back.")
@click.option("--wait", is_flag=True, help="Wait until the daemon is gone.")
@click.option("--timeout", type=DURATION, help="How long --wait waits at most.")
@json_option
@click.pass_obj
def stop(session: Session, *, now: bool, wait: bool, timeout: float | None) -> None:
    """Drain and leave: running jobs may finish, for as long as drain_timeout allows.

    Asked again, it changes nothing and says so; with --wait it then waits for the end of what is under way. Jobs that
    --now, or the end of drain_timeout, cuts short are given back without using one of their attempts.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout belongs to --wait")
    answer = session.daemon().call("stop", {"now": True} if now else {})
    if not session.as_json and not (wait and not answer.get("already")):
        print_line(_stopping(answer))
    if wait:
        _wait_until_gone(session, timeout)
    if session.as_json:
        print_json(answer)
    elif wait:
        print_line("soniqd is gone")


def _stopping(answer: dict[str, Any]) -> str:
    running = answer.get("in_flight", 0)
    if answer.get("now"):
        return f"soniqd is leaving now: {count(running, 'running job is', 'running jobs are')} given back"
    if answer.get("already"):
        rest = f"{count(running, 'job')} may still finish" if running else "no job is running any more"
        return f"it is stopping already: {rest}"
    return "soniqd is stopping: running jobs may finish first"


def _wait_until_drained(session: Session, groups: list[str], timeout_s: float | None) -> int:
    deadline = Deadline(timeout_s)
    while running := _in_flight(session, groups):
        if not deadline.wait():
            raise ControlError(
                f"cannot drain {', '.join(groups)} within {duration(timeout_s)}: {count(running, 'job')} still running"
            )
    return 0


def _in_flight(session: Session, groups: list[str]) -> int:
    rows: list[dict[str, Any]] = [
        row for row in session.daemon().call("status").get("groups", ()) if row.get("name") in groups
    ]
    if resumed := [row["name"] for row in rows if not row.get("paused")]:
        raise ControlError(f"cannot drain {', '.join(resumed)}: resumed by somebody else meanwhile")
    return sum(int(row.get("in_flight", 0)) for row in rows)


def _wait_until_gone(session: Session, timeout_s: float | None) -> None:
    deadline = Deadline(timeout_s)
    while True:
        try:
            session.daemon().call("status")
        except DaemonUnreachableError:
            return
        if not deadline.wait():
            raise ControlError(f"soniqd is not gone within {duration(timeout_s)}: it still drains")


def _named(answer: dict[str, Any]) -> str:
    return "workers of " + ", ".join(answer.get("groups", ()))


class Deadline:
    """Pauses between two looks until its time is over; None is never."""

    def __init__(self, timeout_s: float | None) -> None:
        self._at = None if timeout_s is None else time.monotonic() + timeout_s

    def wait(self) -> bool:
        """Pause; return whether there is time for another look."""
        if self._at is not None and time.monotonic() >= self._at:
            return False
        time.sleep(_POLL_S)
        return True
