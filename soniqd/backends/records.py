"""Rows as people see them: what is stored, in the shapes that every backend answers with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from soniqd.errors import OutcomeRefusedError
from soniqd.model import Done, JobId, JobRecord, Outcome, TaskDefaults

CANCELLED_KEPT_S = 86_400.0
"""How long a cancelled job stays in the history."""

STOPPED_WORKER_KEPT_S = 86_400.0
"""How long a stopped worker's row stays, for people who look at what happened."""

TICK_KEPT_S = 7 * 86_400.0
"""How long a fired tick is remembered; far longer than any scheduler can be stalled and still try it again."""


def to_iso(value: datetime | float | None) -> str | None:
    """ISO 8601 in UTC with its offset, from an aware datetime or seconds since the epoch."""
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    return moment.astimezone(UTC).isoformat()


def from_epoch(value: float | None) -> datetime | None:
    """Read seconds since the epoch as an aware datetime."""
    return None if value is None else datetime.fromtimestamp(value, UTC)


def storable_text(text: str) -> str:
    """Make text storable everywhere: NUL and lone surrogates, which PostgreSQL refuses, appear as escapes."""
    if "\x00" in text:
        text = text.replace("\x00", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def how_ended(error: str) -> str:
    """Return what is kept with a worker of the error that its jobs get: the first line, without stacks."""
    return storable_text(error.partition("\n")[0])


def refusals(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Find the outcomes whose result is no JSON text, with the reason: nobody could read it back."""
    found: dict[str, str] = {}
    for outcome in outcomes:
        if isinstance(outcome, Done) and outcome.result_json is not None:
            try:
                json.loads(outcome.result_json.encode(), parse_constant=_no_constant)
            except ValueError as error:
                found[outcome.fence.job_id] = f"the result is not JSON: {error}"
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def refuse(refused: Mapping[str, str], *, changed: frozenset[JobId]) -> None:
    """Raise for outcomes that were not stored, if there are any."""
    if refused:
        raise OutcomeRefusedError(
            f"cannot store the outcome of {len(refused)} jobs: {next(iter(refused.values()))}",
            refused=refused,
            changed=changed,
        )


def defaults_json(defaults: TaskDefaults | None) -> str | None:
    """Write what a worker says about a task."""
    return None if defaults is None else json.dumps(asdict(defaults))


def read_defaults(text: str | None) -> TaskDefaults | None:
    """Read it; what another release wrote differently says nothing."""
    try:
        return None if text is None else TaskDefaults(**json.loads(text))
    except (TypeError, ValueError):
        return None


def decoded(text: str | None) -> Any:
    """Decode stored JSON; None stays None."""
    return None if text is None else json.loads(text)


def job_record(row: Mapping[str, Any]) -> JobRecord:
    """Build the record from columns: ``args`` and ``result`` as JSON text, times as datetime or epoch seconds."""
    return JobRecord(
        id=str(row["id"]),
        job_name=row["job_name"],
        args=decoded(row["args"]),
        status=str(row["status"]),
        queue=row["queue"],
        priority=row["priority"],
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        crashes=row["crashes"],
        interruptions=row["interruptions"],
        unique_job=bool(row["unique_job"]),
        dedup_key=row["dedup_key"],
        producer_id=row["producer_id"],
        worker_id=None if row["worker_id"] is None else str(row["worker_id"]),
        last_error=row["last_error"],
        result=decoded(row["result"]),
        created_at=to_iso(row["created_at"]),
        updated_at=to_iso(row["updated_at"]),
        scheduled_at=to_iso(row["scheduled_at"] if row["scheduled_at"] is not None else row["due_at"]),
        started_at=to_iso(row["started_at"]),
        finished_at=to_iso(row["finished_at"]),
        expires_at=to_iso(row["expires_at"]),
    )


def dead_letter_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """Build a dead letter's dict from the columns of soniq_dead_letter_jobs; times become ISO 8601."""
    return {
        "id": str(row["id"]),
        "job_name": row["job_name"],
        "args": decoded(row["args"]),
        "queue": row["queue"],
        "priority": row["priority"],
        "max_attempts": row["max_attempts"],
        "attempts": row["attempts"],
        "crashes": row["crashes"],
        "interruptions": row["interruptions"],
        "last_error": row["last_error"],
        "dead_letter_reason": row["dead_letter_reason"],
        "original_created_at": to_iso(row["original_created_at"]),
        "moved_to_dead_letter_at": to_iso(row["moved_to_dead_letter_at"]),
        "resurrection_count": row["resurrection_count"],
        "last_resurrection_at": to_iso(row["last_resurrection_at"]),
        "tags": decoded(row["tags"]),
        "created_at": to_iso(row["created_at"]),
    }
