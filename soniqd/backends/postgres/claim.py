"""Taking jobs, and making due ones claimable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.protocol import DueReport
from soniqd.errors import DatabaseError
from soniqd.model import ClaimedJob, Fence, JobId, WorkerId

_VAIN_ROUNDS = 5
"""How often a claim looks again in vain when others take the rows before its eyes."""


class PostgresClaim:
    """The protocol's ``claim``, ``claims_of`` and ``promote_due``."""

    _database: Database

    async def claim(
        self, worker_id: WorkerId, *, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int
    ) -> list[ClaimedJob]:
        rows: list[tuple[Any, ...]] = []
        vain = 0
        while vain < _VAIN_ROUNDS:
            try:
                more = await self._claim_once(worker_id, names, queues, limit - len(rows))
            except DatabaseError:
                if rows:
                    break
                raise
            taken = [row for row in more if row[_ID] is not None]
            rows += taken
            vain = 0 if taken else vain + 1
            if len(rows) >= limit or not _is_worth_another_look(more[0], len(taken)):
                break
        return _claimed(rows, worker_id)

    async def _claim_once(
        self, worker_id: WorkerId, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int
    ) -> list[tuple[Any, ...]]:
        parameters = {
            "worker_id": worker_id,
            "names": None if names is None else list(names),
            "queues": None if queues is None else list(queues),
            "limit": limit,
        }
        return await self._database.fetch(SQL["claim"], parameters)

    async def claims_of(self, worker_id: WorkerId) -> list[ClaimedJob]:
        rows = await self._database.fetch(SQL["claims_of"], {"worker_id": worker_id}, repeat=True)
        return _claimed(rows, worker_id)

    async def promote_due(self, *, limit: int = 1000) -> DueReport:
        [(promoted, _, next_due_s)] = await self._database.fetch(SQL["promote_due"], {"limit": limit}, repeat=True)
        if promoted >= limit:
            return DueReport(promoted, 0.0)
        return DueReport(promoted, None if next_due_s is None else max(0.0, next_due_s))


_ID, _PRIORITY, _SEQ, _LANES, _SEEN = 0, 5, 11, 12, 13
_MOST_LANES = 32


def _is_worth_another_look(row: tuple[Any, ...], taken: int) -> bool:
    """Tell whether claimable rows may be left: a single lane was searched to its end, several up to what was seen."""
    lanes, seen = row[_LANES], row[_SEEN] or 0
    return lanes > 1 and (taken < seen or lanes > _MOST_LANES)


def _claimed(rows: list[tuple[Any, ...]], worker_id: WorkerId) -> list[ClaimedJob]:
    rows.sort(key=lambda row: (row[_PRIORITY], row[_SEQ]))
    return [
        ClaimedJob(Fence(JobId(job_id), worker_id, claim_no), name, args, queue, priority, *rest)
        for job_id, claim_no, name, args, queue, priority, *rest, _seq, _lanes, _seen in rows
    ]
