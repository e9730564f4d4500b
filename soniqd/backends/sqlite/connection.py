"""Opening the file: settings of a connection, and the schema of a new one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from soniqd.backends.sqlite.failures import is_locked
from soniqd.backends.sqlite.statements import migrations
from soniqd.backends.values import MigrationStatus
from soniqd.errors import DatabaseError, SchemaError

OLDEST_SQLITE = (3, 33, 0)
"""What the statements need: UPDATE FROM (3.33) and the JSON functions, which every distribution builds in."""

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    # Checkpoints copy pages back to the file: rarer than every 4 MB (the default) while a backlog is drained.
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16000",
)

_MIGRATIONS_TABLE = "CREATE TABLE IF NOT EXISTS soniq_migrations (version TEXT PRIMARY KEY, applied_at REAL NOT NULL)"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A connection, and which file it has open: the path may name another one later."""

    connection: sqlite3.Connection
    inode: tuple[int, int]

    def is_at(self, path: Path) -> bool:
        """Whether the path still names this file."""
        return _inode(path) == self.inode

    def close(self) -> None:
        self.connection.close()


def open_file(path: Path, *, busy_timeout_s: float, clock: Callable[[], float], writes: bool) -> OpenFile:
    """Connect, in the thread that will use it. A writer gives a new file its tables.

    The writer fails at once on a locked database, since it has its own way of waiting; a reader waits in SQLite.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseError(f"cannot use SQLite {sqlite3.sqlite_version}: version {oldest} or newer is needed")
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=busy_timeout_s, check_same_thread=False, cached_statements=256
    )
    try:
        _prepare(connection, busy_timeout_s=busy_timeout_s, clock=clock, writes=writes)
        return OpenFile(connection, _inode(path))
    except BaseException:
        connection.close()
        raise


def _prepare(
    connection: sqlite3.Connection, *, busy_timeout_s: float, clock: Callable[[], float], writes: bool
) -> None:
    _patiently(lambda: [connection.execute(pragma) for pragma in _PRAGMAS], busy_timeout_s)
    if not writes:
        connection.execute("PRAGMA query_only = ON")
        return
    if _is_empty(connection):
        _create_tables(connection, now=clock())
    connection.execute("PRAGMA busy_timeout = 0")


def _patiently(work: Callable[[], object], busy_timeout_s: float) -> None:
    """Repeat while locked: switching a new file to WAL does not wait for another who does the same."""
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            work()
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _create_tables(connection: sqlite3.Connection, *, now: float) -> None:
    """Fill a new file; of two who find it empty, the second finds nothing pending."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        migrate(connection, now=now)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def _inode(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def migrate(connection: sqlite3.Connection, *, now: float) -> MigrationStatus:
    """Apply what is pending, in the caller's transaction; in the answer ``pending`` are those applied now."""
    connection.execute(_MIGRATIONS_TABLE)
    before = migration_status(connection)
    for version in before.pending:
        for statement in migrations()[version]:
            connection.execute(statement)
        connection.execute("INSERT INTO soniq_migrations VALUES (?, ?)", (version, now))
    return MigrationStatus(applied=before.applied + before.pending, pending=before.pending, foreign=before.foreign)


def migration_status(connection: sqlite3.Connection) -> MigrationStatus:
    """Compare the file with this release."""
    exists = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'soniq_migrations'").fetchone()
    stored = [row[0] for row in connection.execute("SELECT version FROM soniq_migrations ORDER BY 1")] if exists else []
    known = migrations()
    return MigrationStatus(
        applied=tuple(version for version in stored if version in known),
        pending=tuple(version for version in known if version not in stored),
        foreign=tuple(version for version in stored if version not in known),
    )


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that this release cannot use."""
    status = migration_status(connection)
    if status.pending:
        what = "has no soniq tables" if not status.applied else f"lacks the migrations {', '.join(status.pending)}"
        raise SchemaError(f"cannot use the SQLite database {path}: it {what}; run 'soniqctl setup'")
    if status.foreign:
        unknown = ", ".join(status.foreign)
        raise SchemaError(f"cannot use the SQLite database {path}: it is newer than this soniqd (it has {unknown})")
