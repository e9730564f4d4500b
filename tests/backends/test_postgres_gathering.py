"""Single enqueues that come at the same time, stored together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from soniqd.backends.postgres.gathering import Gatherer
from soniqd.errors import DatabaseError, DatabaseUnavailableError, InvalidArgumentsError
from soniqd.model import JobId, NewJob
from tests.support.jobs import claim, new_job, registered


class Store:
    """Notes what it is asked to store; holds everything back until it is let, or, if it is named, one job."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.let = asyncio.Event()
        self.held = ""
        self.refuse: Callable[[Sequence[str]], BaseException | None] = lambda _: None
        self.gatherer = Gatherer(one=lambda job: self.store([job]), many=self.store)

    async def store(self, jobs: Sequence[NewJob]) -> None:
        names = [job.name for job in jobs]
        self.calls.append(names)
        if not self.held or self.held in names:
            await self.let.wait()
        error = self.refuse(names)
        if error is not None:
            raise error

    def begin(self, *names: str) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._one(name)) for name in names]

    async def _one(self, name: str) -> None:
        await self.gatherer.store(new_job(name))


@pytest.fixture
def store() -> Store:
    return Store()


async def some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def outcomes(tasks: Sequence[asyncio.Task[None]]) -> Awaitable[list[BaseException | None]]:
    return asyncio.gather(*tasks, return_exceptions=True)


async def test_one_after_the_other_has_a_statement_each(store):
    store.let.set()
    for name in "abc":
        await store.gatherer.store(new_job(name))
    assert store.calls == [["a"], ["b"], ["c"]]


async def test_who_comes_meanwhile_goes_together(store):
    tasks = store.begin(*"abcde")
    await some_turns()
    assert store.calls == [["a"], ["b"]]
    store.let.set()
    assert await outcomes(tasks) == [None] * 5
    assert store.calls == [["a"], ["b"], ["c", "d", "e"]]


async def test_nobody_returns_before_his_own_job_is_stored(store):
    store.held = "c"
    first, second, third = store.begin(*"abc")
    await asyncio.gather(first, second)
    await some_turns()
    assert (store.calls, third.done()) == ([["a"], ["b"], ["c"]], False)
    store.let.set()
    await third


async def test_a_batch_is_bounded(store, monkeypatch):
    monkeypatch.setattr("soniqd.backends.postgres.gathering._LARGEST_BATCH", 2)
    tasks = store.begin(*"abcdefg")
    await some_turns()
    store.let.set()
    await outcomes(tasks)
    assert store.calls == [["a"], ["b"], ["c", "d"], ["e", "f"], ["g"]]


@pytest.mark.parametrize("kind", [InvalidArgumentsError, DatabaseError])
async def test_who_is_refused_does_not_hurt_the_others(store, kind):
    store.refuse = lambda names: kind("cannot store d") if "d" in names else None
    tasks = store.begin(*"abcde")
    await some_turns()
    store.let.set()
    assert [type(outcome) for outcome in await outcomes(tasks)] == [type(None)] * 3 + [kind, type(None)]
    assert store.calls[2:] == [["c", "d", "e"], ["c"], ["d"], ["e"]]


async def test_nothing_is_stored_twice_when_nobody_knows_whether_it_arrived(store):
    store.refuse = lambda names: DatabaseUnavailableError("cannot store: gone") if len(names) > 1 else None
    tasks = store.begin(*"abcd")
    await some_turns()
    store.let.set()
    *_, third, fourth = await outcomes(tasks)
    assert isinstance(third, DatabaseUnavailableError)
    assert isinstance(fourth, DatabaseUnavailableError)
    assert third is not fourth
    assert store.calls == [["a"], ["b"], ["c", "d"]]


async def test_who_is_cancelled_before_his_turn_is_left_out(store):
    tasks = store.begin(*"abcd")
    await some_turns()
    tasks[2].cancel()
    store.let.set()
    await outcomes(tasks)
    assert store.calls == [["a"], ["b"], ["d"]]


async def test_who_is_cancelled_within_a_batch_does_not_hurt_the_others(store):
    tasks = store.begin(*"abcd")
    await some_turns()
    tasks[0].cancel()
    await some_turns()
    tasks[2].cancel()
    await some_turns()
    store.let.set()
    found = await outcomes(tasks)
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [True, False, True, False]
    assert store.calls == [["a"], ["b"], ["c", "d"]]


async def test_lanes_come_back_after_errors(store):
    store.refuse = lambda _: DatabaseUnavailableError("cannot store: gone")
    store.let.set()
    await outcomes(store.begin(*"abcdef"))
    store.refuse = lambda _: None
    store.calls.clear()
    await store.gatherer.store(new_job("g"))
    assert store.calls == [["g"]]


async def test_many_at_once_are_all_stored(postgres):
    jobs = [new_job() for _ in range(300)]
    answers = await asyncio.gather(*(postgres.enqueue([job]) for job in jobs))
    assert [job_id for [job_id] in answers] == [job.id for job in jobs]
    claimed = await claim(postgres, await registered(postgres), 1000)
    assert {job.fence.job_id for job in claimed} == {job.id for job in jobs}


async def test_a_job_that_cannot_be_stored_fails_alone(postgres):
    jobs = [new_job() for _ in range(20)]
    jobs[10] = new_job(args_json='{"a": "\\u0000"}')
    answers = await asyncio.gather(*(postgres.enqueue([job]) for job in jobs), return_exceptions=True)
    assert isinstance(answers.pop(10), InvalidArgumentsError)
    assert [answer[0] for answer in answers if isinstance(answer, list)] == [
        JobId(job.id) for number, job in enumerate(jobs) if number != 10
    ]
