"""Writes outcomes, many at once.

One write is under way at a time; what ends meanwhile goes with the next one, so that batches grow with the load by
themselves. An outcome leaves only when the database has it, or has shown that the job belongs to somebody else:

* connection lost: the batch is written again for as long as it takes, and ``settled`` tells outcomes that had been
  written before the connection broke from refused ones;
* refused for what it holds: a plain outcome is written in its place (no result, a plain error text);
* not changed: the fence was lost. Logged, counted, forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from soniqd.backends import StorageBackend
from soniqd.errors import DatabaseError, OutcomeRefusedError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model import DeadLettered, Done, JobId, Outcome, Released, Retry, Snoozed
from soniqd.worker.bell import Bell
from soniqd.worker.options import WorkerOptions
from soniqd.worker.outage import Outage
from soniqd.worker.run import Run

Entry = tuple[Outcome, Run | None]
Settled = Callable[[Sequence[Entry]], None]

_FEW = 16
_PLAIN_ERROR = "the database refused the error text of this attempt"


class Completer:
    """Gathers outcomes; ``on_written`` is called with those that the database has taken, in bulk."""

    def __init__(
        self,
        *,
        backend: StorageBackend,
        outage: Outage,
        options: WorkerOptions,
        on_written: Settled,
        on_room: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._outage = outage
        self._options = options
        self._on_written = on_written
        self._on_room = on_room
        self._pending: list[Entry] = []
        self._writing: list[Entry] = []
        self._bell = Bell()
        self._empty = Bell()
        self._closing = False
        self.fenced = 0

    @property
    def backlog(self) -> int:
        """Outcomes that are not in the database yet."""
        return len(self._pending) + len(self._writing)

    @property
    def is_full(self) -> bool:
        return self.backlog >= self._options.write_backlog_max

    def add(self, outcome: Outcome, run: Run | None) -> None:
        """Take an outcome; returns at once."""
        self._pending.append((outcome, run))
        if len(self._pending) == 1 or len(self._pending) == self._options.write_batch:
            self._bell.ring()

    def jobs(self) -> set[tuple[str, int]]:
        """Name every claim whose outcome is on its way: (job id, claim number)."""
        fences = [outcome.fence for outcome, _ in (*self._writing, *self._pending)]
        return {(fence.job_id, fence.claim_no) for fence in fences}

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            if not self._pending:
                await self._bell.wait()
                continue
            self._writing = self._take()
            await self._flush(self._writing)
            self._writing = []
            self._on_room()
            if not self._pending:
                self._empty.ring()
            elif _FEW <= len(self._pending) < self._options.write_batch and not self._closing:
                self._bell.hush()
                await self._bell.wait(self._options.write_linger_s)

    async def wait_empty(self, timeout_s: float) -> bool:
        """Wait until everything is written; False after ``timeout_s``."""
        self._closing = True
        self._bell.ring()
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while self.backlog:
            left = end - loop.time()
            if left <= 0:
                return False
            await self._empty.wait(left)
        return True

    def _take(self) -> list[Entry]:
        batch = self._pending[: self._options.write_batch]
        self._pending = self._pending[self._options.write_batch :]
        return batch

    async def _flush(self, batch: list[Entry]) -> None:
        outcomes = [outcome for outcome, _ in batch]
        changed = await self._write(outcomes)
        if len(changed) == len(outcomes):
            self._on_written(batch)
            return
        self._on_written([entry for entry in batch if entry[0].fence.job_id in changed])
        for outcome in outcomes:
            if outcome.fence.job_id not in changed:
                self._report_fenced(outcome)

    async def _write(self, outcomes: list[Outcome]) -> frozenset[JobId]:
        """Return the jobs whose outcome is in the database, as it was or a plain one in its place."""
        changed: frozenset[JobId] = frozenset()
        left = outcomes
        repeated = False
        while True:
            try:
                if left:
                    changed |= await self._backend.complete(left)
                    left = []
                missing = [outcome for outcome in outcomes if outcome.fence.job_id not in changed] if repeated else ()
                if missing:
                    changed |= await self._backend.settled(missing)
            except OutcomeRefusedError as error:
                changed |= frozenset(map(JobId, error.changed))
                left = await self._replacements(left, error)
            except DatabaseError as error:
                repeated = True
                self._outage.lost(error, writing=True)
                await self._outage.pause()
            else:
                self._outage.back(writing=True)
                return changed

    async def _replacements(self, outcomes: list[Outcome], error: OutcomeRefusedError) -> list[Outcome]:
        """Return what to write instead of refused outcomes; what is plain already waits for the database to change."""
        refused = [outcome for outcome in outcomes if outcome.fence.job_id in error.refused]
        plain = [_plain(outcome) for outcome in refused]
        if plain == refused:
            self._outage.lost(error, writing=True)
            await self._outage.pause()
            return plain
        for outcome in refused:
            reason = redact(error.refused[outcome.fence.job_id])
            emit(catalogue.OUTCOME_REFUSED, job_id=outcome.fence.job_id, outcome=_word(outcome), error=reason)
        return plain

    def _report_fenced(self, outcome: Outcome) -> None:
        self.fenced += 1
        emit(
            catalogue.JOB_FENCED,
            job_id=outcome.fence.job_id,
            worker_id=outcome.fence.worker_id,
            outcome=_word(outcome),
        )


def _plain(outcome: Outcome) -> Outcome:
    match outcome:
        case Done():
            return outcome._replace(result_json=None)
        case Retry() | DeadLettered():
            return replace(outcome, error=_PLAIN_ERROR)
        case Snoozed():
            return replace(outcome, reason=None)
        case Released():
            return outcome


def _word(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()
