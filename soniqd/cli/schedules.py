"""``soniqctl schedules``: list, pause, resume, remove recurring jobs."""

from __future__ import annotations

from typing import Any

import click

from soniqd.backends import StorageBackend
from soniqd.cli.known import similar_schedule
from soniqd.cli.options import json_option
from soniqd.cli.render import print_json, print_line, print_table
from soniqd.cli.session import Session
from soniqd.cli.wording import duration, moment
from soniqd.errors import SoniqError
from soniqd.model import ScheduleRecord


@click.group()
def schedules() -> None:
    """List, pause, resume and remove recurring jobs."""


@schedules.command("list")
@json_option
@click.pass_obj
def list_schedules(session: Session) -> None:
    """List recurring jobs with their next run."""
    print_schedules(session)


@schedules.command(short_help="Enqueue nothing more for a recurring job.")
@click.argument("name")
@json_option
@click.pass_obj
def pause(session: Session, name: str) -> None:
    """Enqueue nothing more for a recurring job; a restart does not undo it."""
    _set_paused(session, name, paused=True)


@schedules.command()
@click.argument("name")
@json_option
@click.pass_obj
def resume(session: Session, name: str) -> None:
    """Let a recurring job go on."""
    _set_paused(session, name, paused=False)


@schedules.command(short_help="Remove a recurring job.")
@click.argument("name")
@json_option
@click.pass_obj
def remove(session: Session, name: str) -> None:
    """Remove a recurring job whose declaration was deleted.

    One that is still declared comes back when a scheduler starts, also with a reload: `pause` lasts.
    """

    async def act(backend: StorageBackend) -> None:
        if not await backend.remove_schedule(name):
            raise await _unknown(backend, "remove", name)

    session.with_backend(act)
    if session.as_json:
        print_json({"schedule": name, "removed": True})
    else:
        print_line(f"{name} removed; if it is still declared, it comes back with the next start: pause lasts")


def print_schedules(session: Session) -> None:
    """Print all recurring jobs."""
    records = session.with_backend(lambda backend: backend.list_schedules())
    if session.as_json:
        print_json([_as_json(record) for record in records])
        return
    rows = [
        (
            record.spec.name,
            record.spec.job_name,
            _when(record),
            "paused" if record.paused else "active",
            moment(record.next_run),
            moment(record.last_run),
            record.run_count,
        )
        for record in records
    ]
    print_table(("schedule", "task", "when", "state", "next run", "last run", "runs"), rows, empty="no schedules")


def _set_paused(session: Session, name: str, *, paused: bool) -> None:
    async def act(backend: StorageBackend) -> None:
        if not await backend.set_schedule_paused(name, paused=paused):
            raise await _unknown(backend, "pause" if paused else "resume", name)

    session.with_backend(act)
    if session.as_json:
        print_json({"schedule": name, "paused": paused})
    else:
        print_line(f"{name} is {'paused' if paused else 'active'}")


async def _unknown(backend: StorageBackend, verb: str, name: str) -> SoniqError:
    return SoniqError(f"cannot {verb} {name}: there is no such schedule{await similar_schedule(backend, name)}")


def _when(record: ScheduleRecord) -> str:
    spec = record.spec
    if spec.type == "interval":
        seconds = float(spec.value)
        return f"every {seconds:g}s" if seconds < 60 else f"every {duration(seconds)}"
    return spec.value if spec.timezone == "UTC" else f"{spec.value} {spec.timezone}"


def _as_json(record: ScheduleRecord) -> dict[str, Any]:
    spec = record.spec
    return {
        "name": spec.name,
        "job_name": spec.job_name,
        "type": spec.type,
        "value": spec.value,
        "timezone": spec.timezone,
        "queue": spec.queue,
        "priority": spec.priority,
        "missed": spec.missed,
        "paused": record.paused,
        "next_run": record.next_run,
        "last_run": record.last_run,
        "last_job_id": record.last_job_id,
        "run_count": record.run_count,
    }
