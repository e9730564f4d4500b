"""A job on its last chance runs alone: whatever it does to its worker, no other job is blamed for it."""

from __future__ import annotations

import asyncio

from soniqd.model import JobId
from tests.support.waiting import eventually
from tests.unit.worker.rig import Rig


class Watch:
    """Which handlers run, and which ran beside each other."""

    def __init__(self, rig: Rig) -> None:
        self.running: set[str] = set()
        self.together: dict[str, set[str]] = {}
        self.order: list[str] = []
        self.go_on = asyncio.Event()
        rig.task(self.handle, name="work")

    async def handle(self, who: str, wait: bool = False) -> None:
        self.running.add(who)
        self.order.append(who)
        for name in self.running:
            self.together.setdefault(name, set()).update(self.running)
        if wait:
            await self.go_on.wait()
        await asyncio.sleep(0)
        self.running.discard(who)


async def crashed(rig: Rig, who: str, *, crashes: int) -> JobId:
    """Store a job under which workers died."""
    job_id = await rig.enqueue("work", {"who": who})
    for _ in range(crashes):
        worker = rig.worker()
        await rig.memory.register_worker(worker.record, names=("work",))
        claimed = await rig.memory.claim(worker.id, names=("work",), queues=None, limit=1)
        assert [job.fence.job_id for job in claimed] == [job_id]
        await rig.memory.release_workers([worker.id], cause="crash", max_crashes=3)
    return job_id


async def test_a_job_on_its_last_chance_runs_beside_no_other(rig: Rig):
    watch = Watch(rig)
    await crashed(rig, "suspect", crashes=2)
    for number in range(6):
        await rig.enqueue("work", {"who": f"other {number}"})
    await rig.run_once()
    assert watch.together["suspect"] == {"suspect"}
    assert len(watch.order) == 7


async def test_others_are_given_back_before_it_starts(rig: Rig):
    watch = Watch(rig)
    suspect = await rig.enqueue("work", {"who": "suspect", "wait": True})
    for _ in range(2):
        worker = rig.worker()
        await rig.memory.register_worker(worker.record, names=("work",))
        await rig.memory.claim(worker.id, names=("work",), queues=None, limit=1)
        await rig.memory.release_workers([worker.id], cause="crash", max_crashes=3)
    others = [await rig.enqueue("work", {"who": f"other {number}"}) for number in range(3)]
    async with rig.running():
        await eventually(lambda: watch.running == {"suspect"})
        assert [await rig.status(job_id) for job_id in others] == ["queued"] * 3
        watch.go_on.set()
        for job_id in (suspect, *others):
            await rig.until(job_id, "done")


async def test_it_waits_for_what_runs_already(rig: Rig):
    watch = Watch(rig)
    suspect = await crashed(rig, "suspect", crashes=2)
    await rig.memory.cancel_job(suspect)
    await rig.enqueue("work", {"who": "long", "wait": True})
    async with rig.running() as worker:
        await eventually(lambda: watch.running == {"long"})
        late = await rig.enqueue("work", {"who": "late suspect"}, priority=1)
        other = rig.worker()
        await rig.memory.register_worker(other.record, names=("work",))
        for _ in range(2):
            await rig.memory.claim(other.id, names=("work",), queues=None, limit=1)
            await rig.memory.release_workers([other.id], cause="crash", max_crashes=3)
            other = rig.worker()
            await rig.memory.register_worker(other.record, names=("work",))
        worker.wake()
        await rig.until(late, "processing")
        assert watch.running == {"long"}
        watch.go_on.set()
        await rig.until(late, "done")
    assert watch.together["late suspect"] == {"late suspect"}


async def test_a_drain_gives_a_waiting_suspect_back(rig: Rig):
    watch = Watch(rig)
    await rig.enqueue("work", {"who": "long", "wait": True})
    async with rig.running() as worker:
        await eventually(lambda: watch.running == {"long"})
        late = await crashed(rig, "suspect", crashes=2)
        worker.wake()
        await rig.until(late, "processing")
        worker.drain(5)
        await rig.until(late, "queued")
        watch.go_on.set()


async def test_a_job_that_crashed_once_runs_beside_others(rig: Rig):
    watch = Watch(rig)
    await crashed(rig, "once", crashes=1)
    await rig.enqueue("work", {"who": "other", "wait": True})
    async with rig.running():
        await eventually(lambda: "once" in watch.order and watch.running == {"other"})
        watch.go_on.set()
