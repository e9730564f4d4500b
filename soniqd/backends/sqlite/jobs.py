"""Jobs in SQLite: enqueue, claim, promote, complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from soniqd.backends.records import CANCELLED_KEPT_S, refusals, refuse
from soniqd.backends.sqlite.access import Access
from soniqd.backends.sqlite.claiming import claim_jobs, read_claims
from soniqd.backends.sqlite.enqueueing import store_jobs
from soniqd.backends.sqlite.outcomes import write_outcomes
from soniqd.backends.sqlite.transaction import Transaction, as_json
from soniqd.backends.values import CancelResult, DueReport
from soniqd.errors import UnsupportedByBackendError
from soniqd.model import ClaimedJob, Done, JobId, NewJob, Outcome, WorkerId

_MANY = 500
"""Storing so many jobs takes longer than handing them over."""


class SQLiteJobs:
    """The writing half of the protocol's JobStore."""

    _access: Access

    async def enqueue(self, jobs: Sequence[NewJob], *, connection: Any = None) -> list[JobId]:
        if connection is not None:
            raise UnsupportedByBackendError(
                "cannot enqueue on the caller's connection: only PostgreSQL can join the caller's transaction"
            )
        if not jobs:
            return []
        answers = await self._access.write(lambda tx: store_jobs(tx, jobs), much=len(jobs) >= _MANY)
        return [job_id for job_id, _ in answers]

    async def claim(
        self, worker_id: WorkerId, *, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int
    ) -> list[ClaimedJob]:
        return await self._access.write(lambda tx: claim_jobs(tx, worker_id, names=names, queues=queues, limit=limit))

    async def claims_of(self, worker_id: WorkerId) -> list[ClaimedJob]:
        return await self._access.write(lambda tx: read_claims(tx, tx.array("held_by", (worker_id,))))

    async def promote_due(self, *, limit: int = 1000) -> DueReport:
        return await self._access.write(lambda tx: _promote_due(tx, limit))

    async def complete(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        refused = refusals(outcomes)
        storable = [outcome for outcome in outcomes if outcome.fence.job_id not in refused]
        changed = await self._access.write(lambda tx: write_outcomes(tx, storable)) if storable else frozenset()
        refuse(refused, changed=changed)
        return changed

    async def settled(self, outcomes: Sequence[Outcome]) -> frozenset[JobId]:
        ids = {"ids": as_json([outcome.fence.job_id for outcome in outcomes])}
        last = await self._access.write(lambda tx: tx.array("last_outcomes", ids))
        return frozenset(o.fence.job_id for o in outcomes if _is_settled(o, last.get(o.fence.job_id)))

    async def cancel_job(self, job_id: JobId) -> CancelResult:
        return await self._access.write(lambda tx: _cancel(tx, job_id))

    async def delete_job(self, job_id: JobId) -> bool:
        names = ("delete_queued", "delete_finished", "delete_dead_letter")
        return await self._access.write(lambda tx: any(tx.run(name, (job_id,)).rowcount for name in names))

    async def set_queue_paused(self, queue: str, *, paused: bool) -> bool:
        return await self._access.write(lambda tx: _set_paused(tx, queue, paused=paused))


def _promote_due(tx: Transaction, limit: int) -> DueReport:
    due = tx.array("due", (tx.now, limit))
    if due:
        tx.run("promote", (tx.now, as_json([seq for seq, _ in due])))
    for _, queue in due:
        tx.wake(queue)
    next_due = tx.value("next_due")
    return DueReport(len(due), None if next_due is None else max(0.0, next_due - tx.now))


def _is_settled(outcome: Outcome, last_outcome: int | None) -> bool:
    """A job that is nowhere was done with nothing to keep: whoever deletes jobs leaves processing ones alone."""
    if last_outcome is None:
        return isinstance(outcome, Done) and outcome.result_ttl_s <= 0
    return last_outcome == outcome.fence.claim_no


def _cancel(tx: Transaction, job_id: JobId) -> CancelResult:
    found = tx.run("hot_job", (job_id,)).fetchone()
    if found is None:
        return "missing" if tx.value("is_kept", {"id": job_id}) is None else "finished"
    seq, status = found
    if status == "processing":
        return "processing"
    tx.run("keep_cancelled", {"seq": seq, "now": tx.now, "expires_at": tx.now + CANCELLED_KEPT_S})
    tx.run("drop_hot", (as_json([seq]),))
    return "cancelled"


def _set_paused(tx: Transaction, queue: str, *, paused: bool) -> bool:
    before = queue in {row[0] for row in tx.run("paused_queues")}
    if before == paused:
        return False
    tx.run("pause_queue", (queue, paused))
    if not paused:
        tx.wake(queue)
    return True
