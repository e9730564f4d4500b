"""One run of soniqctl: the options before the command, and what they lead to."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from soniqd.cli.render import print_note
from soniqd.control.client import ControlClient
from soniqd.control.surroundings import start_command
from soniqd.errors import ConfigurationError, DatabaseError
from soniqd.log.redact import redact

if TYPE_CHECKING:
    from soniqd.backends import StorageBackend
    from soniqd.settings import Configuration, DaemonSettings

T = TypeVar("T")

_POOL_SIZE = 2
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class Database:
    """Where jobs are, and the settings that commands about them need.

    ``origin`` tells people who named the url, when it does not work; empty if they did it themselves.
    """

    url: str
    origin: str
    connect_timeout_s: float
    statement_timeout_s: float
    max_retries: int
    max_crashes: int
    heartbeat_timeout_s: float


class Session:
    """Options of soniqctl, and lazily: settings, the daemon, the database."""

    def __init__(
        self, *, config: Path | None, socket: Path | None, database_url: str | None, as_json: bool = False
    ) -> None:
        self._config = config
        self._socket = socket
        self._database_url = database_url
        self.as_json = as_json

    @property
    def config_path(self) -> Path | None:
        """The soniq.toml to use: the one that was named; the default one if it can be read; else none."""
        from soniqd.settings import DEFAULT_PATH  # noqa: PLC0415  keeps --help fast

        if self._config is not None:
            return self._config.absolute()
        return DEFAULT_PATH if os.access(DEFAULT_PATH, os.R_OK) else None

    @cached_property
    def configuration(self) -> Configuration:
        """The daemon's configuration as soniqctl sees it; raises ConfigurationError."""
        return self._load({})

    @property
    def socket_named(self) -> bool:
        """Whether somebody said on the command line where the daemon is."""
        return self._socket is not None

    @property
    def settings(self) -> DaemonSettings:
        """The daemon's settings; raises ConfigurationError."""
        return self.configuration.settings

    def unsupervised(self, overrides: dict[str, Any]) -> DaemonSettings:
        """Return settings for a process without a daemon: without a soniq.toml the database is the library's."""
        if self.config_path is None:
            overrides = {"database.url": self.database.url, **overrides}
        return self._load(overrides).settings

    def _load(self, overrides: dict[str, Any]) -> Configuration:
        from soniqd.settings import load_configuration  # noqa: PLC0415  keeps --help fast

        given = {
            "database.url": None if self._database_url is None else _absolute(self._database_url),
            "soniqd.socket": None if self._socket is None else str(self._socket.absolute()),
            **overrides,
        }
        said = {key: value for key, value in given.items() if value is not None}
        return load_configuration(self.config_path, environ=os.environ, overrides=said)

    def daemon(self) -> ControlClient:
        """Return a client of the daemon; a broken configuration does not keep anybody from asking it."""
        return ControlClient(self._socket_path())

    def _socket_path(self) -> Path:
        if self._socket is not None:
            return self._socket
        try:
            return self.settings.soniqd.socket
        except ConfigurationError as error:
            path = self.config_path
            if path is None or (self._config is not None and not os.access(path, os.R_OK)):
                raise
            print_note(f"warning: {error.args[0].split(': ', 1)[0]}: see soniqctl config check")
            return _socket_of(path)

    @cached_property
    def start_command(self) -> str:
        """What starts the daemon that this soniqctl asks, for people."""
        try:
            socket = self._socket or self.settings.soniqd.socket
        except ConfigurationError:
            socket = Path()
        return start_command(socket, self.config_path)

    @cached_property
    def database(self) -> Database:
        """The database: of the configuration if there is one, else of the library's settings."""
        return self._database_of_daemon() if self.config_path else self._database_of_library()

    def _database_of_daemon(self) -> Database:
        settings = self.settings
        return Database(
            url=settings.database.url,
            origin=f"the url is of {self.configuration.origins.get('database.url', 'the defaults')}",
            connect_timeout_s=settings.database.connect_timeout,
            statement_timeout_s=settings.database.statement_timeout,
            max_retries=settings.jobs.max_retries,
            max_crashes=settings.jobs.max_crashes,
            heartbeat_timeout_s=settings.sweep.heartbeat_timeout,
        )

    def _database_of_library(self) -> Database:
        from soniqd.settings import DatabaseTable, load_library_settings  # noqa: PLC0415  keeps --help fast
        from soniqd.settings.library import DEFAULT_DATABASE_URL  # noqa: PLC0415

        settings = load_library_settings(database_url=self._database_url)
        timeouts = DatabaseTable()
        return Database(
            url=settings.database_url,
            origin=_default_because() if settings.database_url == DEFAULT_DATABASE_URL else "",
            connect_timeout_s=timeouts.connect_timeout,
            statement_timeout_s=timeouts.statement_timeout,
            max_retries=settings.max_retries,
            max_crashes=settings.max_crashes,
            heartbeat_timeout_s=settings.heartbeat_timeout,
        )

    def with_backend(
        self, action: Callable[[StorageBackend], Awaitable[T]], *, migrated: bool = True, must_exist: bool = True
    ) -> T:
        """Run an action on the database; ``migrated`` opens it first and checks its schema."""
        return asyncio.run(self._with_backend(action, migrated=migrated, must_exist=must_exist))

    async def _with_backend(
        self, action: Callable[[StorageBackend], Awaitable[T]], *, migrated: bool, must_exist: bool
    ) -> T:
        from soniqd.backends.factory import create_backend  # noqa: PLC0415  keeps --help fast

        database = self.database
        _refuse_useless(database.url, must_exist=must_exist)
        backend = create_backend(
            database.url,
            pool_max_size=_POOL_SIZE,
            connect_timeout_s=database.connect_timeout_s,
            statement_timeout_s=database.statement_timeout_s,
        )
        try:
            if migrated:
                await backend.open()
                await backend.check_schema()
            return await action(backend)
        except DatabaseError as error:
            if database.origin:
                error.args = (f"{error.args[0]} ({database.origin})", *error.args[1:])
            raise
        finally:
            await backend.close()


def _absolute(url: str) -> str:
    """An SQLite file on the command line is relative to where the command is given."""
    from soniqd.settings.paths import absolute_url  # noqa: PLC0415  keeps --help fast

    return absolute_url(url, base=Path())


def _default_because() -> str:
    from soniqd.settings import DEFAULT_PATH  # noqa: PLC0415  keeps --help fast

    reason = f"{DEFAULT_PATH} cannot be read" if DEFAULT_PATH.exists() else f"there is no {DEFAULT_PATH}"
    return f"the url is the default, since {reason}; -c FILE, --database-url or SONIQ_DATABASE_URL name another"


def _refuse_useless(url: str, *, must_exist: bool) -> None:
    if url.startswith("memory:") or ":memory:" in url:
        raise ConfigurationError(f"cannot use {redact(url)}: what is in memory is gone with soniqctl itself")
    path = url.removeprefix(_SQLITE)
    if must_exist and not url.startswith("postgres") and "://" not in path and not Path(path).exists():
        raise DatabaseError(f"cannot open {redact(url)}: there is no such file; soniqctl setup makes it")


def _socket_of(path: Path) -> Path:
    """Find the socket in a configuration that has problems elsewhere."""
    from soniqd.settings import SoniqdTable  # noqa: PLC0415  keeps --help fast

    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        socket = values["soniqd"]["socket"]
        return path.parent / str(socket)
    except (OSError, ValueError, KeyError, TypeError):
        return SoniqdTable().socket
