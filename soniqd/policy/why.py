"""Why a job is where it is: reasons with their facts, the decisive one first. The command line words them.

Order matters: a job whose queue is paused *and* whose task nobody knows is told both, in the order in which somebody
would have to remove the obstacles. Codes are stable: programs branch on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from soniqd.model import JobFacts, JobStatus, WorkerRecord, WorkerStatus
from soniqd.model.insight import COUNTED_TO

DaemonPresence = Literal["running", "stopping", "absent", "unknown"]
"""What is known of the daemon on the host where somebody asks; ``unknown`` where one need not be."""

OVERDUE_S = 15.0
"""A worker with room that has looked at its queue has taken the first job of it long before."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing to know, with what a program or a sentence needs about it."""

    code: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that decide what counts as lost and as a suspect."""

    heartbeat_timeout_s: float
    max_crashes: int


def explain(facts: JobFacts, *, limits: Limits, daemon: DaemonPresence) -> tuple[Reason, ...]:
    """Return the reasons, the decisive one first, what is merely worth knowing last."""
    match JobStatus(facts.record["status"]):
        case JobStatus.QUEUED:
            return (*_waiting(facts, limits, daemon), *_remarks(facts, limits))
        case JobStatus.PROCESSING:
            return tuple(_held(facts, limits))
        case JobStatus.DONE | JobStatus.CANCELLED as status:
            return (Reason(str(status), _end(facts)),)
        case JobStatus.DEAD_LETTER:
            return (Reason("dead_letter", _burial(facts)),)


def _waiting(facts: JobFacts, limits: Limits, daemon: DaemonPresence) -> Iterator[Reason]:
    if facts.ahead is None and (when := _not_yet(facts)) is not None:
        yield when
        # What would keep it waiting afterwards is worth knowing now; that others are busy now is not.
        yield from (reason for reason in _obstacles(facts, limits, daemon) if reason.code in LASTING)
    else:
        yield from _obstacles(facts, limits, daemon)


LASTING = frozenset(
    {"queue_paused", "daemon_not_running", "no_worker", "unknown_task", "queue_unserved", "task_elsewhere"}
)
"""Reasons that go away by somebody's doing only."""


_UNHINDERED = frozenset({"claimable", "overdue"})
"""What is true only where nothing else stands in the way."""


def _not_yet(facts: JobFacts) -> Reason | None:
    """Tell what a job with a time to come waits for; None if it was claimed since it was looked up."""
    record = facts.record
    due = _moment(record["scheduled_at"])
    if due is None:
        return None
    in_s = (due - facts.now).total_seconds()
    timing = {"at": record["scheduled_at"], "in_s": round(in_s, 3)}
    if in_s <= 0:
        return Reason("due", timing)
    if record["attempts"] > 0:
        return Reason("retry_backoff", {**timing, **_attempts(facts), "last_error": record["last_error"]})
    if record["last_error"] and not record["crashes"]:
        return Reason("snoozed", {**timing, "last_words": record["last_error"]})
    return Reason("scheduled", timing)


def _obstacles(facts: JobFacts, limits: Limits, daemon: DaemonPresence) -> Iterator[Reason]:
    queue, name = facts.record["queue"], facts.record["job_name"]
    if facts.queue_paused:
        yield Reason("queue_paused", {"queue": queue})
    live = [worker for worker in facts.workers if not _is_lost(worker, limits)]
    if not live:
        code = "daemon_not_running" if daemon in ("absent", "stopping") else "no_worker"
        yield Reason(code, {"lost_workers": len(facts.workers), "daemon": daemon})
        return
    knowing = [worker for worker in live if worker.id in facts.knowers]
    serving = [worker for worker in live if not worker.queues or queue in worker.queues]
    able = [worker for worker in knowing if worker in serving]
    if not knowing:
        yield Reason("unknown_task", {"job_name": name, "workers": len(live)})
    if not serving:
        served = sorted({served for worker in live for served in worker.queues})
        yield Reason("queue_unserved", {"queue": queue, "served": served})
    if able:
        reason = _among_able(facts, able, daemon)
        if not (facts.queue_paused and reason.code in _UNHINDERED):
            yield reason
    elif knowing and serving:
        served = sorted({served for worker in knowing for served in worker.queues})
        yield Reason("task_elsewhere", {"job_name": name, "queue": queue, "served": served})


def _among_able(facts: JobFacts, able: Sequence[WorkerRecord], daemon: DaemonPresence) -> Reason:
    """Tell what those are doing that know the task and serve the queue."""
    active = [worker for worker in able if worker.status is WorkerStatus.ACTIVE]
    claiming = [worker for worker in active if not worker.metadata.get("paused")]
    if not active:
        hosts = sorted({worker.process.hostname for worker in able})
        return Reason("workers_stopping", {"workers": len(able), "hosts": hosts, "daemon": daemon})
    if not claiming:
        groups = sorted({worker.slot.rpartition("/")[0] or str(worker.id) for worker in active})
        return Reason("group_drained", {"groups": groups, "hosts": sorted({w.process.hostname for w in active})})
    ahead = facts.ahead or 0
    place = {"ahead": min(ahead, COUNTED_TO), "ahead_more": ahead > COUNTED_TO, "waited_s": _since(facts, "updated_at")}
    free = [worker for worker in claiming if worker.jobs_processing < worker.concurrency]
    if not free:
        slots = sum(worker.concurrency for worker in claiming)
        return Reason("workers_busy", {**place, "workers": len(claiming), "slots": slots})
    room = sum(worker.concurrency - worker.jobs_processing for worker in free)
    overdue = ahead == 0 and (place["waited_s"] or 0.0) > OVERDUE_S
    return Reason("overdue" if overdue else "claimable", {**place, "workers": len(free), "free_slots": room})


def _remarks(facts: JobFacts, limits: Limits) -> Iterator[Reason]:
    """Tell what does not keep the job waiting."""
    record = facts.record
    if record["crashes"]:
        yield Reason("suspect", {"crashes": record["crashes"], "max_crashes": limits.max_crashes})
    if record["attempts"] and facts.ahead is not None:
        yield Reason("failed_before", {**_attempts(facts), "last_error": record["last_error"]})
    if record["dedup_key"] is not None or record["unique_job"]:
        yield Reason("holds_key", {"dedup_key": record["dedup_key"], "unique": record["unique_job"]})


def _held(facts: JobFacts, limits: Limits) -> Iterator[Reason]:
    record = facts.record
    worker = next((worker for worker in facts.workers if worker.id == record["worker_id"]), None)
    ran_s = _since(facts, "started_at")
    if worker is None:
        yield Reason("worker_gone", {"worker_id": record["worker_id"], "held_s": ran_s})
        return
    place = _place(worker)
    if _is_lost(worker, limits):
        timeout_s = limits.heartbeat_timeout_s
        yield Reason("worker_lost", {**place, "silent_s": worker.heartbeat_age_s, "timeout_s": timeout_s})
        return
    if record["crashes"] and worker.jobs_processing > 1:
        others = worker.jobs_processing - 1
        crashes = {"crashes": record["crashes"], "max_crashes": limits.max_crashes}
        yield Reason("suspect_waiting", {**place, **crashes, "others": others})
    else:
        yield _running(facts, place, ran_s)
    if worker.status is WorkerStatus.STOPPING:
        yield Reason("worker_draining", place)
    if record["attempts"]:
        yield Reason("failed_before", {**_attempts(facts), "last_error": record["last_error"]})


def _running(facts: JobFacts, place: dict[str, Any], ran_s: float | None) -> Reason:
    timeout_s = facts.defaults.timeout_s or None if facts.defaults else None
    over_s = None if timeout_s is None or ran_s is None else round(ran_s - timeout_s, 3)
    times = {
        "since": facts.record["started_at"],
        "ran_s": ran_s,
        "limit_known": facts.defaults is not None,
        "timeout_s": timeout_s,
        "over_s": over_s,
    }
    attempt = {"attempt": facts.record["attempts"] + 1, "max_attempts": facts.record["max_attempts"]}
    return Reason("running_too_long" if (over_s or 0.0) > 0 else "running", {**place, **times, **attempt})


def _place(worker: WorkerRecord) -> dict[str, Any]:
    process = worker.process
    return {"worker_id": worker.id, "slot": worker.slot, "hostname": process.hostname, "pid": process.pid}


def _end(facts: JobFacts) -> dict[str, Any]:
    record = facts.record
    ran_s = None
    started, finished = _moment(record["started_at"]), _moment(record["finished_at"])
    if started and finished:
        ran_s = round((finished - started).total_seconds(), 3)
    return {
        "at": record["finished_at"],
        "ran_s": ran_s,
        "attempts": record["attempts"],
        "worker_id": record["worker_id"],
        "kept_until": record["expires_at"],
    }


def _burial(facts: JobFacts) -> dict[str, Any]:
    record = facts.record
    return {
        "at": record["finished_at"],
        "reason": facts.dead_letter_reason,
        "last_error": record["last_error"],
        **_attempts(facts),
        "crashes": record["crashes"],
        "replayed": facts.replayed,
    }


def _attempts(facts: JobFacts) -> dict[str, Any]:
    return {"attempts": facts.record["attempts"], "max_attempts": facts.record["max_attempts"]}


def _is_lost(worker: WorkerRecord, limits: Limits) -> bool:
    return (worker.heartbeat_age_s or 0.0) > limits.heartbeat_timeout_s


def _since(facts: JobFacts, column: Literal["updated_at", "started_at"]) -> float | None:
    moment = _moment(facts.record[column])
    return None if moment is None else max(0.0, round((facts.now - moment).total_seconds(), 3))


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
