"""Errors that a caller of soniqd can act on.

Every error derives from :class:`SoniqError`. Its message reads "cannot X: reason", names the value that was
refused, and never holds a database password. ``code`` is stable, for programs; ``context`` holds the data behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class SoniqError(Exception):
    """Root of every error that soniqd raises on purpose."""

    code = "SONIQ_ERROR"

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.context = context


class ConfigurationError(SoniqError):
    """The configuration cannot be used; ``problems`` lists every finding, not only the first."""

    code = "SONIQ_CONFIGURATION"

    def __init__(self, message: str, problems: tuple[str, ...] = (), **context: Any) -> None:
        super().__init__(message, **context)
        self.problems = problems


class JobsModuleError(ConfigurationError):
    """A jobs module cannot be imported, or what it holds cannot be bound to this daemon."""

    code = "SONIQ_JOBS_MODULE"


class PoolTooSmallError(ConfigurationError):
    """The connection pool cannot serve the configured concurrency."""

    code = "SONIQ_POOL_TOO_SMALL"


class InvalidArgumentsError(SoniqError):
    """Job arguments do not fit the handler, its model, or JSON."""

    code = "SONIQ_TASK_ARGS_INVALID"


class UnknownTaskError(SoniqError):
    """A task name is not registered where it has to be."""

    code = "SONIQ_UNKNOWN_TASK_NAME"


class InvalidTaskNameError(SoniqError):
    """A task name does not match the configured pattern."""

    code = "SONIQ_INVALID_TASK_NAME"


class UnsupportedByBackendError(SoniqError):
    """The storage backend does not have the capability that was asked for."""

    code = "SONIQ_UNSUPPORTED"


class ClosedError(SoniqError):
    """The object was closed before this call."""

    code = "SONIQ_APP_CLOSED"


class DatabaseError(SoniqError):
    """The database refused a statement, or holds something this version cannot use."""

    code = "SONIQ_DATABASE"


class DatabaseUnavailableError(DatabaseError):
    """The database cannot be reached, or broke the connection: trying again later can succeed."""

    code = "SONIQ_DATABASE_UNAVAILABLE"


class DatabaseRefusedError(DatabaseUnavailableError):
    """The database is there and lets nobody in with this URL: somebody has to change the one or the other."""

    code = "SONIQ_DATABASE_REFUSED"


class OutcomeRefusedError(DatabaseError):
    """The database cannot store what some outcomes hold, for example a result; nothing was written for those jobs.

    ``refused`` maps them to the reason; ``changed`` are the jobs of the same batch whose outcomes were written.
    """

    code = "SONIQ_OUTCOME_REFUSED"

    def __init__(self, message: str, *, refused: Mapping[str, str], changed: frozenset[str]) -> None:
        super().__init__(message)
        self.refused = refused
        self.changed = changed


class SchemaError(DatabaseError):
    """The schema is missing, too old or too new: ``soniqctl setup`` is what to run."""

    code = "SONIQ_SCHEMA"


class ControlError(SoniqError):
    """The daemon refused a request, or what came over its socket is not its protocol."""

    code = "SONIQ_CONTROL"


class DaemonUnreachableError(ControlError):
    """No daemon answers on the control socket."""

    code = "SONIQ_DAEMON_UNREACHABLE"
