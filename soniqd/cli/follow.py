"""``soniqctl logs`` and ``soniqctl events``: what happens, as it happens."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from soniqd.cli.lines import render, wants_colour
from soniqd.cli.options import JOB_ID, json_option
from soniqd.cli.render import print_note
from soniqd.cli.session import Session
from soniqd.errors import DaemonUnreachableError
from soniqd.log import Event, catalogue
from soniqd.settings.problems import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

_PATIENCE_S = 5.0
"""How long a daemon may be away while it is followed: an upgrade in place takes less than a second."""
_RETRY_S = 0.1
_LAST_BEFORE_FOLLOWING = 10
_LEVELS = click.Choice(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), case_sensitive=False)


def _filters(command: F) -> F:
    for option in (
        click.option("--level", type=_LEVELS, help="The least level; what [soniqd] log_level leaves out is not there."),
        click.option("--slot", metavar="SLOT", help="Of one process: default/1."),
        click.option("--group", metavar="GROUP", help="Of one group of processes."),
    ):
        command = option(command)
    return command


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Show lines as they come, until Ctrl-C.")
@click.option("--job", type=JOB_ID, metavar="ID", help="Of one job.")
@_filters
@json_option
@click.pass_obj
def logs(
    session: Session, *, follow: bool, job: str | None, group: str | None, slot: str | None, level: str | None
) -> None:
    """Follow what this host's processes log, and what their jobs print, each line with its job.

    Lines that come faster than they can be shown are left out, and counted where they are missing. Earlier lines are
    in the daemon's own log, which has all of them: its standard error, or `journalctl -u soniqd` where systemd runs it.
    """
    if not follow:
        raise click.UsageError(
            "logs shows lines as they come: add --follow; what was logged before is in the daemon's log: its standard "
            "error, or journalctl -u soniqd where systemd runs it"
        )
    params = {"job": None if job is None else str(job), "group": group, "slot": slot, "level": level}
    _Follower(session, "logs", params).run()


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Show further events as they come, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="The last so many; default: all, with --follow 10.")
@click.option("--event", "names", metavar="NAME", multiple=True, help="Of this name; may be given again.")
@_filters
@json_option
@click.pass_obj
def events(
    session: Session,
    *,
    follow: bool,
    lines: int | None,
    names: tuple[str, ...],
    group: str | None,
    slot: str | None,
    level: str | None,
) -> None:
    """Show the last events of the daemon, up to 1,000: starts, exits, reloads, outages and why.

    With --json, one object a line.
    """
    for name in names:
        _check_event(name)
    last = _LAST_BEFORE_FOLLOWING if lines is None and follow else lines
    params = {"follow": follow, "last": last, "names": names, "group": group, "slot": slot, "level": level}
    _Follower(session, "events", params).run(endless=follow)


def _check_event(name: str) -> None:
    known = {event.name for event in vars(catalogue).values() if isinstance(event, Event)} | {"log"}
    if name not in known:
        raise click.UsageError(f'there is no event "{name}"{did_you_mean(name, known)}')


class _Follower:
    """Shows a stream on standard output, to its end. A daemon that is away for a moment is followed further."""

    def __init__(self, session: Session, command: str, params: dict[str, Any]) -> None:
        self._session = session
        self._command = command
        self._params = params
        self._colour = wants_colour()
        self._last_ts = ""
        self._begun = False
        self._lost_at: float | None = None

    def run(self, *, endless: bool = True) -> None:
        """Show it, until its end or Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            while not self._shown(may_come_back=endless):
                time.sleep(_RETRY_S)
            if endless:
                print_note("soniqd has stopped")

    def _shown(self, *, may_come_back: bool) -> bool:
        """Return whether the stream has ended; if not, the daemon broke it off."""
        try:
            for entries in self._session.daemon().follow(self._command, self._params, output=_descriptor()):
                self._show(entries)
        except DaemonUnreachableError:
            if not (may_come_back and self._begun and self._patient()):
                raise
            self._params = {**self._params, "last": None, "after": self._last_ts}
            return False
        return True

    def _show(self, entries: Iterable[dict[str, Any]]) -> None:
        if self._lost_at is not None:
            self._lost_at = None
            print_note("soniqd is back")
        self._begun = True
        if text := "".join(map(self._rendered, entries)):
            click.echo(text, nl=False)

    def _rendered(self, entry: dict[str, Any]) -> str:
        self._last_ts = max(self._last_ts, str(entry.get("ts", "")))
        return json.dumps(entry) + "\n" if self._session.as_json else render(entry, colour=self._colour)

    def _patient(self) -> bool:
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            print_note("soniqd is gone: waiting for it")
        return time.monotonic() - self._lost_at < _PATIENCE_S


def _descriptor() -> int | None:
    """Where standard output goes, if it is a file."""
    try:
        return sys.stdout.fileno()
    except io.UnsupportedOperation:
        return None
