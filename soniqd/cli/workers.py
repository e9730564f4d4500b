"""``soniqctl inspect`` and ``tasks-check``: workers of all hosts as the database knows them."""

from __future__ import annotations

from typing import Any

import click

from soniqd.backends import StorageBackend, SweepReport
from soniqd.cli.options import json_option
from soniqd.cli.render import print_json, print_line, print_table
from soniqd.cli.schedules import print_schedules
from soniqd.cli.session import Session
from soniqd.cli.wording import count, duration, moment
from soniqd.errors import SoniqError
from soniqd.model import WorkerRecord, WorkerStatus
from soniqd.model.insight import UNKNOWN_COUNTED_TO


@click.command()
@click.option("--stale", "stale_only", is_flag=True, help="Only workers whose heartbeat is too old.")
@click.option("--stopped", is_flag=True, help="Workers that have ended, as long as they are kept, and how they ended.")
@click.option("--cleanup", is_flag=True, help="Declare such workers lost, and requeue their jobs, now.")
@click.option("--schedules", "schedules_instead", is_flag=True, help="List recurring jobs instead.")
@json_option
@click.pass_obj
def inspect(session: Session, *, stale_only: bool, stopped: bool, cleanup: bool, schedules_instead: bool) -> None:
    """Show the workers of all hosts, by their heartbeats in the database."""
    if schedules_instead:
        if stale_only or stopped or cleanup:
            raise click.UsageError("--schedules shows no workers: it goes with no other option")
        print_schedules(session)
        return
    if stopped:
        if stale_only or cleanup:
            raise click.UsageError("--stopped shows what has ended: it goes with neither --stale nor --cleanup")
        _show_stopped(session)
        return
    if cleanup:
        _clean_up(session)
        return
    timeout_s = session.database.heartbeat_timeout_s
    workers = session.with_backend(
        lambda backend: backend.list_workers(stale_after_s=timeout_s if stale_only else None)
    )
    if session.as_json:
        print_json([_as_json(worker, timeout_s) for worker in workers])
        return
    print_table(
        ("worker", "host", "pid", "slot", "state", "running", "of", "queues", "heartbeat", "version"),
        [_row(worker, timeout_s) for worker in workers],
        empty="no stale workers" if stale_only else "no workers",
    )
    if not stale_only and (lost := sum(_is_stale(worker, timeout_s) for worker in workers)):
        print_line(
            f"{count(lost, 'worker')} without a heartbeat for {duration(timeout_s)}: soniqctl inspect --cleanup",
            tone="bad",
        )


def _show_stopped(session: Session) -> None:
    workers = session.with_backend(lambda backend: backend.list_workers(stopped=True))
    if session.as_json:
        print_json([_as_json(worker, 0.0) | {"stale": False} for worker in workers])
        return
    rows = [
        (
            worker.id,
            worker.process.hostname,
            worker.process.pid,
            worker.slot or None,
            moment(worker.started_at),
            _ended(worker),
        )
        for worker in workers
    ]
    print_table(("worker", "host", "pid", "slot", "started", "ended"), rows, empty="no worker that has ended is kept")


def _clean_up(session: Session) -> None:
    database = session.database

    async def sweep(backend: StorageBackend) -> SweepReport:
        return await backend.sweep(heartbeat_timeout_s=database.heartbeat_timeout_s, max_crashes=database.max_crashes)

    report = session.with_backend(sweep)
    if not report.ran:
        raise SoniqError("cannot clean up: another host is doing it now")
    if session.as_json:
        print_json(
            {
                "workers": report.workers,
                "requeued": report.released.requeued,
                "dead_lettered": report.released.dead_lettered,
            }
        )
    elif report.workers:
        requeued = count(len(report.released.requeued), "job")
        print_line(
            f"{count(len(report.workers), 'worker')} declared lost: {requeued} requeued, "
            f"{len(report.released.dead_lettered)} dead-lettered"
        )
    else:
        print_line("no stale workers")


@click.command("tasks-check")
@json_option
@click.pass_obj
def tasks_check(session: Session) -> None:
    """Check that every queued job has a live worker that knows its task; fail if not."""
    names = session.with_backend(lambda backend: backend.unclaimable_names())
    if session.as_json:
        print_json({"unclaimable": dict(names)})
    elif names:
        rows = [
            (name, f"{number}+" if number >= UNKNOWN_COUNTED_TO else number) for name, number in sorted(names.items())
        ]
        print_table(("task without a worker", "jobs"), rows, empty="")
    else:
        print_line("every queued job has a worker that knows its task")
    if names:
        click.get_current_context().exit(1)


def _ended(worker: WorkerRecord) -> str:
    return str(worker.metadata.get("ended") or "in good order")


def _is_stale(worker: WorkerRecord, timeout_s: float) -> bool:
    return (worker.heartbeat_age_s or 0.0) > timeout_s


def _row(worker: WorkerRecord, timeout_s: float) -> tuple[object, ...]:
    return (
        worker.id,
        worker.process.hostname,
        worker.process.pid,
        worker.slot or None,
        "stale" if _is_stale(worker, timeout_s) else worker.status.value,
        worker.jobs_processing,
        worker.concurrency,
        ", ".join(worker.queues) or "all",
        f"{duration(worker.heartbeat_age_s)} ago",
        worker.version,
    )


def _as_json(worker: WorkerRecord, timeout_s: float) -> dict[str, Any]:
    return {
        "id": worker.id,
        "hostname": worker.process.hostname,
        "pid": worker.process.pid,
        "slot": worker.slot,
        "status": worker.status.value,
        "stale": _is_stale(worker, timeout_s),
        "supervised": worker.supervised,
        "queues": worker.queues,
        "concurrency": worker.concurrency,
        "jobs_processing": worker.jobs_processing,
        "heartbeat_age_s": worker.heartbeat_age_s,
        "started_at": worker.started_at,
        "ended": _ended(worker) if worker.status is WorkerStatus.STOPPED else None,
        "version": worker.version,
    }
