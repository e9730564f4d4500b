"""A job under which a worker died runs alone: whatever it does to the next one, no other job is blamed for it."""

from __future__ import annotations

import asyncio

import pytest

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


async def crashed(rig: Rig, who: str, *, crashes: int, priority: int = 100) -> JobId:
    """Store a job under which workers died; of several, the next needs the lower number."""
    job_id = await rig.enqueue("work", {"who": who}, priority=priority)
    for _ in range(crashes):
        worker = rig.worker()
        await rig.memory.register_worker(worker.record, names=("work",))
        claimed = await rig.memory.claim(worker.id, names=("work",), queues=None, limit=1)
        assert [job.fence.job_id for job in claimed] == [job_id]
        await rig.memory.release_workers([worker.id], cause="crash", max_crashes=3)
    return job_id


@pytest.mark.parametrize("crashes", [1, 2])
async def test_a_job_under_which_a_worker_died_runs_beside_no_other(rig: Rig, crashes: int):
    watch = Watch(rig)
    await crashed(rig, "suspect", crashes=crashes)
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


async def test_several_suspects_run_one_after_the_other(rig: Rig):
    watch = Watch(rig)
    for number in range(3):
        await crashed(rig, f"suspect {number}", crashes=1, priority=90 - number)
    await rig.enqueue("work", {"who": "other"})
    await rig.run_once()
    assert [watch.together[f"suspect {number}"] for number in range(3)] == [{f"suspect {n}"} for n in range(3)]
    assert len(watch.order) == 4


class Notes:
    """A board that remembers, and what was on it whenever a handler ran."""

    def __init__(self) -> None:
        self.slots: dict[int, str] = {}
        self.seen: list[set[str]] = []
        self._next = 0

    def look(self) -> None:
        pass

    def begin(self, job_id: str) -> int | None:
        self._next += 1
        self.slots[self._next] = job_id
        return self._next

    def end(self, slot: int | None) -> None:
        assert slot is not None
        del self.slots[slot]


async def test_a_job_is_on_the_board_while_its_code_runs_and_only_then(rig: Rig):
    notes, go_on = Notes(), asyncio.Event()
    rig.extra["board"] = notes

    async def wait() -> None:
        await go_on.wait()

    def look() -> None:
        notes.seen.append(set(notes.slots.values()))

    rig.task(wait, name="wait")
    rig.task(look, name="threaded")
    ids = [await rig.enqueue("wait") for _ in range(4)]
    held = [await rig.enqueue("wait") for _ in range(2)]
    async with rig.running() as worker:
        await eventually(lambda: len(notes.slots) == 4)
        assert set(notes.slots.values()) == {one.job_id for one in worker.in_flight()} == set(ids)
        go_on.set()
        for job_id in (*ids, *held):
            await rig.until(job_id, "done")
        assert notes.slots == {}
        threaded = await rig.enqueue("threaded")
        worker.wake()
        await rig.until(threaded, "done")
    assert notes.seen == [{threaded}]
    assert notes.slots == {}
