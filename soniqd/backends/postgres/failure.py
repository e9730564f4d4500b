"""psycopg's errors in the words and classes of soniqd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from soniqd.errors import DatabaseError, DatabaseUnavailableError, SchemaError
from soniqd.log.redact import redact

_SCHEMA = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.InvalidSchemaName)
# Another connection may do better: after a standby (a failover), a server that was told to refuse writes, or a session
# that was ended because its process stood still in a transaction.
_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
)


@contextmanager
def translated(purpose: str) -> Iterator[None]:
    """Raise psycopg's errors as soniqd's: "cannot PURPOSE: reason", without a password."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, purpose) from error


def translate(error: psycopg.Error, purpose: str) -> DatabaseError:
    """Choose the class by what a caller can do about it."""
    reason = reason_of(error)
    if isinstance(error, _SCHEMA):
        return SchemaError(f'cannot {purpose}: {reason}; run "soniqctl setup"')
    if isinstance(error, _UNAVAILABLE):
        return DatabaseUnavailableError(f"cannot {purpose}: {reason}")
    return DatabaseError(f"cannot {purpose}: {reason}", sqlstate=error.sqlstate)


def reason_of(error: BaseException) -> str:
    """Return the first line of what the database says, redacted."""
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    first_line = next((line.strip() for line in message.splitlines() if line.strip()), type(error).__name__)
    return redact(first_line)
