"""A hundred workers on twenty queues: as many are woken as there is work for, and no more."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial

from soniqd.policy.waking import Sleeper
from soniqd.supervisor.waker import Waker
from soniqd.worker import Worker
from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig

QUEUES = tuple(f"q{n}" for n in range(20))
WORKERS_OF_A_QUEUE = 5


class Host:
    """What a master does for its workers' wake-ups, with the workers in this process."""

    def __init__(self, rig: Rig, *, concurrency: int) -> None:
        self.woken: Counter[str] = Counter()
        self.workers: dict[str, Worker] = {}
        self._rig = rig
        rig.supervised = True
        for queue in QUEUES * WORKERS_OF_A_QUEUE:
            worker = rig.worker(concurrency=concurrency, queues=(queue,), poll_interval_s=600.0)
            self.workers[worker.id] = worker
        self._waker = Waker(rig.memory, self, wake=self._wake)
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def running(self):
        for worker_id, worker in self.workers.items():
            worker.on_more = lambda worker_id=worker_id: self._waker.more(worker_id)
            self._tasks.append(asyncio.create_task(worker.run()))
        await eventually(lambda: self._rig.backend.count("claim") >= len(self.workers))
        self._waker.start()
        await eventually(lambda: self._waker._wake_ups is not None)
        await asyncio.sleep(0)
        self.woken.clear()
        self._rig.backend.calls.clear()
        try:
            yield self
        finally:
            await self._waker.close()
            for worker in self.workers.values():
                worker.drain(0)
            await asyncio.gather(*self._tasks)

    @property
    def claims(self) -> int:
        return self._rig.backend.count("claim")

    def sleepers(self) -> list[Sleeper]:
        return [_sleeper(worker) for worker in self.workers.values()]

    def sleeper(self, worker_id: str) -> Sleeper | None:
        return _sleeper(self.workers[worker_id])

    def _wake(self, worker_id: str) -> None:
        self.woken[worker_id] += 1
        self.workers[worker_id].wake()


def _sleeper(worker: Worker) -> Sleeper:
    state = worker.state()
    return Sleeper(worker.id, worker.record.queues, state.free, state.in_flight, state.done + state.in_flight, 0)


async def test_a_job_wakes_one_worker_and_costs_one_claim():
    rig = Rig()
    ended = []

    @rig.task
    async def job(n: int):
        ended.append(n)

    async with Host(rig, concurrency=10).running() as host:
        for n in range(200):
            await rig.enqueue("job", {"n": n}, queue=QUEUES[n % len(QUEUES)])
            await eventually(partial(ended.__contains__, n))
        assert host.woken.total() <= 200
        assert host.claims <= 210


async def test_a_flood_wakes_no_more_workers_than_it_needs():
    rig = Rig()
    ended = []

    @rig.task
    async def job(n: int):
        ended.append(n)

    async with Host(rig, concurrency=10).running() as host:
        await asyncio.gather(*(rig.enqueue("job", {"n": n}, queue=QUEUES[n % len(QUEUES)]) for n in range(2000)))
        await eventually(lambda: len(ended) == 2000)
        assert host.woken.total() <= 400
        assert host.claims <= 800


async def test_all_workers_of_one_queue_get_work_while_those_of_others_sleep():
    rig = Rig()
    running, go = [], asyncio.Event()

    @rig.task
    async def job(n: int):
        running.append(n)
        await go.wait()

    async with Host(rig, concurrency=1).running() as host:
        await asyncio.gather(*(rig.enqueue("job", {"n": n}, queue="q7") for n in range(WORKERS_OF_A_QUEUE)))
        await eventually(lambda: len(running) == WORKERS_OF_A_QUEUE)
        awake = {host.workers[worker_id].record.queues for worker_id in host.woken}
        go.set()
        assert awake == {("q7",)}
