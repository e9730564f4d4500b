"""Bring a database to this release's schema.

``soniq_migrations`` is Soniq's own table, and the lock is the one that its setup takes, so the two never run into each
other. All pending files are applied in one transaction: a setup that fails half-way leaves nothing, and the lock goes
with the transaction, which suits poolers too. Versions of one or more releases to come are left alone: a rolling
update sets the new schema up first, and the old release has to go on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import errors, sql

from soniqd.backends.postgres.connection import Connection
from soniqd.backends.postgres.database import Database, execute
from soniqd.backends.postgres.failure import reason_of, translate, translated
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.values import MigrationStatus
from soniqd.errors import DatabaseError, SchemaError

_SONIQ_VERSIONS = frozenset({"0001", "0002", "0003", "0004", "0005"})
_LOCK_KEY = int.from_bytes(
    hashlib.blake2b(b"soniq.leadership.v1/soniq.migrations", digest_size=8).digest(), "big", signed=True
)
_PURPOSE = "set up the database"
_LOCK_TIMEOUT_S = 15
"""How long altering may wait for a table: whoever wants that table waits behind it."""

_CREATE_ATTEMPTS, _CREATE_PAUSE_S = 10, 0.3
"""The template is in use while another database is made from it, or somebody is connected to it."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: str
    name: str
    text: str

    @property
    def stem(self) -> str:
        return f"{self.version}_{self.name}"

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def load_migrations(folder: Path) -> tuple[Migration, ...]:
    """Read ``NNNN_name.sql`` files in the order of their numbers."""
    parts = ((*path.stem.split("_", 1), path.read_text("utf-8")) for path in sorted(folder.glob("*.sql")))
    return tuple(Migration(*part) for part in parts)


MIGRATIONS = load_migrations(Path(__file__).parent / "migrations")


async def setup(database: Database) -> MigrationStatus:
    """Create the database if it is missing and apply what is pending."""
    connection, created = await _connect_or_create(database)
    try:
        with translated(_PURPOSE):
            async with connection.transaction():
                return replace(await _apply_pending(connection), created=created)
    except DatabaseError as error:
        if isinstance(error.__cause__, errors.LockNotAvailable):
            raise DatabaseError(
                f"cannot {_PURPOSE}: a long transaction holds a table for more than {_LOCK_TIMEOUT_S} s; "
                "end it, or try again later"
            ) from error.__cause__
        raise
    finally:
        await connection.close()


async def migration_status(database: Database) -> MigrationStatus:
    """Compare the database with this release; a database without any table has everything pending."""
    try:
        rows = await database.fetch(SQL["applied_migrations"], {}, repeat=True)
    except SchemaError:
        rows = []
    return _status(dict(rows))


async def check_schema(database: Database) -> None:
    """Raise SchemaError unless every migration is applied as it is in this release."""
    try:
        rows = await database.fetch(SQL["applied_migrations"], {}, repeat=True)
    except SchemaError as error:
        if isinstance(error.__cause__, errors.UndefinedTable):
            raise SchemaError('cannot use the database: it has no tables of soniqd; run "soniqctl setup"') from None
        raise
    status = _status(dict(rows))
    if status.pending:
        raise SchemaError(
            f'cannot use the database: it lacks {", ".join(status.pending)}; run "soniqctl setup"',
            pending=status.pending,
        )


async def _apply_pending(connection: Connection) -> MigrationStatus:
    await execute(connection, SQL["wait_for_setup"], {"key": _LOCK_KEY})
    await execute(connection, SQL["create_migrations_table"], {})
    applied = dict(await execute(connection, SQL["applied_migrations"], {}))
    pending = [migration for migration in MIGRATIONS if migration.version not in applied]
    status = _status(applied)
    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'".encode())
    for migration in pending:
        await connection.execute(migration.text.encode())
        record = {"version": migration.version, "name": migration.name, "checksum": migration.checksum}
        await execute(connection, SQL["record_migration"], record)
    return MigrationStatus(
        applied=tuple(m.stem for m in MIGRATIONS), pending=tuple(m.stem for m in pending), foreign=status.foreign
    )


def _status(applied: Mapping[str, str | None]) -> MigrationStatus:
    _check_drift(applied)
    known = {migration.version for migration in MIGRATIONS} | _SONIQ_VERSIONS
    return MigrationStatus(
        applied=tuple(m.stem for m in MIGRATIONS if m.version in applied),
        pending=tuple(m.stem for m in MIGRATIONS if m.version not in applied),
        foreign=tuple(sorted(applied.keys() - known)),
    )


def _check_drift(applied: Mapping[str, str | None]) -> None:
    """Refuse a file that is not what was applied under its number; Soniq records no checksum."""
    for migration in MIGRATIONS:
        recorded = applied.get(migration.version)
        if recorded is not None and recorded != migration.checksum:
            raise SchemaError(
                f"cannot use the database: migration {migration.stem} was applied with another text "
                f"(checksum {recorded[:12]}, this release has {migration.checksum[:12]}); "
                "install the release that the database was set up with"
            )


async def _connect_or_create(database: Database) -> tuple[Connection, bool]:
    """Connect; the answer tells, too, whether the database was created for it."""
    try:
        return await database.connect(purpose="setup"), False
    except psycopg.Error as error:
        created = await _create_if_missing(database, error)
    with translated(_PURPOSE):
        return await database.connect(purpose="setup"), created


async def _create_if_missing(database: Database, error: psycopg.Error) -> bool:
    """Create the database unless the refusal to connect has another reason; which it is, only the server knows.

    False if it is there by now: somebody else created it at the same moment, or the next refusal says why.
    """
    maintenance = await _connect_for_maintenance(database)
    if maintenance is None:
        raise translate(error, _PURPOSE) from error
    try:
        if await execute(maintenance, SQL["find_database"], {"name": database.target.database}):
            return False
        return await _create(maintenance, database.target.database)
    finally:
        await maintenance.close()


async def _connect_for_maintenance(database: Database) -> Connection | None:
    for name in ("postgres", "template1"):
        with contextlib.suppress(psycopg.Error):
            return await database.connect(purpose="setup", database=name)
    return None


async def _create(connection: Connection, name: str) -> bool:
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    for attempt in range(_CREATE_ATTEMPTS):
        try:
            await connection.execute(statement)
        except (errors.DuplicateDatabase, errors.UniqueViolation):
            return False
        except errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f'cannot create database "{name}": role "{connection.info.user}" may not create databases; '
                f"have an administrator create it with that role as its owner"
            ) from error
        except errors.ObjectInUse as error:
            if attempt == _CREATE_ATTEMPTS - 1:
                raise translate(error, f'create database "{name}"') from error
            await asyncio.sleep(_CREATE_PAUSE_S)
        except psycopg.Error as error:
            raise DatabaseError(f'cannot create database "{name}": {reason_of(error)}') from error
        else:
            return True
    raise AssertionError
