"""``soniqctl upgrade``: the running daemon goes on as the soniqd that is installed now."""

from __future__ import annotations

from contextlib import suppress

import click

from soniqd.cli.options import DURATION, json_option
from soniqd.cli.render import print_json, print_line
from soniqd.cli.session import Session
from soniqd.cli.wording import count, duration
from soniqd.errors import ControlError, DaemonUnreachableError

_TIMEOUT_S = 120.0
"""Above what the daemon itself gives the new release to start and to answer."""


@click.command()
@click.option("--timeout", type=DURATION, default=_TIMEOUT_S, help="How long to wait for the result; default: 2m.")
@json_option
@click.pass_obj
def upgrade(session: Session, *, timeout: float) -> None:
    """Let the running daemon become the soniqd that is installed now, without a restart.

    Its process goes on with another program: same pid, same workers; running jobs do not notice. The installed soniqd
    is first asked whether it can; if not, the running one goes on as it is and the command fails. The settings stay
    those in force, and workers keep the code that they have: `reload` brings both up to date.
    """
    session.daemon().call("status")  # who cannot be reached at all was not upgraded, either
    try:
        answer = session.daemon().call("upgrade", timeout_s=timeout)
    except DaemonUnreachableError as error:
        raise ControlError(f"cannot tell whether the upgrade went well: {error}{_present_state(session)}") from error
    if session.as_json:
        print_json(answer)
        return
    before, after = answer.get("from_version"), answer.get("version")
    change = f"{before} became {after}" if before != after else f"{after} began anew"
    kept = count(answer.get("children", 0), "process", "processes")
    gap = duration(answer.get("gap_s"))
    print_line(f"upgraded: soniqd {change}, pid {answer.get('pid')}, {kept} kept, {gap} without a master")


def _present_state(session: Session) -> str:
    with suppress(ControlError, DaemonUnreachableError):
        status = session.daemon().call("status")
        return f"; soniqd {status.get('version')} runs there now, for {duration(status.get('uptime_s'))}"
    return ""
