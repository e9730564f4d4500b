"""A PostgreSQL server as production has it, with fsync on, and databases that are made once and copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.postgres import PostgresServer

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "min_wal_size": "1GB",
    "max_connections": "400",
}
_WARM_UP = (
    "CREATE TABLE warm_up AS SELECT repeat('x', 1000) FROM generate_series(1, 200000)",
    "DROP TABLE warm_up",
    "CHECKPOINT",
)
"""A new server writes each segment of its log into a new file, which is slow; from now on it has files to use again."""


class BenchServer:
    """Owns the server; a database is named by its URL."""

    def __init__(self) -> None:
        self._server = PostgresServer()
        self._server.start()
        for name, value in SETTINGS.items():
            self._server.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self._server.restart()
        for statement in _WARM_UP:
            self._server.execute(statement)
        self._templates: dict[object, str] = {}

    @property
    def folder(self) -> Path:
        """A folder that is gone when the server is."""
        return self._server.folder

    @property
    def version(self) -> str:
        return str(self._server.execute("SHOW server_version")[0][0])

    def new_database(self) -> str:
        return self._server.url(self._server.create_database())

    def template_for(self, key: object) -> str | None:
        """Return the database that was kept for this key, if one was."""
        return self._templates.get(key)

    def keep_template(self, key: object, url: str) -> None:
        """Keep a database, which nobody may be connected to, to be copied from now on."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        self._templates[key] = url

    @contextmanager
    def copy_of(self, template: str) -> Iterator[str]:
        """Lend a copy of a database, on disk as if it had been there for long."""
        url = self._server.url(self._server.create_database(template=_name(template)))
        self._server.execute("CHECKPOINT")
        try:
            yield url
        finally:
            self._server.drop_database(_name(url))

    def log_statements(self, url: str) -> None:
        """From its next session on, each statement of a database counts."""
        self._server.execute(f"ALTER DATABASE {_name(url)} SET log_statement = 'all'")

    def logged_statements(self) -> int:
        """Return how many statements were logged."""
        return sum(map(self._server.log_text().count, ("LOG:  execute ", "LOG:  statement: ")))

    def close(self) -> None:
        self._server.close()


def _name(url: str) -> str:
    return url.rpartition("/")[2]
