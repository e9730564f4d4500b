"""Claims: choose the best jobs over all pairs of queue and task name, and stamp them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from soniqd.backends.records import from_epoch
from soniqd.backends.sqlite.transaction import Transaction, as_json
from soniqd.model import ClaimedJob, Fence, JobId, WorkerId


def claim_jobs(
    tx: Transaction, worker_id: WorkerId, *, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int
) -> list[ClaimedJob]:
    """Take up to ``limit`` claimable jobs, best first, if the worker is active.

    Where all claimable jobs are of one pair, as they mostly are, one statement finds and reads them.
    """
    found = tx.run("only_pair", _asked(worker_id, names, queues, limit)).fetchone()
    if found is None:
        return []
    if found[0] is not None:
        rows = json.loads(found[0])
        _take(tx, worker_id, [row[0] for row in rows])
        return _claims(rows)
    seqs = _choose(tx, names=names, queues=queues, limit=limit)
    _take(tx, worker_id, seqs)
    return read_claims(tx, seqs) if seqs else []


def _asked(
    worker_id: WorkerId, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int
) -> dict[str, object]:
    return {
        "worker_id": worker_id,
        "names": None if names is None else as_json(names),
        "queues": None if queues is None else as_json(queues),
        "limit": limit,
    }


def _take(tx: Transaction, worker_id: WorkerId, seqs: Sequence[int]) -> None:
    if len(seqs) == 1:
        tx.run("take_one", {"worker_id": worker_id, "now": tx.now, "seq": seqs[0]})
    elif seqs:
        tx.run("take", {"worker_id": worker_id, "now": tx.now, "seqs": as_json(seqs)})


def _choose(tx: Transaction, *, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int) -> list[int]:
    wanted_names = None if names is None else frozenset(names)
    wanted_queues = None if queues is None else frozenset(queues)
    heads = sorted(
        (priority, seq, queue, name)
        for priority, seq, queue, name in tx.array("claimable_heads")
        if (wanted_queues is None or queue in wanted_queues) and (wanted_names is None or name in wanted_names)
    )
    best: list[tuple[int, int]] = []
    for priority, seq, queue, name in heads:
        if len(best) == limit and (priority, seq) > best[-1]:
            break  # neither this pair nor a later one has anything better
        rows = tx.array("best_of_pair", (queue, name, limit))
        best = sorted([*best, *((row[0], row[1]) for row in rows)])[:limit]
    return [seq for _, seq in best]


def read_claims(tx: Transaction, seqs: Sequence[int]) -> list[ClaimedJob]:
    """Return these jobs as their claimant needs them, best first."""
    return _claims(tx.array("taken", (as_json(seqs),)))


def _claims(rows: list[list[Any]]) -> list[ClaimedJob]:
    return [_claimed(row) for row in sorted(rows, key=_order)]


def _order(row: list[Any]) -> tuple[int, int]:
    return row[7], row[0]


def _claimed(row: list[Any]) -> ClaimedJob:
    _, job_id, worker_id, claim_no, name, args, queue, priority, attempts, max_attempts, crashes, due, created = row
    return ClaimedJob(
        fence=Fence(JobId(job_id), WorkerId(worker_id), claim_no),
        name=name,
        args_json=args,
        queue=queue,
        priority=priority,
        attempts=attempts,
        max_attempts=max_attempts,
        crashes=crashes,
        scheduled_at=from_epoch(None if due is None else due / 1_000_000),
        created_at=from_epoch(created / 1_000_000),
    )
