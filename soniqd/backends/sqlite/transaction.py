"""One write transaction, as the functions that fill it see it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from soniqd.backends.sqlite.statements import statements, with_rows

_MOST_ROWS = 2560
"""Half a chunk of a bulk; SQLite takes 32766 parameters in one statement (sqlite.org/limits.html)."""


class Transaction:
    """Runs named statements, and collects what to tell the subscribers after the commit."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self.queues: set[str] = set()
        self.next_due: float | None = None

    def run(self, name: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        return self.connection.execute(statements()[name], parameters)

    def value(self, name: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """Return the first column of the first row, or None."""
        row = self.run(name, parameters).fetchone()
        return None if row is None else row[0]

    def array(self, name: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """Return what a statement gives as one JSON value."""
        return json.loads(self.value(name, parameters))

    def run_rows(self, name: str, rows: Sequence[tuple[Any, ...]], common: Sequence[Any] = ()) -> int:
        """Run a statement with ``{rows}`` over all rows in as few steps as can be; return how many it changed.

        ``common`` are the parameters before those of the rows. What rows are missing to one of a few sizes, so that
        few different statements have to be prepared, are rows of NULL: statements must pass over them.
        """
        if not rows:
            return 0
        changed, width = 0, len(rows[0])
        for start in range(0, len(rows), _MOST_ROWS):
            chunk = rows[start : start + _MOST_ROWS]
            size = room_for(len(chunk))
            values = [*common, *chain.from_iterable(chunk), *repeat(None, (size - len(chunk)) * width)]
            changed += self.connection.execute(with_rows(name, rows=size, width=width), values).rowcount
        return changed

    def wake(self, queue: str) -> None:
        """Tell after the commit that a queue has work."""
        self.queues.add(queue)

    def wake_later(self, due_at: float) -> None:
        """Tell after the commit that a job was stored for later."""
        self.next_due = due_at if self.next_due is None else min(self.next_due, due_at)


def room_for(count: int) -> int:
    """Round up to a number with three significant bits: 1 to 8, 10, 12, 14, 16, 20 ..."""
    step = 1 << max(0, count.bit_length() - 3)
    return -(-count // step) * step


def as_json(values: object) -> str:
    """Write a list for json_each."""
    return json.dumps(values, separators=(",", ":"))
