"""psycopg's errors in the words and classes of soniqd."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from soniqd.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError, SchemaError
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

# A refusal to connect comes without its SQLSTATE (libpq gives the text alone), in the server's language: one that is
# not known here counts as unavailable.
_REFUSALS = (
    (re.compile(r'FATAL: +database ".*" does not exist'), '"soniqctl setup" creates it, or correct the name'),
    (re.compile(r"FATAL: +password authentication failed"), "correct the user or the password in the url"),
    (re.compile(r"no password supplied"), "add the password to the url, or use url_file or ~/.pgpass"),
    (re.compile(r'FATAL: +role ".*" (does not exist|is not permitted to log in)'), "create the role, or name another"),
    (re.compile(r"FATAL: +.* authentication failed"), "correct the user in the url, or the server's pg_hba.conf"),
    (re.compile(r"FATAL: +no pg_hba.conf entry|FATAL: +pg_hba.conf rejects"), "let it in, in the server's pg_hba.conf"),
    (re.compile(r"FATAL: +permission denied for database"), "grant CONNECT on the database to that role"),
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
    if isinstance(error, psycopg.OperationalError) and (cure := _cure_of_refusal(error)):
        return DatabaseRefusedError(f"cannot {purpose}: {reason}; {cure}")
    if isinstance(error, _UNAVAILABLE):
        return DatabaseUnavailableError(f"cannot {purpose}: {reason}")
    return DatabaseError(f"cannot {purpose}: {reason}", sqlstate=error.sqlstate)


def reason_of(error: BaseException) -> str:
    """Return the first line of what the database says, redacted."""
    message = getattr(getattr(error, "diag", None), "message_primary", None) or str(error)
    first_line = next((line.strip() for line in message.splitlines() if line.strip()), type(error).__name__)
    return redact(first_line)


def _cure_of_refusal(error: psycopg.OperationalError) -> str | None:
    return next((cure for pattern, cure in _REFUSALS if pattern.search(str(error))), None)
