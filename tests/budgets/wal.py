"""What statements write, read from the write-ahead log: heap and index records, and their bytes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.postgres import PostgresServer

# "Heap/INSERT+INIT   20 (  1.05)   3180 (  1.13)   0 (  0.00)   3180 (  1.05)": number, bytes, images of pages, both.
_RECORD = re.compile(r"^(\w+)/(\w+)(?:\+\w+)? +(\d+) \([^)]*\) +(\d+) \([^)]*\) +(\d+)", re.MULTILINE)

_ROWS = {"INSERT", "UPDATE", "HOT_UPDATE", "DELETE"}
_ENTRIES = {"INSERT_LEAF", "INSERT_POST", "SPLIT_L", "SPLIT_R"}


@dataclass(slots=True)
class Written:
    """What one stretch of the log holds; without the images of whole pages, which depend on checkpoints."""

    records: dict[str, int] = field(default_factory=dict)
    bytes: int = 0

    @property
    def rows(self) -> int:
        """Versions of rows written or deleted, but for those that COPY writes many of at a time."""
        return sum(self.records.get(f"Heap/{kind}", 0) for kind in _ROWS)

    @property
    def locks(self) -> int:
        return self.records.get("Heap/LOCK", 0)

    @property
    def index_entries(self) -> int:
        return sum(self.records.get(f"Btree/{kind}", 0) for kind in _ENTRIES)

    @property
    def commits(self) -> int:
        return self.records.get("Transaction/COMMIT", 0)


@contextmanager
def writing(server: PostgresServer) -> Iterator[Written]:
    """Fill the value in at the end of the block; nobody else may write meanwhile."""
    written = Written()
    start = _position(server)
    yield written
    text = subprocess.run(
        [
            *(str(server.binaries / "pg_waldump"), "--stats=record"),
            *("--path", str(server.folder / "data" / "pg_wal"), "--start", start, "--end", _position(server)),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for manager, kind, count, size, _ in _RECORD.findall(text):
        if manager in ("Heap", "Heap2", "Btree", "Transaction"):
            name = f"{manager}/{kind}"
            written.records[name] = written.records.get(name, 0) + int(count)
            written.bytes += int(size)


def _position(server: PostgresServer) -> str:
    [(position,)] = server.execute("SELECT pg_current_wal_flush_lsn()::text")
    return str(position)
