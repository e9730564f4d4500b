"""Looking at the health of the file, without changing anything: not its journal mode either.

So it does not use the backend's threads, whose connections would put the file in order first.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

from soniqd.backends.sqlite.connection import migration_status
from soniqd.backends.sqlite.statements import migrations
from soniqd.errors import DatabaseError
from soniqd.model.checkup import Checkup, FileState, IndexState, MissingIndex, TableState

CHECK_TIMEOUT_S = 20.0
"""How long the integrity check may read; of a file of many gigabytes it does not come to an end."""

_STEPS = 10_000
_MOST_PROBLEMS = 10
_COUNTED = 10_000
_NETWORK = re.compile(r"^(nfs|cifs|smb|9p$|ceph|glusterfs|lustre|afs|fuse\.(sshfs|s3fs|glusterfs|ceph|rclone|davfs))")
_CREATE = re.compile(r"^CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?(\w+)\s+ON (\w+)", re.MULTILINE)
_DROP = re.compile(r"^DROP INDEX (?:IF EXISTS )?(\w+)", re.MULTILINE)
_OCTAL = re.compile(r"\\([0-7]{3})")


def look(path: Path, *, wakes: bool, busy_timeout_s: float) -> Checkup:
    """Collect the facts, in any thread; ``wakes``: a subscription to this file hears."""
    began = time.monotonic()
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, timeout=busy_timeout_s, isolation_level=None
        )
        try:
            round_trip_s = time.monotonic() - began
            return _look(connection, path, wakes=wakes, round_trip_s=round_trip_s)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DatabaseError(f"cannot look at the SQLite database {path}: {error}") from error


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that a file is on, from the text of /proc/self/mountinfo (proc(5))."""
    best, kind = "", "unknown"
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) < 5 or not right:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = point == "/" or str(path) == point or str(path).startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def _look(db: sqlite3.Connection, path: Path, *, wakes: bool, round_trip_s: float) -> Checkup:
    status = migration_status(db)
    return Checkup(
        location=str(path),
        applied=status.applied,
        pending=status.pending,
        foreign=status.foreign,
        tables=tuple(_tables(db)),
        indexes=tuple(_indexes(db)),
        missing=_missing(db, status.applied),
        round_trip_s=round_trip_s,
        file=_file(db, path, wakes=wakes),
    )


def _file(db: sqlite3.Connection, path: Path, *, wakes: bool) -> FileState:
    real = path.resolve()
    kind = file_system_of(real, _mounts())
    page_size = _pragma(db, "page_size")
    wal = real.with_name(real.name + "-wal")
    return FileState(
        journal_mode=str(db.execute("PRAGMA journal_mode").fetchone()[0]),
        bytes=real.stat().st_size,
        wal_bytes=wal.stat().st_size if wal.exists() else 0,
        free_bytes=_pragma(db, "freelist_count") * page_size,
        disk_free_bytes=shutil.disk_usage(real.parent).free,
        file_system=kind,
        on_network=_NETWORK.match(kind) is not None,
        wakes=wakes,
        corruption=_quick_check(db),
    )


def _quick_check(db: sqlite3.Connection) -> tuple[str, ...] | None:
    """Return what is wrong with the file's structure; None if that was not known in time."""
    deadline = time.monotonic() + CHECK_TIMEOUT_S
    db.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        found = [str(row[0]) for row in db.execute(f"PRAGMA quick_check({_MOST_PROBLEMS})")]
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            return None
        raise
    except sqlite3.DatabaseError as error:  # too broken to be read to its end
        return (str(error),)
    finally:
        db.set_progress_handler(None, 0)
    return () if found == ["ok"] else tuple(found)


def _tables(db: sqlite3.Connection) -> list[TableState]:
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return [_table(db, name) for name in names if name.startswith("soniq_")]


def _table(db: sqlite3.Connection, name: str) -> TableState:
    """Count up to a number: a file has no statistics that somebody keeps."""
    query = f'SELECT count(*) FROM (SELECT 1 FROM "{name}" LIMIT {_COUNTED})'  # noqa: S608  a name from the schema
    return TableState(name, rows=db.execute(query).fetchone()[0], dead_rows=0, bytes=0)


def _indexes(db: sqlite3.Connection) -> list[IndexState]:
    expected = _expected(migrations())
    found = db.execute(
        "SELECT name, tbl_name, sql FROM sqlite_master "
        "WHERE type = 'index' AND tbl_name LIKE 'soniq\\_%' ESCAPE '\\' ORDER BY tbl_name, name"
    )
    return [
        IndexState(
            name,
            table,
            bytes=0,
            unique=text is None or text.upper().startswith("CREATE UNIQUE"),
            ours=text is None or name in expected,
        )
        for name, table, text in found
    ]


def _missing(db: sqlite3.Connection, applied: tuple[str, ...]) -> tuple[MissingIndex, ...]:
    present = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    expected = _expected({stem: statements for stem, statements in migrations().items() if stem in applied})
    return tuple(index for name, index in sorted(expected.items()) if name not in present)


def _expected(known: dict[str, tuple[str, ...]]) -> dict[str, MissingIndex]:
    """Return the indexes that these migrations leave, each with the statement that makes it."""
    expected: dict[str, MissingIndex] = {}
    for statement in (statement for statements in known.values() for statement in statements):
        if made := _CREATE.search(statement):
            definition = " ".join(statement[made.start() :].split())
            expected[made[1]] = MissingIndex(made[1], made[2], f"{definition};")
        elif dropped := _DROP.search(statement):
            expected.pop(dropped[1], None)
    return expected


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
