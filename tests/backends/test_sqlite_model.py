"""Random histories: SQLite answers exactly as the memory backend does, step by step."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from soniqd.backends import JobFilter, StorageBackend
from soniqd.backends.memory import MemoryBackend
from soniqd.backends.sqlite import SQLiteBackend
from soniqd.model import (
    ClaimedJob,
    DeadLettered,
    Done,
    JobId,
    NewJob,
    Outcome,
    Released,
    Retry,
    Snoozed,
    WorkerId,
    WorkerStatus,
)
from tests.backends.conformance.builders import worker_record

QUEUES = ("q1", "q2")
NAMES = ("a", "b")
OUTCOMES: dict[str, Callable[[ClaimedJob], Outcome]] = {
    "done": lambda one: Done(one.fence, '{"r": 1}', 100.0),
    "done, not kept": lambda one: Done(one.fence, None, 0.0),
    "retry": lambda one: Retry(one.fence, 0.0, "boom"),
    "retry later": lambda one: Retry(one.fence, 5.0, "boom"),
    "snooze": lambda one: Snoozed(one.fence, 5.0, "busy"),
    "dead": lambda one: DeadLettered(one.fence, "max_retries", "boom"),
    "unused": lambda one: Released(one.fence, interrupted=False),
    "interrupted": lambda one: Released(one.fence, interrupted=True),
}


class SameHistory(RuleBasedStateMachine):
    """Does everything to both and compares what they say. Fences are kept for ever: most of them become stale."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_800_000_000.0
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory(prefix="soniqd-model-")
        self.memory = MemoryBackend(clock=lambda: self.time)
        self.sqlite = SQLiteBackend(Path(self.folder.name) / "jobs.db", clock=lambda: self.time)
        self.number = 0
        self.workers: list[WorkerId] = []
        self.claimed: list[ClaimedJob] = []

    def both(self, ask: Callable[[StorageBackend], Awaitable[Any]]) -> Any:
        async def answers() -> tuple[Any, Any]:
            return await ask(self.memory), await ask(self.sqlite)

        from_memory, from_sqlite = self.runner.run(answers())
        assert from_sqlite == from_memory
        return from_memory

    def new_id(self) -> str:
        self.number += 1
        return f"00000000-0000-0000-0000-{self.number:012d}"

    @initialize()
    def open(self) -> None:
        self.runner.run(self.sqlite.open())

    def teardown(self) -> None:
        self.runner.run(self.sqlite.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(
        name=st.sampled_from(NAMES),
        queue=st.sampled_from(QUEUES),
        priority=st.integers(1, 3),
        delay_s=st.sampled_from([None, -1.0, 3.0]),
        dedup_key=st.sampled_from([None, None, "k1", "k2"]),
        unique=st.booleans(),
        count=st.integers(1, 3),
    )
    def enqueue(self, count: int, **values: Any) -> None:
        jobs = [NewJob(JobId(self.new_id()), args_json="{}", args_hash="h", **values) for _ in range(count)]
        self.both(lambda backend: backend.enqueue(jobs))

    @rule()
    def register(self) -> None:
        record = worker_record(id=WorkerId(self.new_id()))
        self.both(lambda backend: backend.register_worker(record, names=NAMES))
        self.workers.append(record.id)

    @rule(
        which=st.integers(0, 5),
        names=st.sampled_from([None, ("a",), ("b", "a"), ()]),
        queues=st.sampled_from([None, ("q1",), ("q2", "q1")]),
        limit=st.integers(1, 5),
    )
    def claim(self, which: int, names: Any, queues: Any, limit: int) -> None:
        if self.workers:
            claimer = self.workers[which % len(self.workers)]
            self.claimed += self.both(lambda backend: backend.claim(claimer, names=names, queues=queues, limit=limit))

    @rule(picks=st.lists(st.tuples(st.integers(0, 50), st.sampled_from(sorted(OUTCOMES))), min_size=1, max_size=4))
    def complete(self, picks: list[tuple[int, str]]) -> None:
        if self.claimed:
            outcomes = [OUTCOMES[kind](self.claimed[-1 - n % len(self.claimed)]) for n, kind in picks]
            self.both(lambda backend: backend.complete(outcomes))
            self.both(lambda backend: backend.settled(outcomes))

    @rule(
        which=st.integers(0, 5),
        cause=st.sampled_from(["crash", "interrupted"]),
        ran=st.none() | st.sets(st.integers(0, 10)),
    )
    def release(self, which: int, cause: Any, ran: set[int] | None) -> None:
        if self.workers:
            gone = [self.workers[which % len(self.workers)]]
            ids = [job.fence.job_id for job in self.claimed]
            blamed = None if ran is None else {ids[-1 - n % len(ids)] for n in ran if ids}
            self.both(
                lambda backend: backend.release_workers(gone, cause=cause, max_crashes=2, error="killed", blamed=blamed)
            )

    @rule(which=st.integers(0, 5), status=st.sampled_from(list(WorkerStatus)))
    def change_status(self, which: int, status: WorkerStatus) -> None:
        if self.workers:
            self.both(lambda backend: backend.set_worker_status([self.workers[which % len(self.workers)]], status))

    @rule()
    def heartbeat(self) -> None:
        self.both(lambda backend: backend.heartbeat(self.workers[::2]))

    @rule()
    def sweep(self) -> None:
        self.both(lambda backend: backend.sweep(heartbeat_timeout_s=10.0, max_crashes=2))

    @rule(seconds=st.sampled_from([1.0, 4.0, 20.0]))
    def pass_time(self, seconds: float) -> None:
        self.time += seconds

    @rule(limit=st.integers(1, 5))
    def promote(self, limit: int) -> None:
        self.both(lambda backend: backend.promote_due(limit=limit))

    @rule(number=st.integers(1, 60))
    def cancel(self, number: int) -> None:
        self.both(lambda backend: backend.cancel_job(JobId(f"00000000-0000-0000-0000-{number:012d}")))

    @rule(number=st.integers(1, 60))
    def delete(self, number: int) -> None:
        self.both(lambda backend: backend.delete_job(JobId(f"00000000-0000-0000-0000-{number:012d}")))

    @rule(number=st.integers(1, 60))
    def replay(self, number: int) -> None:
        fresh = JobId(self.new_id())
        old = JobId(f"00000000-0000-0000-0000-{number:012d}")
        self.both(lambda backend: backend.replay_dead_letter(old, fresh))

    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        self.both(lambda backend: backend.set_queue_paused(queue, paused=paused))

    @rule()
    def prune(self) -> None:
        self.both(lambda backend: backend.prune())

    @invariant()
    def everything_is_the_same(self) -> None:
        if self.number:
            self.both(lambda backend: backend.list_jobs(JobFilter(limit=1000)))
            self.both(lambda backend: backend.list_queues())
            self.both(lambda backend: backend.list_workers())


TestSameHistory = SameHistory.TestCase
TestSameHistory.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
