"""What SQLite's errors mean to a caller."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from soniqd.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError, SchemaError, SoniqError

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

_TRY_LATER = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "reading or writing the file failed",
    sqlite3.SQLITE_READONLY: "the file, its folder or its disk is read-only",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_PROTOCOL: "its locks cannot be taken",
    sqlite3.SQLITE_PERM: "permission denied",
    sqlite3.SQLITE_AUTH: "permission denied",
    sqlite3.SQLITE_INTERRUPT: "the statement was interrupted",
}

_DAMAGED = {
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database",
}


def is_locked(error: BaseException) -> bool:
    """Whether another process or thread holds the lock, so that the same work can succeed in a moment."""
    return isinstance(error, sqlite3.Error) and _code(error) in _LOCKED


def is_full(error: BaseException) -> bool:
    """Whether there was no room on the disk."""
    return isinstance(error, sqlite3.Error) and _code(error) == sqlite3.SQLITE_FULL


def is_about_the_file(error: BaseException) -> bool:
    """Whether the connection should not be used again."""
    return isinstance(error, sqlite3.Error) and _code(error) in (*_TRY_LATER, *_DAMAGED, sqlite3.SQLITE_CANTOPEN)


def translated(error: Exception, path: Path) -> SoniqError:
    """Say it as an error of soniqd: unavailable where trying again later can succeed."""
    if isinstance(error, SoniqError):
        return error
    cannot_use = f"cannot use the SQLite database {path}"
    if not isinstance(error, sqlite3.Error):
        return DatabaseError(f"{cannot_use}: {type(error).__name__}: {error}")
    return _by_code(error, cannot_use, path)


def _by_code(error: sqlite3.Error, cannot_use: str, path: Path) -> SoniqError:
    code = _code(error)
    if code in _LOCKED:
        return DatabaseUnavailableError(f"{cannot_use}: another process keeps it locked")
    if code == sqlite3.SQLITE_CANTOPEN:
        return DatabaseRefusedError(f"cannot open the SQLite database {path}: {_why_not_open(path)}")
    if code in _TRY_LATER:
        return DatabaseUnavailableError(f"{cannot_use}: {_TRY_LATER[code]} ({error})")
    if code in _DAMAGED:
        return DatabaseError(f"{cannot_use}: {_DAMAGED[code]} ({error})")
    if "no such table" in str(error) or "no such column" in str(error):
        return SchemaError(f"{cannot_use}: {error}; run 'soniqctl setup'")
    return DatabaseError(f"{cannot_use}: {error}")


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code; an error of the sqlite3 module itself has none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _why_not_open(path: Path) -> str:
    # The file itself must not be opened to find out: closing it would drop SQLite's own locks (fcntl(2)).
    folder = path.parent
    if not folder.exists():
        return f"the folder {folder} does not exist"
    if path.is_dir():
        return "it is a folder"
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return "permission denied"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} is not writable"
    return "SQLite cannot open it"
