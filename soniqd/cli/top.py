"""``soniqctl top``: what the daemon's processes do and use, again and again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from soniqd.cli.options import DURATION, json_option
from soniqd.cli.render import on_terminal, print_json, print_line, print_table
from soniqd.cli.session import Session
from soniqd.cli.wording import duration, printable, size
from soniqd.errors import ControlError, DaemonUnreachableError

if TYPE_CHECKING:
    from rich.console import RenderableType

Row = dict[str, Any]
_HEADERS = ("slot", "pid", "state", "cpu %", "memory", "running", "jobs/s", "done", "failed", "longest running job")
_LEAST_INTERVAL_S = 0.1


@click.command()
@click.option("--interval", type=DURATION, default=1.0, help="Between two looks, which rates are over; default: 1s.")
@json_option
@click.pass_obj
def top(session: Session, *, interval: float) -> None:
    """Show processor time, memory, jobs a second and the longest running job of each process, until Ctrl-C.

    Memory is what a process shares with no other one. Where no terminal is there to draw on, and with --json, it looks
    twice, shows what was between, and ends.
    """
    interval_s = max(interval, _LEAST_INTERVAL_S)
    if session.as_json or not on_terminal():
        first = _look(session)
        time.sleep(interval_s)
        answer = between(first, _look(session))
        print_json(answer) if session.as_json else _print(answer)
        return
    with contextlib.suppress(KeyboardInterrupt):
        _show_live(session, interval_s)


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Turn two looks' counters into the rates between them; who was not there before has none yet."""
    try:
        passed_s = max(after["at_s"] - before["at_s"], 1e-3)
        earlier = {row["pid"]: row for row in (*before["processes"], *before["children"])}
        children = [_rated(row, earlier.get(row["pid"]), passed_s) for row in after["children"]]
        return {
            "state": after["state"],
            "database": after["database"],
            "interval_s": round(passed_s, 3),
            "jobs_per_s": round(sum(row["jobs_per_s"] or 0.0 for row in children), 2),
            "in_flight": sum(row["in_flight"] for row in children),
            "processes": [_rated(row, earlier.get(row["pid"]), passed_s) for row in after["processes"]],
            "children": children,
        }
    except (KeyError, TypeError) as error:
        raise ControlError(f"cannot read the daemon's answer: {error!r}: is soniqctl of the same version?") from error


def _rated(row: Row, earlier: Row | None, passed_s: float) -> Row:
    if earlier is None:
        earlier = {}
    rates = {"cpu_percent": _rate(row, earlier, passed_s, "cpu_s", factor=100.0, digits=1)}
    if "done" in row:
        rates["jobs_per_s"] = _rate(row, earlier, passed_s, "done", "failed", factor=1.0, digits=2)
    return {**row, **rates}


def _rate(row: Row, earlier: Row, passed_s: float, *counters: str, factor: float, digits: int) -> float | None:
    if any(row.get(counter) is None or earlier.get(counter) is None for counter in counters):
        return None
    grown: float = sum(row[counter] - earlier[counter] for counter in counters)
    return round(max(0.0, factor * grown / passed_s), digits)


def _look(session: Session) -> dict[str, Any]:
    return session.daemon().call("top")


def _print(answer: Mapping[str, Any]) -> None:
    print_line(_headline(answer))
    print_line("")
    print_table(_HEADERS, _cells(answer), empty="no processes")


def _headline(answer: Mapping[str, Any]) -> str:
    return (
        f"soniqd {answer['state']}, database {answer['database']}: {answer['in_flight']} running, "
        f"{answer['jobs_per_s']:g} jobs/s"
    )


def _cells(answer: Mapping[str, Any]) -> list[tuple[object, ...]]:
    nothing = (None, None, None, None, None)
    own = [
        (row["name"], row["pid"], None, row["cpu_percent"], size(row["memory_bytes"]), *nothing)
        for row in answer["processes"]
    ]
    return [*own, *(_child_cells(row) for row in answer["children"])]


def _child_cells(row: Row) -> tuple[object, ...]:
    used = (row["slot"], row["pid"], row["state"], row["cpu_percent"], size(row["memory_bytes"]))
    if row["role"] != "worker":
        return (*used, None, None, None, None, None)
    running = f"{row['in_flight']}/{row['concurrency']}"
    return (*used, running, row["jobs_per_s"], row["done"], row["failed"], _oldest(row["oldest_job"]))


def _oldest(job: Row | None) -> str | None:
    return None if job is None else f"{duration(job['ran_s'])} {job['job_name'] or ''} {job['id']}".replace("  ", " ")


def _show_live(session: Session, interval_s: float) -> None:
    from rich.console import Console  # noqa: PLC0415  on terminals only
    from rich.live import Live  # noqa: PLC0415

    before: dict[str, Any] | None = None
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            try:
                after = _look(session)
            except DaemonUnreachableError as error:
                before = None
                live.update(_text(str(error), "bold red"), refresh=True)
            else:
                live.update(_screen(between(before or {**after, "processes": [], "children": []}, after)), refresh=True)
                before = after
            time.sleep(interval_s)


def _screen(answer: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415  on terminals only
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = {"pid", "cpu %", "memory", "running", "jobs/s", "done", "failed"}
    for header in _HEADERS:
        right = header in numbers
        table.add_column(header.upper(), justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    for cells in _cells(answer):
        table.add_row(*_texts(cells))
    return Group(_text(_headline(answer), "bold"), _text("", ""), table)


def _texts(cells: Sequence[object]) -> list[Any]:
    return [_text(printable(cell), "") for cell in cells]


def _text(text: str, style: str) -> Any:
    from rich.text import Text  # noqa: PLC0415  on terminals only

    return Text(printable(text), style=style)
