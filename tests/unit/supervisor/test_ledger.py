"""The master's duties towards the database, against the backend in memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from soniqd.backends import PruneReport, SweepReport
from soniqd.backends.memory import MemoryBackend
from soniqd.control.identity import current_identity, group_members
from soniqd.errors import DatabaseError, DatabaseUnavailableError, SchemaError
from soniqd.model import Done, JobId, NewJob, ProcessIdentity, WorkerId, WorkerRecord
from soniqd.model.wear import TableWear
from soniqd.policy.vacuuming import ENDED_FROM
from soniqd.supervisor.ledger import Ledger, LedgerTimes, PendingRelease
from tests.support.processes import Process, find_process
from tests.support.waiting import eventually

TIMES = LedgerTimes(heartbeat_interval_s=0.02, heartbeat_timeout_s=300, sweep_interval_s=0.05, max_crashes=3)


class Flaky(MemoryBackend):
    """A database that can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.has_tables = True
        self.heartbeats: list[list[WorkerId]] = []
        self.looked = 0

    async def release_workers(self, *args: Any, **kwargs: Any) -> Any:
        self._check()
        return await super().release_workers(*args, **kwargs)

    async def heartbeat(self, workers: Any) -> Any:
        self._check()
        self.heartbeats.append(list(workers))
        return await super().heartbeat(workers)

    async def ping(self) -> None:
        self._check()

    async def check_schema(self) -> None:
        self._check()
        if not self.has_tables:
            raise SchemaError("cannot use the database: run soniqctl setup")

    async def host_leftovers(self, machine_id: str, hostname: str) -> Any:
        self._check()
        self.looked += 1
        return await super().host_leftovers(machine_id, hostname)

    async def sweep(self, **kwargs: Any) -> Any:
        self._check()
        return await super().sweep(**kwargs)

    def _check(self) -> None:
        if self.away:
            raise DatabaseUnavailableError("cannot connect: away")


class Host:
    """A ledger with what surrounds it in a master."""

    def __init__(self) -> None:
        self.backend = Flaky()
        self.living: list[WorkerId] = []
        self.disowned: list[WorkerId] = []
        self.ended = 0
        self.ledger = Ledger(
            self.backend,
            TIMES,
            living=lambda: list(self.living),
            on_disowned=self.disowned.append,
            ended=lambda: self.ended,
        )

    async def worker(
        self, *, pid: int | None = None, start_ticks: int = 1, alive: bool = True, master: Process | None = None
    ) -> WorkerId:
        """Register a worker of this host that holds one job; without a pid it is this very process."""
        worker_id = WorkerId(str(uuid.uuid4()))
        here = current_identity()
        process = here if pid is None else replace(here, pid=pid, start_ticks=start_ticks)
        await self.backend.open()
        known = {} if master is None else {"master": {"pid": master.pid, "start_ticks": master.start_ticks}}
        record = WorkerRecord(worker_id, process, queues=(), concurrency=1, metadata=known)
        await self.backend.register_worker(record, names=["job"])
        await self.backend.enqueue([NewJob(JobId(str(uuid.uuid4())), "job", "{}")])
        assert await self.backend.claim(worker_id, names=["job"], queues=None, limit=1)
        if alive:
            self.living.append(worker_id)
        return worker_id

    async def has_no_workers(self) -> bool:
        return await self.backend.list_workers() == []

    async def queued(self) -> int:
        return sum(row["queued"] for row in await self.backend.queue_stats())


def a_dead_leader_with_a_member() -> tuple[Process, Process]:
    """A process that led a group and was killed, and the one that it had started, which is still there."""
    leader = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 600 >/dev/null & echo $!; wait"], stdout=subprocess.PIPE, process_group=0
    )
    assert leader.stdout is not None
    with leader.stdout:
        member = find_process(int(leader.stdout.readline()))
    led_by = find_process(leader.pid)
    assert member is not None
    assert led_by is not None
    leader.kill()
    leader.wait()
    return led_by, member


@pytest.fixture
def stranger() -> Iterator[Process]:
    """A process of this host that is no child of the master under test."""
    pid = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
    process = find_process(pid)
    assert process is not None
    yield process
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    yield host
    await host.ledger.finish(0.1)
    await host.backend.close()


async def test_a_dead_workers_jobs_are_given_back(host):
    worker_id = await host.worker(alive=False)
    host.living.append(worker_id)  # not yet known to be dead: leftovers must not take it
    host.ledger.start()
    host.living.clear()
    host.ledger.release(PendingRelease(worker_id, "default/1", "crash", "killed"))
    await eventually(host.queued)
    assert host.ledger.pending_releases == 0


async def test_a_release_is_remembered_while_the_database_is_away(host):
    worker_id = await host.worker()
    host.backend.away = True
    host.ledger.start()
    host.ledger.release(PendingRelease(worker_id, "default/1", "crash", "killed"))
    await eventually(lambda: host.ledger.up is False)
    assert host.ledger.pending_releases == 1
    host.backend.away = False
    await eventually(lambda: host.ledger.pending_releases == 0)
    assert await host.queued() == 1
    assert host.ledger.up is True


async def test_one_heartbeat_serves_all_workers(host):
    workers = [await host.worker(), await host.worker()]
    host.ledger.start()
    await eventually(lambda: host.backend.heartbeats)
    assert set(host.backend.heartbeats[0]) == set(workers)


async def test_a_worker_that_another_host_declared_lost_is_disowned(host):
    worker_id = await host.worker()
    await host.backend.release_workers([worker_id], cause="crash", max_crashes=3)
    host.ledger.start()
    await eventually(lambda: worker_id in host.disowned)


async def test_what_an_earlier_master_left_is_released_at_the_start(host):
    await host.worker(pid=2**22 - 3, alive=False)
    host.ledger.start()
    await eventually(host.queued)


async def test_own_living_workers_are_no_leftovers(host):
    await host.worker()
    host.ledger.start()
    await eventually(lambda: len(host.backend.heartbeats) > 5)
    assert await host.queued() == 0


async def test_looking_for_what_dead_workers_have_started_keeps_the_loop_from_nothing(host, monkeypatch):
    looked_in: list[threading.Thread] = []

    def look(leader: ProcessIdentity) -> list[ProcessIdentity]:
        looked_in.append(threading.current_thread())
        return group_members(leader)

    monkeypatch.setattr("soniqd.supervisor.leftovers.group_members", look)
    await host.worker(pid=2**22 - 3, alive=False)
    host.ledger.start()
    await eventually(host.queued)
    assert looked_in
    assert threading.main_thread() not in looked_in


async def test_an_orphan_that_still_lives_keeps_its_job_until_it_ends(host, stranger):
    await host.worker(pid=stranger.pid, start_ticks=stranger.start_ticks, alive=False)
    host.ledger.start()
    await eventually(lambda: stranger.pid in host.ledger._foreign.awaited)
    assert await host.queued() == 0
    stranger.kill()
    await eventually(host.queued)


async def test_a_dead_worker_of_another_living_master_is_released_only_after_that_ends(host, stranger):
    await host.worker(pid=2**22 - 3, alive=False, master=stranger)
    host.ledger.start()
    await eventually(lambda: stranger.pid in host.ledger._foreign.awaited)
    await eventually(lambda: host.backend.looked > 3)
    assert await host.queued() == 0
    stranger.kill()
    await eventually(host.queued)


async def test_what_a_dead_workers_jobs_left_running_is_ended_before_they_are_given_back(host, monkeypatch):
    leader, member = a_dead_leader_with_a_member()
    alive_at_release: list[bool] = []
    real = host.backend.release_workers

    async def release_workers(workers: Any, **kwargs: Any) -> Any:
        alive_at_release.append(member.alive)
        return await real(workers, **kwargs)

    monkeypatch.setattr(host.backend, "release_workers", release_workers)
    try:
        await host.worker(pid=leader.pid, start_ticks=leader.start_ticks, alive=False)
        host.ledger.start()
        await eventually(host.queued)
        assert alive_at_release == [False]
    finally:
        member.kill()


async def test_what_a_worker_without_jobs_left_running_is_left_alone(host):
    leader, member = a_dead_leader_with_a_member()
    try:
        worker_id = await host.worker(pid=leader.pid, start_ticks=leader.start_ticks, alive=False)
        [job] = await host.backend.claims_of(worker_id)
        await host.backend.complete([Done(job.fence, result_json=None, result_ttl_s=0)])
        host.ledger.start()
        await eventually(host.has_no_workers)
        assert member.alive
    finally:
        member.kill()


async def test_a_defect_in_a_duty_is_told_and_does_not_end_it(host, caplog, monkeypatch):
    monkeypatch.setattr("soniqd.supervisor.ledger._ERROR_PAUSE_S", 0.01)
    await host.worker()
    broken = [RuntimeError("defect")]
    real = host.backend.heartbeat

    async def heartbeat(workers: Any) -> Any:
        if broken:
            raise broken.pop()
        return await real(workers)

    monkeypatch.setattr(host.backend, "heartbeat", heartbeat)
    host.ledger.start()
    await eventually(lambda: host.backend.heartbeats)
    assert any(getattr(record, "event", "") == "duty_failed" for record in caplog.records)


async def test_a_release_that_is_refused_does_not_hold_up_the_others(host, monkeypatch):
    refused, good = await host.worker(), await host.worker()
    real = host.backend.release_workers

    async def release_workers(workers: Any, **kwargs: Any) -> Any:
        if refused in workers:
            raise DatabaseError("cannot release: no")
        return await real(workers, **kwargs)

    monkeypatch.setattr(host.backend, "release_workers", release_workers)
    host.ledger.start()
    host.ledger.release(PendingRelease(refused, "default/1", "crash", "killed"))
    host.ledger.release(PendingRelease(good, "default/2", "crash", "killed"))
    await eventually(host.queued)
    assert host.ledger.pending_releases == 1


async def test_nobody_is_swept_before_the_own_heartbeat_is_steady(host, monkeypatch):
    monkeypatch.setattr("soniqd.policy.sweep.RECONNECT_S", 0.3)
    swept_s: list[float] = []
    began_s = time.monotonic()

    async def sweep(**kwargs: Any) -> SweepReport:
        swept_s.append(time.monotonic() - began_s)
        return SweepReport(ran=False)

    monkeypatch.setattr(host.backend, "sweep", sweep)
    host.ledger.start()
    await eventually(lambda: swept_s)
    assert swept_s[0] >= 0.3


async def test_what_nobody_needs_is_deleted_batch_by_batch_until_nothing_is_left(host, monkeypatch):
    """One batch at each sweep let the history of a busy fleet grow for ever."""
    monkeypatch.setattr("soniqd.policy.pruning.PRUNE_BATCH", 10)
    monkeypatch.setattr("soniqd.supervisor.ledger.PRUNE_BATCH", 10)
    host.ledger.times = replace(TIMES, sweep_interval_s=300)
    expired = 95
    batches: list[int] = []

    async def prune(*, limit: int) -> PruneReport:
        nonlocal expired
        batches.append(min(limit, expired))
        expired -= batches[-1]
        return PruneReport(history=batches[-1])

    monkeypatch.setattr(host.backend, "prune", prune)
    host.ledger.start()
    await eventually(lambda: expired == 0)
    assert batches == [10] * 9 + [5]


async def test_each_sweep_is_followed_by_a_deletion(host, monkeypatch):
    pruned: list[int] = []

    async def prune(*, limit: int) -> PruneReport:
        pruned.append(limit)
        return PruneReport()

    monkeypatch.setattr(host.backend, "prune", prune)
    monkeypatch.setattr("soniqd.policy.sweep.RECONNECT_S", 0.0)
    host.ledger.start()
    await eventually(lambda: len(pruned) > 2)


async def test_dead_rows_are_looked_at_when_jobs_have_ended_and_only_then(host, monkeypatch):
    monkeypatch.setattr("soniqd.supervisor.ledger.LOOK_EVERY_S", 0.001)
    looks, hearts = [], host.backend.heartbeats

    async def wear() -> TableWear:
        looks.append(host.ended)
        return TableWear(0, 0, 0, None, 10, 10)

    monkeypatch.setattr(host.backend, "wear", wear)
    host.living.append(WorkerId(str(uuid.uuid4())))
    host.ledger.start()
    await eventually(lambda: len(hearts) > 3)
    assert looks == []
    host.ended = ENDED_FROM
    await eventually(lambda: looks)
    begun = len(hearts)
    await eventually(lambda: len(hearts) > begun + 3)
    assert looks == [ENDED_FROM]


async def test_a_vacuum_under_way_ends_with_the_duties(host, monkeypatch):
    monkeypatch.setattr("soniqd.supervisor.ledger.LOOK_EVERY_S", 0.001)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wear() -> TableWear:
        return TableWear(0, 1_000_000, 0, None, 10, 10)

    async def vacuum() -> bool:
        begun.set()
        try:
            return await asyncio.Future()
        finally:
            ended.set()

    monkeypatch.setattr(host.backend, "wear", wear)
    monkeypatch.setattr(host.backend, "vacuum", vacuum)
    host.ended = ENDED_FROM
    host.ledger.start()
    await asyncio.wait_for(begun.wait(), 10)
    await asyncio.wait_for(host.ledger.finish(0.1), 10)
    assert ended.is_set()


async def test_a_vacuum_that_an_outage_ends_is_no_word_of_the_database_being_there(host, monkeypatch, caplog):
    caplog.set_level("INFO", logger="soniqd")
    monkeypatch.setattr("soniqd.supervisor.ledger.LOOK_EVERY_S", 0.001)
    failed = asyncio.Event()

    async def wear() -> TableWear:
        return TableWear(0, 1_000_000, 0, None, 10, 10)

    async def vacuum() -> bool:
        host.backend.away = True
        await eventually(lambda: host.ledger.database == "down")
        asyncio.get_running_loop().call_later(0.0, failed.set)
        raise DatabaseUnavailableError("cannot vacuum the table of jobs: away")

    monkeypatch.setattr(host.backend, "wear", wear)
    monkeypatch.setattr(host.backend, "vacuum", vacuum)
    host.ended = ENDED_FROM
    host.ledger.start()
    await asyncio.wait_for(failed.wait(), 10)
    assert [record.event for record in caplog.records] == ["database_up", "database_down"]


# -- what is told of the database


async def test_nothing_is_known_of_the_database_before_it_has_answered_or_refused(host: Host) -> None:
    fresh = Host()
    assert (fresh.ledger.database, fresh.ledger.problem) == ("connecting", None)
    fresh.backend.away = True
    fresh.ledger.start()
    try:
        await eventually(lambda: fresh.ledger.database == "down")
        fresh.backend.away = False
        await eventually(lambda: fresh.ledger.database == "up")
    finally:
        await fresh.ledger.finish(0.1)


async def test_missing_tables_are_told_once_and_nothing_is_said_to_be_up_before_they_are_there(caplog) -> None:
    caplog.set_level("INFO", logger="soniqd")
    host = Host()
    host.backend.has_tables = False
    host.ledger.start()
    try:
        await eventually(lambda: host.ledger.problem)
        assert host.ledger.database == "down"
        host.backend.away = True
        await eventually(lambda: host.ledger.problem is None)
        host.backend.away = False
        await eventually(lambda: host.ledger.problem)
        told = [record.event for record in caplog.records]
        assert set(told) == {"database_unusable"}
        host.backend.has_tables = True
        await eventually(lambda: host.ledger.database == "up")
    finally:
        await host.ledger.finish(0.1)
    assert host.ledger.problem is None
    assert [record.event for record in caplog.records][len(told) :] == ["database_up"]
