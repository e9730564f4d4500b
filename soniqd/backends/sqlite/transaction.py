"""One write transaction, as the functions that fill it see it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from soniqd.backends.sqlite.statements import statements, with_rows

_LARGEST_CHUNK = 2048
"""SQLite takes 32766 parameters in one statement (sqlite.org/limits.html): rows have up to nine each."""


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
        """Run a statement with ``{rows}`` over all rows in few steps; return how many it changed.

        ``common`` are the parameters before those of the rows.
        Chunks have the sizes 2048, 1024, ... 1, so that few different statements have to be prepared.
        """
        changed, start, size = 0, 0, _LARGEST_CHUNK
        while start < len(rows):
            while size > len(rows) - start:
                size //= 2
            chunk = rows[start : start + size]
            values = [*common, *chain.from_iterable(chunk)]
            changed += self.connection.execute(with_rows(name, rows=size, width=len(rows[0])), values).rowcount
            start += size
        return changed

    def wake(self, queue: str) -> None:
        """Tell after the commit that a queue has work."""
        self.queues.add(queue)

    def wake_later(self, due_at: float) -> None:
        """Tell after the commit that a job was stored for later."""
        self.next_due = due_at if self.next_due is None else min(self.next_due, due_at)


def as_json(values: object) -> str:
    """Write a list for json_each."""
    return json.dumps(values, separators=(",", ":"))
