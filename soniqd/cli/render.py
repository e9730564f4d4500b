"""Print answers: JSON for programs, tables for terminals, aligned plain text for everything else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from soniqd.cli.wording import printable

if TYPE_CHECKING:
    from rich.console import Console

Tone = Literal["plain", "good", "bad", "warn", "quiet", "strong"]

_STYLES: dict[Tone, str] = {
    "plain": "",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "quiet": "dim",
    "strong": "bold",
}
_TONES: dict[str, Tone] = {
    "running": "good",
    "leading": "good",
    "following": "good",
    "active": "good",
    "done": "good",
    "up": "good",
    "down": "bad",
    "dead_letter": "bad",
    "misconfigured": "bad",
    "hung": "bad",
    "stale": "bad",
    "paused": "warn",
    "yes": "warn",
    "draining": "warn",
    "stopping": "warn",
    "starting": "warn",
    "waiting": "warn",
    "waiting_for_database": "warn",
    "reloading": "warn",
    "cancelled": "quiet",
}


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(as_json(value), indent=2))


def as_json(value: Any) -> Any:
    """Turn values of the model into JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def print_line(text: str, *, tone: Tone = "plain") -> None:
    """Print one line."""
    if _on_terminal():
        _console().print(_styled(text, tone), soft_wrap=True)
    else:
        click.echo(printable(text))


def print_note(text: str) -> None:
    """Print a remark that is not part of the answer, on stderr."""
    click.echo(printable(text), err=True)


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print labelled values, one a line."""
    width = max((len(label) for label, _ in fields), default=0)
    for label, value in fields:
        text = printable(value)
        if _on_terminal():
            line = _styled(f"{label:<{width}}  ", "quiet")
            line.append_text(_styled(text, _TONES.get(text, "plain")))
            _console().print(line, soft_wrap=True)
        else:
            click.echo(f"{label:<{width}}  {text}".rstrip())


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under their headers, or what to say when there are none. Numbers are aligned to the right."""
    if not rows:
        print_line(empty)
        return
    numeric = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(headers))]
    cells = [[printable(value) for value in row] for row in rows]
    if _on_terminal():
        _print_rich(headers, cells, numeric)
    else:
        _print_plain(headers, cells, numeric)


def _print_plain(headers: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    lines = [[header.upper() for header in headers], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    for line in lines:
        aligned = (
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numeric, strict=True)
        )
        click.echo("  ".join(aligned).rstrip())


def _print_rich(headers: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    from rich import box  # noqa: PLC0415  on terminals only
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for header, number in zip(headers, numeric, strict=True):
        table.add_column(header, justify="right" if number else "left", overflow="fold")
    for row in cells:
        table.add_row(*(_styled(text, _TONES.get(text, "plain")) for text in row))
    _console().print(table)


def _on_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415  on terminals only

    return Console(highlight=False)  # it honours NO_COLOR by itself


def _styled(text: str, tone: Tone) -> Any:
    from rich.text import Text  # noqa: PLC0415  on terminals only

    return Text(printable(text), style=_STYLES[tone])
