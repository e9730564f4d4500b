"""Outcomes and releases: judge the fences, then move jobs to the history, to the dead letters or back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from soniqd.backends.records import storable_text
from soniqd.backends.sqlite.transaction import Transaction, as_json
from soniqd.backends.values import ReleaseCause, ReleaseReport
from soniqd.model import DeadLettered, Done, Fence, JobId, Outcome, Released, Retry, Snoozed


class DoneRow(NamedTuple):
    """A row of ``keep_done``."""

    seq: int
    result: str | None
    finished_at: float
    expires_at: float


class DeadRow(NamedTuple):
    """A row of ``keep_dead``. ``settles``: the claimant wrote it, not somebody who took the job away."""

    seq: int
    reason: str
    error: str | None
    attempts: int
    crashes: int
    settles: bool
    moved_at: float


class BackRow(NamedTuple):
    """A row of ``requeue``; of the two times at most one is set."""

    seq: int
    attempts: int
    crashes: int
    interruptions: int
    error: str | None
    due_at: float | None
    scheduled_at: float | None
    settles: bool
    at: float


class Held(NamedTuple):
    """A processing job whose fence was found to hold."""

    seq: int
    queue: str
    keyed: bool


@dataclass(slots=True)
class Moves:
    """What becomes of jobs, by the statement that does it."""

    done: list[DoneRow] = field(default_factory=list)
    dead: list[DeadRow] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    back: list[BackRow] = field(default_factory=list)
    keyed_back: list[BackRow] = field(default_factory=list)

    def requeue(self, held: Held, row: BackRow) -> None:
        (self.keyed_back if held.keyed else self.back).append(row)

    def bury(self, row: DeadRow) -> None:
        self.dead.append(row)
        self.dropped.append(row.seq)

    def carry_out(self, tx: Transaction) -> None:
        tx.run_rows("keep_done", self.done)
        tx.run_rows("keep_dead", self.dead)
        if self.dropped:
            tx.run("drop_hot", (as_json(self.dropped),))
        tx.run_rows("requeue", self.back)
        for row in self.keyed_back:  # one by one: of two twins in one batch, the first keeps the key
            tx.run("give_up_dedup_key", (row.seq,))
            tx.run("give_up_unique_key", (row.seq,))
            tx.run_rows("requeue", [row])


def write_outcomes(tx: Transaction, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
    """Write the outcomes whose fence holds; return their jobs."""
    held = _held(tx, [outcome.fence for outcome in outcomes])
    moves = Moves()
    changed: set[JobId] = set()
    for outcome in outcomes:
        job = held.pop(outcome.fence, None)
        if job is not None:
            _plan(tx, moves, job, outcome)
            changed.add(outcome.fence.job_id)
    moves.carry_out(tx)
    return frozenset(changed)


def _held(tx: Transaction, fences: Sequence[Fence]) -> dict[Fence, Held]:
    rows = tx.array("processing", (as_json([fence.job_id for fence in fences]),))
    found = {
        Fence(job_id, worker_id, no): Held(seq, queue, bool(keyed)) for job_id, seq, worker_id, no, queue, keyed in rows
    }
    return {fence: found[fence] for fence in fences if fence in found}


def _plan(tx: Transaction, moves: Moves, job: Held, outcome: Outcome) -> None:
    match outcome:
        case Done():
            moves.dropped.append(job.seq)
            if outcome.result_ttl_s > 0:
                moves.done.append(DoneRow(job.seq, outcome.result_json, tx.now, tx.now + outcome.result_ttl_s))
        case Retry():
            _plan_return(tx, moves, job, delay_s=outcome.delay_s, error=storable_text(outcome.error), attempts=1)
        case Snoozed():
            reason = None if outcome.reason is None else storable_text(outcome.reason)
            _plan_return(tx, moves, job, delay_s=outcome.delay_s, error=reason)
        case Released():
            _plan_return(tx, moves, job, delay_s=None, interruptions=int(outcome.interrupted))
        case DeadLettered():
            reason, error = storable_text(outcome.reason), storable_text(outcome.error)
            moves.bury(DeadRow(job.seq, reason, error, attempts=1, crashes=0, settles=True, moved_at=tx.now))
        case _:
            assert_never(outcome)


def _plan_return(
    tx: Transaction,
    moves: Moves,
    job: Held,
    *,
    delay_s: float | None,
    error: str | None = None,
    attempts: int = 0,
    interruptions: int = 0,
) -> None:
    due_at = None if delay_s is None else tx.now + delay_s
    scheduled_at = due_at if due_at is not None and due_at > tx.now else None
    if scheduled_at is None:
        tx.wake(job.queue)
    else:
        tx.wake_later(scheduled_at)
        due_at = None
    moves.requeue(
        job,
        BackRow(
            job.seq,
            attempts=attempts,
            crashes=0,
            interruptions=interruptions,
            error=error,
            due_at=due_at,
            scheduled_at=scheduled_at,
            settles=True,
            at=tx.now,
        ),
    )


def release_jobs_of(
    tx: Transaction,
    worker_ids: Sequence[str],
    *,
    cause: ReleaseCause,
    max_crashes: int,
    error: str,
    blamed: Collection[JobId] | None = None,
) -> ReleaseReport:
    """Take these workers' jobs away; those that have crashed too often become dead letters."""
    moves = Moves()
    requeued: list[JobId] = []
    dead: list[JobId] = []
    told = storable_text(error) or None
    for seq, job_id, queue, keyed, crashes in tx.array("held_by_workers", (as_json(list(worker_ids)),)):
        crash = int(cause == "crash" and (blamed is None or job_id in blamed))
        if crash and crashes + 1 >= max_crashes:
            moves.bury(DeadRow(seq, "worker_lost", told, attempts=0, crashes=1, settles=False, moved_at=tx.now))
            dead.append(job_id)
            continue
        row = _released_row(
            tx, seq, crash=crash, interruption=int(cause == "interrupted"), error=told if crash else None
        )
        moves.requeue(Held(seq, queue, bool(keyed)), row)
        requeued.append(job_id)
        tx.wake(queue)
    moves.carry_out(tx)
    return ReleaseReport(tuple(requeued), tuple(dead))


def _released_row(tx: Transaction, seq: int, *, crash: int, interruption: int, error: str | None) -> BackRow:
    return BackRow(
        seq,
        attempts=0,
        crashes=crash,
        interruptions=interruption,
        error=error,
        due_at=None,
        scheduled_at=None,
        settles=False,
        at=tx.now,
    )
