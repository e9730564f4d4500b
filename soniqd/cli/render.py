"""Print answers: JSON for programs, tables for terminals, aligned plain text for everything else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from itertools import chain, repeat
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
    "open": "good",
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
    if on_terminal():
        _console().print(_styled(text, tone), soft_wrap=True)
    else:
        click.echo(printable(text))


def print_note(text: str) -> None:
    """Print a remark that is not part of the answer, on stderr."""
    click.echo(printable(text), err=True)


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print labelled values; further lines of a value are indented below its first, so that none looks like a label."""
    width = max((len(label) for label, _ in fields), default=0)
    for label, value in fields:
        lines = ["-"] if value is None else [printable(line) for line in str(value).split("\n")]
        for head, line in zip(chain([label], repeat("")), lines, strict=False):
            if on_terminal():
                shown = (_styled(f"{head:<{width}}  ", "quiet"), _styled(line, _TONES.get(line, "plain")))
                _console().print(*shown, sep="", soft_wrap=True)
            else:
                click.echo(f"{head:<{width}}  {line}".rstrip())


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows under their headers, or what to say when there are none. Numbers are aligned to the right."""
    if not rows:
        print_line(empty)
        return
    numeric = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(headers))]
    cells = [[printable(value) for value in row] for row in rows]
    lines = [[header.upper() for header in headers], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    padded = [
        [
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, numeric, strict=True)
        ]
        for line in lines
    ]
    if on_terminal():
        _print_styled(padded)
    else:
        for line in padded:
            click.echo("  ".join(line).rstrip())


def _print_styled(lines: Sequence[Sequence[str]]) -> None:
    """Print padded cells with their tones: one line for each row, however narrow the terminal is."""
    from rich.text import Text  # noqa: PLC0415  on terminals only

    console = _console()
    for position, line in enumerate(lines):
        tones = ["strong" if position == 0 else _TONES.get(text.strip(), "plain") for text in line]
        text = Text("  ").join(_styled(text, tone) for text, tone in zip(line, tones, strict=True))
        text.rstrip()
        console.print(text, soft_wrap=True)


def on_terminal() -> bool:
    """Whether there is a terminal to draw on."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415  on terminals only

    return Console(highlight=False)  # it honours NO_COLOR by itself


def _styled(text: str, tone: Tone) -> Any:
    from rich.text import Text  # noqa: PLC0415  on terminals only

    return Text(printable(text), style=_STYLES[tone])
