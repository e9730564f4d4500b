"""Who is woken, and when jobs stored for later are promoted."""

from __future__ import annotations

import pytest

from soniqd.backends import DueReport, StorageBackend, WakeUp
from soniqd.backends.memory import MemoryBackend
from soniqd.model import JobId, NewJob
from soniqd.policy.waking import Sleeper
from soniqd.supervisor.waker import Waker
from tests.support.waiting import eventually


def sleeper(worker_id: str, *, queues: tuple[str, ...] = (), free: int = 1, in_flight: int = 0) -> Sleeper:
    return Sleeper(worker_id, queues, free, in_flight, begun=0, looks=0)


class Woken:
    """A crew whose workers, once woken, run a job and come to rest at once, unless they are ``stuck``."""

    def __init__(self, *sleepers: Sleeper) -> None:
        self.all = list(sleepers)
        self.calls: list[str] = []
        self.stuck: set[str] = set()
        self.ignorant: set[str] = set()
        """Who does not know the task: looks, and runs nothing."""
        self.listed = 0

    def sleepers(self) -> list[Sleeper]:
        self.listed += 1
        return [self._now(one) for one in self.all]

    def sleeper(self, worker_id: str) -> Sleeper | None:
        return next((self._now(one) for one in self.all if one.worker_id == worker_id), None)

    def _now(self, one: Sleeper) -> Sleeper:
        return one if one.worker_id in self.stuck else self._after(one, self.calls.count(one.worker_id))

    def _after(self, one: Sleeper, times: int) -> Sleeper:
        return one._replace(begun=0 if one.worker_id in self.ignorant else times, looks=times)

    def wake(self, worker_id: str) -> None:
        self.calls.append(worker_id)


@pytest.fixture
async def backend():
    backend = MemoryBackend()
    await backend.open()
    yield backend
    await backend.close()


def make_waker(backend: StorageBackend, woken: Woken) -> Waker:
    return Waker(backend, woken, wake=woken.wake)


async def test_one_announcement_wakes_one_worker(backend):
    woken = Woken(sleeper("a"), sleeper("b"))
    make_waker(backend, woken).announce(WakeUp(queue="default"))
    assert len(woken.calls) == 1


async def test_when_anything_may_have_changed_a_worker_of_each_set_of_queues_looks(backend):
    mail, reports = ("mail",), ("reports", "mail")
    woken = Woken(sleeper("a", queues=mail), sleeper("b", queues=mail), sleeper("c", queues=reports), sleeper("d"))
    make_waker(backend, woken).announce(WakeUp())
    assert [call for call in woken.calls if call in "ab"] in (["a"], ["b"])
    assert woken.calls[1:] == ["c", "d"]


async def test_a_worker_at_rest_is_woken_again_and_nobody_else_is_looked_at(backend):
    woken = Woken(sleeper("a"), sleeper("b"), sleeper("c"))
    waker = make_waker(backend, woken)
    for _ in range(10):
        waker.announce(WakeUp(queue="default"))
    assert woken.calls == ["a"] * 10
    assert woken.listed == 1


async def test_whoever_does_not_answer_misses_one_wake_up(backend):
    woken = Woken(sleeper("a"), sleeper("b", in_flight=2))
    woken.stuck = {"a"}
    waker = make_waker(backend, woken)
    for _ in range(4):
        waker.announce(WakeUp(queue="default"))
    assert woken.calls == ["a", "b", "b", "b"]


async def test_whoever_does_not_know_the_task_misses_no_more_than_its_part(backend):
    woken = Woken(sleeper("a"), sleeper("b"), sleeper("c"))
    woken.ignorant = {"a", "b"}
    waker = make_waker(backend, woken)
    for _ in range(5):
        waker.announce(WakeUp(queue="default"))
    assert woken.calls == ["a", "b", "c", "c", "c"]


async def test_whoever_has_no_room_any_more_or_is_gone_has_lost_its_turn(backend):
    woken = Woken(sleeper("a"), sleeper("b"), sleeper("c"))
    waker = make_waker(backend, woken)
    waker.announce(WakeUp(queue="default"))
    woken.all = [sleeper("a", free=0), sleeper("b"), sleeper("c")]
    waker.announce(WakeUp(queue="default"))
    woken.all = [sleeper("c")]
    waker.announce(WakeUp(queue="default"))
    assert woken.calls == ["a", "b", "c"]


async def test_each_queue_has_a_turn_of_its_own(backend):
    woken = Woken(*(sleeper(name, queues=(name[0],)) for name in ("m1", "m2", "p1", "p2")))
    waker = make_waker(backend, woken)
    for queue in "mpmpm":
        waker.announce(WakeUp(queue=queue))
    assert woken.calls == ["m1", "p1", "m1", "p1", "m1"]


async def test_whose_turn_it_is_is_forgotten_of_too_many_queues(backend):
    woken = Woken(sleeper("a"))
    waker = make_waker(backend, woken)
    for number in range(3000):
        waker.announce(WakeUp(queue=f"q{number}"))
    assert len(woken.calls) == 3000
    assert len(waker._turns) <= 1000


async def test_a_worker_that_met_more_than_it_could_take_gets_company_but_is_not_woken_itself(backend):
    woken = Woken(sleeper("a"), sleeper("b"))
    waker = make_waker(backend, woken)
    waker.more("a")
    waker.more("a")
    assert woken.calls == ["b", "b"]


async def test_workers_that_are_gone_are_forgotten(backend):
    woken = Woken(*(sleeper(f"w{n}") for n in range(50)))
    woken.stuck = {f"w{n}" for n in range(50)}
    waker = make_waker(backend, woken)
    for _ in range(50):
        waker.announce(WakeUp(queue="default"))
    assert len(set(woken.calls)) == 50
    woken.all = [sleeper("new")]
    waker.announce(WakeUp(queue="default"))
    assert len(waker._woken) == 1


async def test_an_enqueued_job_wakes_a_worker(backend):
    woken = Woken(sleeper("a"))
    waker = make_waker(backend, woken)
    waker.start()
    try:
        await eventually(lambda: backend.capabilities and waker._wake_ups is not None)
        await backend.enqueue([NewJob(JobId("00000000-0000-7000-8000-000000000001"), "job", "{}")])
        await eventually(lambda: "a" in woken.calls)
    finally:
        await waker.close()


async def test_a_wake_up_that_goes_wrong_does_not_keep_the_next_one(backend, caplog):
    woken = Woken(sleeper("a"))

    def wake(worker_id: str) -> None:
        woken.calls.append(worker_id)
        if len(woken.calls) == 1:
            raise RuntimeError("no such worker")

    waker = Waker(backend, woken, wake=wake)
    waker.start()
    try:
        await eventually(lambda: waker._wake_ups is not None)
        subscribed = waker._wake_ups
        for number in (1, 2):
            await backend.enqueue([NewJob(JobId(f"00000000-0000-7000-8000-{number:012}"), "job", "{}")])
        await eventually(lambda: len(woken.calls) == 2)
        assert waker._wake_ups is subscribed
    finally:
        await waker.close()
    assert [record.event for record in caplog.records] == ["duty_failed"]


async def test_a_job_stored_for_later_is_promoted_and_wakes_a_worker_when_due(backend):
    woken = Woken(sleeper("a"))
    waker = make_waker(backend, woken)
    waker.start()
    try:
        await eventually(lambda: waker._wake_ups is not None)
        job_id = JobId("00000000-0000-7000-8000-000000000002")
        await backend.enqueue([NewJob(job_id, "job", "{}", delay_s=0.2)])
        assert not woken.calls
        await eventually(lambda: woken.calls)
        assert await backend.promote_due() == DueReport(0, None)
    finally:
        await waker.close()


async def test_promotion_survives_a_database_that_is_away(backend, monkeypatch):
    from soniqd.errors import DatabaseUnavailableError
    from soniqd.supervisor import waker as module

    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    answers: list[Exception | DueReport] = [DatabaseUnavailableError("away"), DueReport(0, 0.0), DueReport(1, None)]

    async def promote_due(*, limit: int = 1000) -> DueReport:
        answer = answers.pop(0) if answers else DueReport(0, None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(backend, "promote_due", promote_due)
    waker = make_waker(backend, Woken())
    waker.start()
    try:
        await eventually(lambda: not answers)
    finally:
        await waker.close()


async def test_what_is_announced_while_promotion_is_under_way_is_not_forgotten(backend, monkeypatch):
    woken, calls = Woken(), []
    waker = make_waker(backend, woken)

    async def promote_due(*, limit: int = 1000) -> DueReport:
        calls.append(limit)
        if len(calls) == 1:
            waker.announce(WakeUp(due_in_s=0.0))
        return DueReport(0, None)

    monkeypatch.setattr(backend, "promote_due", promote_due)
    waker.start()
    try:
        await eventually(lambda: len(calls) >= 2, timeout_s=5)
    finally:
        await waker.close()


async def test_company_serves_the_same_queues(backend):
    woken = Woken(sleeper("a", queues=("mail",)), sleeper("b", queues=("print",)), sleeper("c", queues=("mail", "x")))
    make_waker(backend, woken).more("a")
    assert woken.calls == ["c"]


async def test_where_nobody_serves_all_its_queues_company_comes_for_each(backend):
    woken = Woken(
        sleeper("a", queues=("mail", "print")), sleeper("b", queues=("print",)), sleeper("c", queues=("mail",))
    )
    make_waker(backend, woken).more("a")
    assert woken.calls == ["c", "b"]
