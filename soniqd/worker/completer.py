"""Writes outcomes, many at once.

One write is under way at a time; what ends meanwhile goes with the next one, so that batches grow with the load by
themselves. An outcome leaves only when the database has it, or has shown that the job belongs to somebody else:

* connection lost: the batch is written again for as long as it takes, and ``settled`` tells outcomes that had been
  written before the connection broke from refused ones;
* a batch refused for what is in it: each outcome is written alone, and the one that the database does not take is
  replaced by a plain one (no result, a plain error text);
* not changed: the fence was lost. Logged, counted, forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from soniqd.backends import StorageBackend
from soniqd.errors import DatabaseError, DatabaseUnavailableError
from soniqd.log import catalogue, emit
from soniqd.log.redact import redact
from soniqd.model import DeadLettered, Done, JobId, Outcome, Released, Retry, Snoozed
from soniqd.worker.bell import Bell
from soniqd.worker.options import WorkerOptions
from soniqd.worker.outage import Outage
from soniqd.worker.run import Run

Entry = tuple[Outcome, Run | None]
Settled = Callable[[Sequence[Entry]], None]

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
            elif len(self._pending) < self._options.write_batch and not self._closing:
                # Under load the next outcomes are a moment away; alone, the first one was written without a wait.
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
        """Return the jobs whose outcome is in the database."""
        broken = False
        while True:
            try:
                changed = await self._backend.complete(outcomes)
                if broken and len(changed) < len(outcomes):
                    missing = [outcome for outcome in outcomes if outcome.fence.job_id not in changed]
                    changed |= await self._backend.settled(missing)
            except DatabaseUnavailableError as error:
                broken = True
                self._outage.lost(error)
                await self._outage.pause()
            except DatabaseError as error:
                if len(outcomes) > 1:
                    return await self._write_each(outcomes)
                outcomes = [await self._replacement(outcomes[0], error)]
            else:
                self._outage.back()
                return changed

    async def _write_each(self, outcomes: list[Outcome]) -> frozenset[JobId]:
        changed: frozenset[JobId] = frozenset()
        for outcome in outcomes:
            changed |= await self._write([outcome])
        return changed

    async def _replacement(self, outcome: Outcome, error: DatabaseError) -> Outcome:
        """Return what to write in an outcome's place; what is plain already waits for the database to be mended."""
        plain = _plain(outcome)
        if plain == outcome:
            self._outage.lost(error)
            await self._outage.pause()
        else:
            emit(
                catalogue.OUTCOME_REFUSED,
                job_id=outcome.fence.job_id,
                outcome=_word(outcome),
                error=redact(f"{type(error).__name__}: {error}"),
            )
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
            return replace(outcome, result_json=None)
        case Retry() | DeadLettered():
            return replace(outcome, error=_PLAIN_ERROR)
        case Snoozed():
            return replace(outcome, reason=None)
        case Released():
            return outcome


def _word(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()
