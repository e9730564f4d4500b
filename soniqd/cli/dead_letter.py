"""``soniqctl dead-letter``: jobs that failed for good."""

from __future__ import annotations

from typing import Any

import click

from soniqd.backends import DeadLetterFilter, StorageBackend
from soniqd.cli.known import mistyped_filters, similar_dead_letters
from soniqd.cli.options import JOB_ID, json_option
from soniqd.cli.render import print_json, print_line, print_note, print_table
from soniqd.cli.session import Session
from soniqd.cli.wording import count, moment
from soniqd.errors import SoniqError
from soniqd.model import JobId
from soniqd.queue.ids import new_job_id

_PAGE = 500
_LONGEST_ERROR = 80


@click.group("dead-letter")
def dead_letter() -> None:
    """List, replay and delete jobs that failed for good."""


@dead_letter.command("list")
@click.option("--name", "names", multiple=True, help="Only of this task; repeatable.")
@click.option("--queue", "queues", multiple=True, help="Only of this queue; repeatable.")
@click.option("--reason", "reasons", multiple=True, help="Only with this reason; repeatable.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most this many.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Skip this many.")
@json_option
@click.pass_obj
def list_dead_letters(
    session: Session,
    *,
    names: tuple[str, ...],
    queues: tuple[str, ...],
    reasons: tuple[str, ...],
    limit: int,
    offset: int,
) -> None:
    """List dead letters, the newest first."""
    where = DeadLetterFilter(job_names=names, queues=queues, reasons=reasons, limit=limit, offset=offset)

    async def find(backend: StorageBackend) -> tuple[list[dict[str, Any]], list[str]]:
        rows = await backend.list_dead_letters(where)
        return rows, [] if rows or session.as_json else await mistyped_filters(backend, where)

    rows, hints = session.with_backend(find)
    if session.as_json:
        print_json(rows)
        return
    _print(rows)
    for hint in hints:
        print_note(f"note: {hint}")


@dead_letter.command()
@click.argument("job_ids", metavar="[ID]...", type=JOB_ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that were not replayed yet.")
@click.option("--name", "names", multiple=True, help="With --all: only of this task; repeatable.")
@click.option("--queue", "queues", multiple=True, help="With --all: only of this queue; repeatable.")
@click.option("--reason", "reasons", multiple=True, help="With --all: only with this reason; repeatable.")
@click.option("--dry-run", is_flag=True, help="Only show what would be replayed.")
@json_option
@click.pass_obj
def replay(
    session: Session,
    job_ids: tuple[JobId, ...],
    *,
    everything: bool,
    names: tuple[str, ...],
    queues: tuple[str, ...],
    reasons: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Enqueue dead letters again, as new jobs.

    The dead letters stay, and count how often they were replayed.
    """
    if everything == bool(job_ids):
        raise click.UsageError("name either the ids to replay, or --all")
    if not everything and (names or queues or reasons):
        raise click.UsageError("--name, --queue and --reason belong to --all")
    where = DeadLetterFilter(job_names=names, queues=queues, reasons=reasons, replayed=False)

    async def find_and_replay(backend: StorageBackend) -> tuple[list[dict[str, Any]], dict[str, str | None]]:
        rows = await _all(backend, where) if everything else await _named(backend, job_ids)
        missing: dict[str, str | None] = dict.fromkeys(job_ids)
        if dry_run:
            return rows, missing | {row["id"]: row["id"] for row in rows}
        return rows, missing | {
            row["id"]: await backend.replay_dead_letter(JobId(row["id"]), new_job_id()) for row in rows
        }

    rows, replayed = session.with_backend(find_and_replay)
    if dry_run:
        _show_dry_run(session, rows)
    else:
        _show_replayed(session, {old: new for old, new in replayed.items() if new})
    _refuse_missing(session, "replay", [old for old, new in replayed.items() if new is None])


@dead_letter.command()
@click.argument("job_ids", metavar="ID...", type=JOB_ID, nargs=-1, required=True)
@json_option
@click.pass_obj
def delete(session: Session, job_ids: tuple[JobId, ...]) -> None:
    """Delete dead letters."""

    async def delete_all(backend: StorageBackend) -> dict[JobId, bool]:
        return {job_id: await backend.delete_dead_letter(job_id) for job_id in dict.fromkeys(job_ids)}

    results = session.with_backend(delete_all)
    deleted = [job_id for job_id, gone in results.items() if gone]
    if session.as_json:
        print_json({"deleted": deleted})
    else:
        for job_id in deleted:
            print_line(f"{job_id} deleted")
    _refuse_missing(session, "delete", [job_id for job_id, gone in results.items() if not gone])


async def _all(backend: StorageBackend, where: DeadLetterFilter) -> list[dict[str, Any]]:
    """Read every page before anything is replayed: a replay takes its row out of the filter."""
    rows: list[dict[str, Any]] = []
    while page := await backend.list_dead_letters(
        DeadLetterFilter(
            job_names=where.job_names,
            queues=where.queues,
            reasons=where.reasons,
            replayed=where.replayed,
            limit=_PAGE,
            offset=len(rows),
        )
    ):
        rows += page
        if len(page) < _PAGE:
            break
    return rows


async def _named(backend: StorageBackend, job_ids: tuple[JobId, ...]) -> list[dict[str, Any]]:
    rows = [await backend.get_dead_letter(job_id) for job_id in dict.fromkeys(job_ids)]
    return [row for row in rows if row is not None]


def _show_dry_run(session: Session, rows: list[dict[str, Any]]) -> None:
    if session.as_json:
        print_json({"would_replay": [row["id"] for row in rows]})
        return
    _print(rows)
    print_line(f"{count(len(rows), 'dead letter')} would be replayed")


def _show_replayed(session: Session, replayed: dict[str, str]) -> None:
    if session.as_json:
        print_json({"replayed": replayed})
        return
    for old, new in replayed.items():
        print_line(f"{old} replayed as {new}")
    if not replayed:
        print_line("nothing to replay")


def _refuse_missing(session: Session, verb: str, job_ids: list[str]) -> None:
    if job_ids:
        hints = session.with_backend(lambda backend: similar_dead_letters(backend, [JobId(one) for one in job_ids]))
        problems = tuple(
            f"cannot {verb} {job_id}: there is no such dead letter{hint}" for job_id, hint in hints.items()
        )
        raise SoniqError("; ".join(problems), problems=problems)


def _print(rows: list[dict[str, Any]]) -> None:
    print_table(
        ("id", "task", "queue", "reason", "attempts", "replayed", "dead since", "error"),
        [_row(row) for row in rows],
        empty="no dead letters",
    )


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    error = str(row.get("last_error") or "").strip().splitlines() or [""]
    return (
        row["id"],
        row["job_name"],
        row["queue"],
        row.get("dead_letter_reason"),
        row.get("attempts"),
        row.get("resurrection_count"),
        moment(row.get("moved_to_dead_letter_at")),
        error[0] if len(error[0]) <= _LONGEST_ERROR else error[0][: _LONGEST_ERROR - 3] + "...",
    )
