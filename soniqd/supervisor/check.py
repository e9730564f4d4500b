"""Trying a configuration without running anything: one fork server boots and is ended, one connection is opened.

What only time or another machine can mend is a warning, since a daemon would start and wait for it, too; what somebody
has to mend first is a problem.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from soniqd.backends.factory import create_backend
from soniqd.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError, SchemaError
from soniqd.log.redact import redact
from soniqd.settings.daemon import DaemonSettings
from soniqd.supervisor.reaper import Reaper
from soniqd.supervisor.trial import boot_on_trial


@dataclass(frozen=True, slots=True)
class Findings:
    """What is wrong with a configuration, and what is only not there yet."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


async def check_all(settings: DaemonSettings) -> Findings:
    """Return everything that is wrong with what the settings name."""
    database = await check_database(settings)
    return Findings((*await check_modules(settings), *database.problems), database.warnings)


async def check_modules(settings: DaemonSettings) -> list[str]:
    """Return the problems of the jobs modules; an empty list means that a daemon would start."""
    reaper = Reaper(asyncio.get_running_loop())
    try:
        trial = await boot_on_trial(settings, number=1, reaper=reaper)
    finally:
        reaper.close()
    return list(trial.problems)


async def check_database(settings: DaemonSettings) -> Findings:
    """Connect within ``connect_timeout``, and look whether the tables are this release's. Nothing is created."""
    database = settings.database
    backend = create_backend(
        database.url,
        pool_min_size=1,
        pool_max_size=1,
        connect_timeout_s=database.connect_timeout,
        statement_timeout_s=database.statement_timeout,
    )
    if backend.capabilities.name == "sqlite" and (missing := _missing_file(Path(backend.location))) is not None:
        return missing
    try:
        await backend.open()
        await backend.check_schema()
    except (DatabaseRefusedError, SchemaError) as error:
        return Findings(problems=(redact(str(error)),))
    except DatabaseUnavailableError as error:
        return Findings(warnings=(f"{redact(str(error))}; soniqd starts, and jobs wait until it is there",))
    except DatabaseError as error:
        return Findings(problems=(redact(str(error)),))
    finally:
        await backend.close()
    return Findings()


def _missing_file(path: Path) -> Findings | None:
    """Judge a file that is not there, which the daemon makes, with its tables; None if it is there."""
    if path.exists():
        return None
    if path.parent.is_dir():
        return Findings()
    return Findings(problems=(f"cannot make the SQLite database {path}: the folder {path.parent} does not exist",))
