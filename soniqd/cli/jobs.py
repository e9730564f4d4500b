"""``soniqctl jobs``: list, show, explain, cancel, delete."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import get_args

import click

from soniqd.backends import CancelResult, JobFilter, StorageBackend
from soniqd.cli.known import daemons_tasks, queues_known, similar_job, similar_jobs, similar_task
from soniqd.cli.options import JOB_ID, json_option
from soniqd.cli.render import print_fields, print_json, print_line, print_note, print_table
from soniqd.cli.session import Session
from soniqd.cli.why import why
from soniqd.cli.wording import moment
from soniqd.errors import SoniqError
from soniqd.model import JobId, JobRecord, JobStatus, WorkerId
from soniqd.settings.problems import did_you_mean

_MISSING = "there is no such job"
_REFUSALS: dict[CancelResult, str] = {
    "processing": "it is running",
    "finished": "it has finished",
    "missing": _MISSING,
}
_MOMENTS = frozenset({"created_at", "updated_at", "scheduled_at", "started_at", "finished_at", "expires_at"})
assert set(get_args(CancelResult)) == {*_REFUSALS, "cancelled"}


@click.group()
def jobs() -> None:
    """List, show, explain, cancel and delete jobs."""


jobs.add_command(why)


@jobs.command("list")
@click.option("--queue", help="Only of this queue.")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]), help="Only with this status.")
@click.option("--name", help="Only of this task.")
@click.option("--worker", metavar="ID", type=JOB_ID, help="Only of this worker.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most this many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Skip this many.")
@json_option
@click.pass_obj
def list_jobs(
    session: Session,
    *,
    queue: str | None,
    status: str | None,
    name: str | None,
    worker: JobId | None,
    limit: int,
    offset: int,
) -> None:
    """List jobs, the newest first."""
    where = JobFilter(
        queue=queue,
        status=status,
        name=name,
        worker_id=None if worker is None else WorkerId(worker),
        limit=limit,
        offset=offset,
    )

    async def find(backend: StorageBackend) -> tuple[list[JobRecord], list[str]]:
        rows = await backend.list_jobs(where)
        return rows, [] if rows or session.as_json else await _hints(session, backend, where)

    rows, hints = session.with_backend(find)
    if session.as_json:
        print_json(rows)
        return
    print_table(
        ("id", "task", "queue", "status", "priority", "attempts", "created", "due"),
        list(map(_row, rows)),
        empty="no jobs",
    )
    for hint in hints:
        print_note(f"note: {hint}")


async def _hints(session: Session, backend: StorageBackend, where: JobFilter) -> list[str]:
    """Say which of the names that nothing was found for are perhaps mistyped."""
    hints = []
    if where.queue is not None and where.queue not in (known := await queues_known(backend)):
        hints.append(f"there is nothing in a queue {where.queue}{did_you_mean(where.queue, known)}")
    if where.name is not None and (hint := await similar_task(backend, where.name, daemons_tasks(session))):
        hints.append(f"there is no job of {where.name}{hint}")
    return hints


@jobs.command()
@click.argument("job_id", metavar="ID", type=JOB_ID)
@json_option
@click.pass_obj
def show(session: Session, job_id: JobId) -> None:
    """Show all about one job."""

    async def find(backend: StorageBackend) -> JobRecord:
        record = await backend.get_job(job_id)
        if record is None:
            raise SoniqError(f"cannot show {job_id}: {_MISSING}{await similar_job(backend, job_id)}")
        return record

    record = session.with_backend(find)
    if session.as_json:
        print_json(record)
    else:
        print_fields([(key, _shown(key, value)) for key, value in record.items()])


@jobs.command()
@click.argument("job_ids", metavar="ID...", type=JOB_ID, nargs=-1, required=True)
@json_option
@click.pass_obj
def cancel(session: Session, job_ids: tuple[JobId, ...]) -> None:
    """Cancel jobs that are queued."""

    async def one(backend: StorageBackend, job_id: JobId) -> str | None:
        return _REFUSALS.get(await backend.cancel_job(job_id))

    _each(session, "cancel", "cancelled", job_ids, one)


@jobs.command()
@click.argument("job_ids", metavar="ID...", type=JOB_ID, nargs=-1, required=True)
@json_option
@click.pass_obj
def delete(session: Session, job_ids: tuple[JobId, ...]) -> None:
    """Delete jobs that are not running, wherever they are."""

    async def one(backend: StorageBackend, job_id: JobId) -> str | None:
        if await backend.delete_job(job_id):
            return None
        return "it is running" if await backend.get_job(job_id) else _MISSING

    _each(session, "delete", "deleted", job_ids, one)


def _each(
    session: Session,
    verb: str,
    done: str,
    job_ids: Sequence[JobId],
    act: Callable[[StorageBackend, JobId], Awaitable[str | None]],
) -> None:
    """Do something to each job, tell about each, and fail at the end if one was refused."""

    async def all_of_them(backend: StorageBackend) -> dict[JobId, str | None]:
        refusals = {job_id: await act(backend, job_id) for job_id in dict.fromkeys(job_ids)}
        missing = [job_id for job_id, refusal in refusals.items() if refusal == _MISSING]
        hints = await similar_jobs(backend, missing) if missing else {}
        return refusals | {job_id: f"{_MISSING}{hint}" for job_id, hint in hints.items()}

    refusals = session.with_backend(all_of_them)
    changed = [job_id for job_id, refusal in refusals.items() if refusal is None]
    problems = tuple(f"cannot {verb} {job_id}: {refusal}" for job_id, refusal in refusals.items() if refusal)
    if session.as_json and not problems:
        print_json({done: changed})
    elif not session.as_json:
        for job_id in changed:
            print_line(f"{job_id} {done}")
    if problems:
        raise SoniqError("; ".join(problems), problems=problems, **{done: changed})


def _row(record: JobRecord) -> tuple[object, ...]:
    return (
        record["id"],
        record["job_name"],
        record["queue"],
        record["status"],
        record["priority"],
        f"{record['attempts']}/{record['max_attempts']}",
        moment(record["created_at"]),
        moment(record["scheduled_at"]),
    )


def _shown(key: str, value: object) -> object:
    if key in _MOMENTS and isinstance(value, str):
        return moment(value)
    return json.dumps(value, ensure_ascii=False) if key in ("args", "result") and value is not None else value
