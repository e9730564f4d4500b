"""From a URL to the backend that it names; only that backend's modules are imported."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from soniqd.backends.protocol import StorageBackend
from soniqd.errors import ConfigurationError
from soniqd.log.redact import redact

_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")


def create_backend(
    url: str,
    *,
    pool_min_size: int = 1,
    pool_max_size: int = 20,
    connect_timeout_s: float = 5.0,
    statement_timeout_s: float = 30.0,
) -> StorageBackend:
    """Make the backend of ``postgresql://``, ``sqlite:///PATH``, a path that ends in .db, or ``memory://``.

    Nothing is connected yet. Sizes and timeouts are for backends that have connections. Raises ConfigurationError.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme in ("postgresql", "postgres"):
        from soniqd.backends.postgres import PostgresBackend  # noqa: PLC0415 (only what is used is loaded)

        return PostgresBackend(
            url,
            pool_min_size=pool_min_size,
            pool_max_size=pool_max_size,
            connect_timeout_s=connect_timeout_s,
            statement_timeout_s=statement_timeout_s,
        )
    if scheme == "sqlite" or (not scheme and url.endswith(_SQLITE_SUFFIXES)):
        from soniqd.backends.sqlite import SQLiteBackend  # noqa: PLC0415 (only what is used is loaded)

        return SQLiteBackend(_sqlite_path(url) if scheme else Path(url), busy_timeout_s=statement_timeout_s)
    if scheme == "memory":
        from soniqd.backends.memory import MemoryBackend  # noqa: PLC0415 (only what is used is loaded)

        return MemoryBackend()
    raise ConfigurationError(
        f'cannot use the database url {redact(url)!r}: expected "postgresql://...", "sqlite:///PATH", '
        'a path that ends in .db, .sqlite or .sqlite3, or "memory://"'
    )


def _sqlite_path(url: str) -> Path:
    """Three slashes and a relative path, or four and an absolute one."""
    rest = url.partition("://")[2]
    path = unquote(rest.partition("?")[0])
    if not path.startswith("/") or path == "/":
        raise ConfigurationError(
            f'cannot use the database url {redact(url)!r}: expected "sqlite:///relative.db" or "sqlite:////absolute.db"'
        )
    return Path(path[1:])
