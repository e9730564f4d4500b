"""The log of a daemon under test: a file of JSON lines that tests wait on."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

LogRecord = dict[str, Any]

_PAUSE_S = 0.005


class DaemonLog:
    """Reads what the daemon and its children write to stderr, as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[LogRecord] = []
        self.other_lines: list[str] = []
        self._offset = 0
        path.touch()

    def mark(self) -> int:
        """Name the present, for ``wait_for(..., since=)``."""
        self._read()
        return len(self.records)

    def find(self, event: str, *, since: int = 0, **fields: Any) -> list[LogRecord]:
        """Every record of an event with these fields, so far."""
        self._read()
        return [record for record in self.records[since:] if _matches(record, event, fields)]

    async def wait_for(self, event: str, *, since: int = 0, timeout_s: float = 15, **fields: Any) -> LogRecord:
        """Return the first record of an event with these fields, now or later."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.find(event, since=since, **fields)):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {event} {fields or ''} within {timeout_s:g} s; the log ends:\n{self.tail()}")
            await asyncio.sleep(_PAUSE_S)
        return found[0]

    def tail(self, lines: int = 60) -> str:
        """Return the last lines, for a failure's message."""
        return "\n".join(self.path.read_text(errors="replace").splitlines()[-lines:])

    def _read(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        for line in data[:complete].decode(errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict) and "event" in record:
                self.records.append(record)
            else:
                self.other_lines.append(line)


def _matches(record: LogRecord, event: str, fields: dict[str, Any]) -> bool:
    return record["event"] == event and all(record.get(key) == value for key, value in fields.items())
