"""``soniqctl setup`` and ``migrate-status``: the schema."""

from __future__ import annotations

import click

from soniqd.backends import MigrationStatus, StorageBackend
from soniqd.cli.options import json_option
from soniqd.cli.render import print_json, print_line, print_table
from soniqd.cli.session import Session
from soniqd.cli.wording import count
from soniqd.log.redact import redact


@click.command()
@json_option
@click.pass_obj
def setup(session: Session) -> None:
    """Create the database if it is missing, and bring its tables up to this release.

    Safe to repeat, and safe when two run at once. Tables that Soniq 0.1 made are adopted with their jobs.
    """

    async def migrate(backend: StorageBackend) -> tuple[str, MigrationStatus]:
        return backend.location, await backend.setup()

    location, result = session.with_backend(migrate, migrated=False, must_exist=False)
    if session.as_json:
        print_json({"location": location, "created": result.created, "applied": result.pending})
    elif result.pending:
        created = "database created, " if result.created else ""
        applied = f"{count(len(result.pending), 'migration')} applied: {', '.join(result.pending)}"
        print_line(f"{redact(location)}: {created}{applied}")
    else:
        print_line(f"{redact(location)}: ready, no migration was pending")


@click.command("migrate-status")
@json_option
@click.pass_obj
def migrate_status(session: Session) -> None:
    """Show which migrations the database has."""

    async def read(backend: StorageBackend) -> MigrationStatus:
        await backend.open()
        return await backend.migration_status()

    result = session.with_backend(read, migrated=False, must_exist=False)
    if session.as_json:
        print_json({"applied": result.applied, "pending": result.pending, "foreign": result.foreign})
        return
    rows = [(name, "applied") for name in result.applied]
    rows += [(name, "pending: soniqctl setup") for name in result.pending]
    rows += [(name, "unknown: of a newer soniqd") for name in result.foreign]
    print_table(("migration", "state"), rows, empty="no migrations")
