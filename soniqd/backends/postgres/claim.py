"""Taking jobs, and making due ones claimable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from soniqd.backends.postgres.arrays import texts
from soniqd.backends.postgres.database import Database
from soniqd.backends.postgres.direct import DirectStatement
from soniqd.backends.postgres.lookahead import Lookahead
from soniqd.backends.postgres.statements import SQL
from soniqd.backends.values import DueReport
from soniqd.errors import ClosedError, DatabaseError
from soniqd.model import ClaimedJob, Fence, JobId, WorkerId

_Row = tuple[Any, ...]
_Kind = tuple[tuple[str, ...] | None, tuple[str, ...] | None]

_VAIN_ROUNDS = 5
"""How often a claim looks again in vain when others take the rows before its eyes."""

_VAIN_PAUSE_S = 0.002
"""Others are about to commit what they take: the second time, this much longer, and so on."""

_VAIN_BEFORE_SKIP = 2
"""Other claims hold their locks for a moment only. To skip what they take cost two workers on 20 lanes two thirds of
their rate."""

_LEAST_SKIP, _MOST_SKIP, _SKIP_GROWS = 32, 512, 4
"""How many rows that others have locked a round skips (see claim.sql): that many times what the one before it missed.

So it takes four rounds to pass 500 rows, and more than that are not passed.
"""

_SKIP_S = 0.5
"""How long claims skip from their first round on, so that a lock that lasts does not cost each a round in vain."""

_MOST_LANES = 32
_MOST_KINDS = 16
_ID, _NAME, _QUEUE, _PRIORITY, _SEQ = 0, 2, 4, 5, 11
_LANES, _SEEN = 1, 11
"""Columns of the row that tells what was seen."""
_ORDER = itemgetter(_PRIORITY, _SEQ)


class _Round(NamedTuple):
    rows: list[_Row]
    complete: bool
    """Whether that is all, but for what a look beside the claims may find behind them."""
    missed: int = 0
    """How many of the rows that it looked at others had locked."""
    saw_all: bool = True
    """Whether there was nothing else to look at."""


@dataclass(slots=True)
class _Memory(Lookahead):
    """What one kind of claim remembers: where it goes on, and how many rows are locked by others."""

    _skip: int = 0
    _skip_until: float = 0.0

    def first_skip(self, now: float) -> int:
        return self._skip if now < self._skip_until else 0

    def next_skip(self, missed: int) -> int:
        """Return how many rows to skip after a round that missed so many."""
        return min(_MOST_SKIP, max(_LEAST_SKIP, _SKIP_GROWS * missed, self._skip)) if missed else 0

    def passed(self, skip: int, now: float) -> None:
        """Note that rows were found by skipping, and none without."""
        self._skip, self._skip_until = skip, now + _SKIP_S

    def needed_no_skip(self) -> None:
        self._skip = 0


class PostgresClaim:
    """The protocol's ``claim``, ``claims_of`` and ``promote_due``.

    Rows that others keep locked are passed: those of a lane that has more within the same round, else by looking at
    more rows and lanes in later ones. What is taken is the best of what is not locked then, as long as no more than
    ``_MOST_SKIP`` rows ahead are locked; more of them at the head of several lanes hold up the rest.
    """

    _database: Database
    _lookaheads: dict[_Kind, _Memory]

    async def claim(
        self, worker_id: WorkerId, *, names: Sequence[str] | None, queues: Sequence[str] | None, limit: int
    ) -> list[ClaimedJob]:
        kind = (None if names is None else tuple(names), None if queues is None else tuple(queues))
        memory = self._lookahead(kind)
        skip = memory.first_skip(time.monotonic())
        rows: list[_Row] = []
        vain = 0
        while vain < _VAIN_ROUNDS:
            try:
                done = await self._claim_once(worker_id, kind, limit - len(rows), skip, held=bool(rows))
            except DatabaseError:
                if rows:
                    break
                raise
            rows += done.rows
            if skip and vain and done.rows:
                memory.passed(skip, time.monotonic())
            vain = 0 if done.rows else vain + 1
            if len(rows) >= limit or done.complete:
                break
            if rows and skip and (done.saw_all or not done.rows):
                break  # the rest is locked: what is held does not wait for those who have locked it
            skip = memory.next_skip(done.missed) if vain >= _VAIN_BEFORE_SKIP else 0
            if vain:
                await asyncio.sleep(vain * _VAIN_PAUSE_S)
        return _claimed(rows, worker_id)

    async def _claim_once(self, worker_id: WorkerId, kind: _Kind, limit: int, skip: int, *, held: bool) -> _Round:
        """Claim rows.

        ``held``: others were claimed before, which must not wait for a look from the beginning.
        """
        lookahead = self._lookahead(kind)
        started = time.monotonic()
        if lookahead.expects_one_lane(started):
            only = await self._claim_only_lane(worker_id, kind, limit)
            if only is not None:
                lookahead.took(len(only), {})
                return _Round(only, complete=True)
            lookahead.found_several_lanes(started)
        goes_on = lookahead.may_go_on(started)
        if goes_on and lookahead.wants_probe(started):
            await self._probe(lookahead)
        tells_lanes = lookahead.is_busy and not goes_on
        parameters = {
            **_asked(worker_id, kind, limit),
            "walk": _boolean(not goes_on),
            "tell_lanes": _boolean(tells_lanes),
            "skip": str(skip),
            "reach": str(limit + skip),
            "lanes": str(_MOST_LANES + skip),
            **(lookahead if goes_on else Lookahead()).parameters(),
        }
        rows = await self._database.run(_CLAIM, parameters)
        taken = [row for row in rows if row[_ID] is not None]
        taken.sort(key=_ORDER)
        if not goes_on:
            heads = [_place(row) for row in rows if row[_ID] is None and row[_NAME] is not None]
            now = time.monotonic()
            lookahead.looked(heads if tells_lanes else None, now=now, cost_s=now - started)
        lookahead.took(len(taken), dict(map(_place, taken)) if lookahead.places else {})
        seen = next(row for row in rows if row[_NAME] is None)
        lanes, shared = seen[_LANES], seen[_SEEN] or 0
        if len(taken) >= limit and not skip:
            lookahead.needed_no_skip()
        missed = shared - len(taken)
        saw_all = shared < limit + skip and lanes <= _MOST_LANES + skip
        # A single lane was searched to its end, several up to what was shared.
        complete = lanes <= 1 or (missed <= 0 and lanes <= _MOST_LANES + skip)
        done = _Round(taken, complete, missed, saw_all)
        if not goes_on or len(taken) >= limit:
            return done
        if not taken and not held:
            lookahead.forget()
            return done._replace(complete=False)
        if not taken and (saw_all or not skip):
            done = done._replace(complete=True)
        if done.complete or not taken or (skip and saw_all):
            self._look_behind_soon(kind, lookahead)
        return done

    async def _claim_only_lane(self, worker_id: WorkerId, kind: _Kind, limit: int) -> list[_Row] | None:
        """Claim from the only lane there is; None if there are several."""
        rows = await self._database.run(_CLAIM_ONLY_LANE, _asked(worker_id, kind, limit))
        return None if rows and rows[-1][_ID] is None else rows

    def _look_behind_soon(self, kind: _Kind, lookahead: Lookahead) -> None:
        """Look beside the claims for what they have gone past, also if a look is under way: it may have seen less."""
        lookahead.look_wanted = True
        if not lookahead.is_looking:
            lookahead.looking = asyncio.create_task(self._look_behind(kind, lookahead), name="soniqd-look-behind")

    async def _look_behind(self, kind: _Kind, lookahead: Lookahead) -> None:
        """Look as long as that is wanted, and rest for as long as each look took."""
        while lookahead.look_wanted:
            lookahead.look_wanted = False
            began = time.monotonic()
            try:
                await self._look_behind_once(kind, lookahead)
            except (DatabaseError, ClosedError):
                lookahead.forget()  # the next claim looks by itself
                return
            await asyncio.sleep(time.monotonic() - began)

    async def _look_behind_once(self, kind: _Kind, lookahead: Lookahead) -> None:
        """Look from the beginning; what is found behind the places is announced, as if it came just now."""
        names, queues = kind
        asked = {
            "names": None if names is None else texts(names),
            "queues": None if queues is None else texts(queues),
        }
        since, began = dict(lookahead.places), time.monotonic()
        rows = await self._database.fetch(SQL["look_behind"], asked, repeat=True)
        now = time.monotonic()
        lanes = [((queue, name), (priority, seq)) for queue, name, priority, seq in rows]
        behind = lookahead.looked_beside(lanes, since=since, now=now, cost_s=now - began)
        if behind:
            await self._database.fetch(SQL["announce"], {"queues": sorted(behind)}, repeat=True)

    async def _stop_looking(self) -> None:
        tasks = [one.looking for one in self._lookaheads.values() if one.looking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, lookahead: Lookahead) -> None:
        rows = await self._database.fetch(SQL["find_better"], lookahead.probe(), rows="binary", repeat=True)
        better = [((queue, name), (priority, seq)) for queue, name, priority, seq in rows]
        lookahead.probed(better, now=time.monotonic())

    def _lookahead(self, kind: _Kind) -> _Memory:
        lookahead = self._lookaheads.get(kind)
        if lookahead is None:
            if len(self._lookaheads) >= _MOST_KINDS:
                self._lookaheads = {one: used for one, used in self._lookaheads.items() if used.is_looking}
            lookahead = self._lookaheads[kind] = _Memory()
        return lookahead

    async def claims_of(self, worker_id: WorkerId) -> list[ClaimedJob]:
        rows = await self._database.fetch(SQL["claims_of"], {"worker_id": worker_id}, repeat=True)
        return _claimed(rows, worker_id)

    async def promote_due(self, *, limit: int = 1000) -> DueReport:
        [(promoted, _, next_due_s)] = await self._database.fetch(SQL["promote_due"], {"limit": limit}, repeat=True)
        if promoted >= limit:
            return DueReport(promoted, 0.0)
        return DueReport(promoted, None if next_due_s is None else max(0.0, next_due_s))


_CLAIM = DirectStatement(SQL["claim"])
_CLAIM_ONLY_LANE = DirectStatement(SQL["claim_only_lane"])


def _asked(worker_id: WorkerId, kind: _Kind, limit: int) -> dict[str, str | None]:
    names, queues = _written(kind)
    return {"worker_id": worker_id, "names": names, "queues": queues, "limit": str(limit)}


@lru_cache(_MOST_KINDS)
def _written(kind: _Kind) -> tuple[str | None, ...]:
    return tuple(None if words is None else texts(words) for words in kind)


def _boolean(value: bool) -> str:  # noqa: FBT001  a conversion
    return "t" if value else "f"


def _place(row: _Row) -> tuple[tuple[str, str], tuple[int, int]]:
    return (row[_QUEUE], row[_NAME]), (row[_PRIORITY], row[_SEQ])


def _claimed(rows: list[_Row], worker_id: WorkerId) -> list[ClaimedJob]:
    rows.sort(key=_ORDER)
    return [
        ClaimedJob(Fence(JobId(job_id), worker_id, claim_no), name, args, queue, priority, *rest)
        for job_id, claim_no, name, args, queue, priority, *rest, _seq in rows
    ]
