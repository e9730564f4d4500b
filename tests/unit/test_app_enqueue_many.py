"""Jobs in bulk."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import Any

import pytest
from pydantic import BaseModel

from soniqd import Soniq, TaskRef
from soniqd.app import chunks
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import InvalidArgumentsError


class Recording(MemoryBackend):
    """Remembers the size of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    async def enqueue(self, jobs, *, connection=None):
        self.calls.append(len(jobs))
        return await super().enqueue(jobs, connection=connection)


class Invoice(BaseModel):
    invoice_id: int


@pytest.fixture
def backend():
    return Recording()


@pytest.fixture
def app(backend):
    app = Soniq(backend=backend)

    @app.job(name="orders.send")
    async def send(order_id: int, note: str = ""): ...

    @app.job(name="orders.sync", unique=True)
    def sync(shop: str): ...

    app.send, app.sync = send, sync  # type: ignore[attr-defined]
    return app


async def stored(app: Any, job_id: str) -> Any:
    job = await app.get_job(job_id)
    assert job is not None
    return job


async def test_many_jobs_come_out_in_order(app):
    ids = await app.enqueue_many(app.send, [{"order_id": number} for number in range(10)], priority=1)
    jobs = [await stored(app, job_id) for job_id in ids]
    assert [job["args"]["order_id"] for job in jobs] == list(range(10))
    assert {job["priority"] for job in jobs} == {1}


async def test_no_jobs_at_all_are_no_call(app, backend):
    assert await app.enqueue_many(app.send, []) == []
    assert backend.calls == []


async def test_many_jobs_are_stored_in_chunks(app, backend, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    assert len(await app.enqueue_many(app.send, ({"order_id": number} for number in range(10)))) == 10
    assert backend.calls == [4, 4, 2]


class Slow(Recording):
    """Stores nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def enqueue(self, jobs, *, connection=None):
        self.calls.append(len(jobs))
        await self.let.wait()
        return await MemoryBackend.enqueue(self, jobs, connection=connection)


@pytest.fixture
async def slow(app, monkeypatch):
    """Return the backend of the application, which waits; chunks are of four."""
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    monkeypatch.setattr(chunks, "_TURN", 1)
    backend = Slow()
    app.use_backend(backend)
    return backend


async def some_turns():
    for _ in range(50):
        await asyncio.sleep(0)


async def test_one_chunk_is_made_while_another_is_stored_and_no_more(app, slow):
    read: list[int] = []

    def items():
        for number in range(20):
            read.append(number)
            yield {"order_id": number}

    storing = asyncio.create_task(app.enqueue_many(app.send, items()))
    await some_turns()
    assert (len(read), slow.calls) == (8, [4])
    slow.let.set()
    assert len(await storing) == len(read) == 20


async def test_an_iterator_that_keeps_the_loop_waiting_is_not_read_while_a_chunk_is_stored(app, slow, monkeypatch):
    monkeypatch.setattr(chunks, "_SLOW_TURN_S", -1.0)
    read: list[int] = []

    def items():
        for number in range(20):
            read.append(number)
            yield {"order_id": number}

    storing = asyncio.create_task(app.enqueue_many(app.send, items()))
    await some_turns()
    assert (len(read), slow.calls) == (4, [4])
    slow.let.set()
    assert len(await storing) == 20


async def test_an_iterator_that_becomes_slow_is_read_on_after_what_is_being_stored(app, slow, monkeypatch):
    """Not after so and so many more items, during which a transaction would be left alone."""
    monkeypatch.setattr(chunks, "_TURN", 1000)
    monkeypatch.setattr(chunks, "_SLOW_TURN_S", 0.02)
    read: list[int] = []

    def items():
        for number in range(12):
            if number > 4:
                time.sleep(0.03)
            read.append(number)
            yield {"order_id": number}

    storing = asyncio.create_task(app.enqueue_many(app.send, items()))
    await some_turns()
    assert (len(read), slow.calls) == (6, [4])
    slow.let.set()
    assert len(await storing) == 12


async def test_after_one_long_wait_for_an_iterator_it_never_waits_for_a_chunk_again(app, slow, monkeypatch):
    monkeypatch.setattr(chunks, "_LONG_TURN_S", 0.02)
    read: list[int] = []

    def items():
        for number in range(20):
            if number == 1:
                time.sleep(0.03)
            read.append(number)
            yield {"order_id": number}

    storing = asyncio.create_task(app.enqueue_many(app.send, items()))
    await some_turns()
    assert (len(read), slow.calls) == (4, [4])
    slow.let.set()
    assert len(await storing) == 20


async def test_the_time_that_storing_takes_is_not_taken_for_the_iterators(app, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    monkeypatch.setattr(chunks, "_TURN", 1)
    read = 0
    ahead: list[int] = []

    class Patient(Recording):
        async def enqueue(self, jobs, *, connection=None):
            await asyncio.sleep(0.1)
            ahead.append(read - 4 * len(ahead))
            return await super().enqueue(jobs, connection=connection)

    def items():
        nonlocal read
        for number in range(20):
            read += 1
            yield {"order_id": number}

    app.use_backend(Patient())
    await app.enqueue_many(app.send, items())
    assert ahead == [8, 8, 8, 8, 4]


async def test_an_asynchronous_iterator_that_never_waits_lets_others_run(app, backend, monkeypatch):
    monkeypatch.setattr(chunks, "_TURN", 2)
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def items():
        for number in range(20):
            yield {"order_id": number}

    counting = asyncio.create_task(count_turns())
    await app.enqueue_many(app.send, items())
    counting.cancel()
    assert turns >= 10


async def test_cancelling_leaves_what_is_being_stored(app, slow):
    storing = asyncio.create_task(app.enqueue_many(app.send, ({"order_id": number} for number in range(20))))
    await some_turns()
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    slow.let.set()
    await some_turns()
    assert (slow.calls, await app.list_jobs()) == ([4], [])


async def test_cancelling_an_asynchronous_iterator_leaves_what_is_being_stored(app, slow):
    async def items():
        for number in range(4):
            yield {"order_id": number}
        await asyncio.Event().wait()

    storing = asyncio.create_task(app.enqueue_many(app.send, items()))
    await some_turns()
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    slow.let.set()
    await some_turns()
    assert (slow.calls, await app.list_jobs()) == ([4], [])


async def test_an_error_waits_for_what_is_being_stored(app, slow):
    def items():
        yield from ({"order_id": number} for number in range(6))
        yield {}

    storing = asyncio.create_task(app.enqueue_many(app.send, items()))
    await some_turns()
    assert not storing.done()
    slow.let.set()
    with pytest.raises(InvalidArgumentsError, match="item 6") as caught:
        await storing
    assert (caught.value.context["stored"], len(await app.list_jobs())) == (4, 4)


async def test_a_chunk_is_bounded_in_bytes_too(app, backend, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100)
    await app.enqueue_many(app.send, [{"order_id": 1, "note": "x" * 60}] * 4)
    assert backend.calls == [2, 2]


async def test_a_wrong_item_is_named_and_what_was_stored_is_counted(app, backend, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)
    items: list[dict[str, Any]] = [{"order_id": 0}, {"order_id": 1}, {"order_id": 2}, {}]
    with pytest.raises(InvalidArgumentsError, match=r"item 3: .*argument 'order_id' is missing") as caught:
        await app.enqueue_many(app.send, items)
    assert (caught.value.context["index"], caught.value.context["stored"]) == (3, 2)
    assert backend.calls == [2]


@pytest.mark.parametrize("items", [{"order_id": 1}, "orders"])
async def test_one_item_instead_of_many_is_refused(app, items):
    with pytest.raises(InvalidArgumentsError, match="items must be an iterable of dicts"):
        await app.enqueue_many(app.send, items)


@pytest.mark.parametrize("item", [None, 7, ["order_id"]])
async def test_an_item_that_is_no_dict_is_refused(app, item):
    with pytest.raises(InvalidArgumentsError, match=r"item 0: .*must be a dict or a pydantic model"):
        await app.enqueue_many(app.send, [item])


async def test_many_jobs_may_be_models_or_have_a_reference(app):
    ids = await app.enqueue_many(TaskRef("billing.send", Invoice), [Invoice(invoice_id=1), {"invoice_id": 2}])
    assert [(await stored(app, job_id))["args"]["invoice_id"] for job_id in ids] == [1, 2]


async def test_equal_jobs_among_many_are_stored_once_if_unique(app):
    one, two, three = await app.enqueue_many(app.sync, [{"shop": "a"}, {"shop": "b"}, {"shop": "a"}])
    assert one == three != two


async def test_many_jobs_may_have_dedup_keys(app):
    items = [{"order_id": number} for number in range(4)]
    one, two, three, four = await app.enqueue_many(app.send, items, dedup_keys=["a", None, "a", None])
    assert one == three
    assert len({one, two, four}) == 3


@pytest.mark.parametrize(
    ("keys", "problem"), [(["a"], "item 1 has no dedup key"), (["a", "b", "c"], "more dedup keys than the 2 items")]
)
async def test_as_many_dedup_keys_as_items_are_needed(app, keys, problem):
    with pytest.raises(InvalidArgumentsError, match=problem):
        await app.enqueue_many(app.send, [{"order_id": 1}, {"order_id": 2}], dedup_keys=keys)


async def test_items_may_come_asynchronously(app, backend, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)

    async def items():
        for number in range(10):
            await asyncio.sleep(0)
            yield {"order_id": number}

    ids = await app.enqueue_many(app.send, items())
    assert [(await stored(app, job_id))["args"]["order_id"] for job_id in ids] == list(range(10))
    assert backend.calls == [4, 4, 2]


async def test_a_wrong_item_of_an_asynchronous_iterator_is_named(app, backend):
    async def items():
        yield {"order_id": 0}
        yield {}

    with pytest.raises(InvalidArgumentsError, match="item 1: ") as caught:
        await app.enqueue_many(app.send, items())
    assert (caught.value.context["index"], caught.value.context["stored"]) == (1, 0)
    assert backend.calls == []


async def test_a_function_may_tell_the_dedup_keys(app):
    items = [{"order_id": number} for number in (1, 2, 1)]
    one, two, three = await app.enqueue_many(app.send, items, dedup_keys=lambda item: f"order-{item['order_id']}")
    assert one == three != two


async def test_what_was_stored_before_an_error_of_the_iterator_stays(app, backend, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 2)

    def items():
        yield from ({"order_id": number} for number in range(3))
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        await app.enqueue_many(app.send, items())
    assert backend.calls == [2]


async def test_ids_may_be_heard_chunk_by_chunk_instead_of_collected(app, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    heard: list[list[str]] = []
    items = ({"order_id": number} for number in range(10))
    assert await app.enqueue_many(app.send, items, on_stored=heard.append) == []
    assert [len(ids) for ids in heard] == [4, 4, 2]
    assert [(await stored(app, job_id))["args"]["order_id"] for ids in heard for job_id in ids] == list(range(10))


async def test_ids_of_a_chunk_are_heard_before_the_next_one_is_there(app, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    heard: list[list[str]] = []

    async def items():
        for number in range(6):
            yield {"order_id": number}
        await asyncio.Event().wait()

    storing = asyncio.create_task(app.enqueue_many(app.send, items(), on_stored=heard.append))
    await some_turns()
    assert [len(ids) for ids in heard] == [4]
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert len(await app.list_jobs()) == 4


async def test_what_a_listener_to_ids_raises_ends_the_call(app, backend, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 4)
    items = ({"order_id": number} for number in range(20))

    def fail(ids):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        await app.enqueue_many(app.send, items, on_stored=fail)
    assert backend.calls == [4]


async def test_memory_does_not_grow_with_the_number_of_items(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_JOBS", 100)
    alive: weakref.WeakSet[Argument] = weakref.WeakSet()
    most = 0

    class Forgetful(MemoryBackend):
        async def enqueue(self, jobs, *, connection=None):
            nonlocal most
            most = max(most, len(alive))
            return [job.id for job in jobs]

    def items():
        for number in range(2000):
            item = Argument(order_id=number)
            alive.add(item)
            yield item

    app = Soniq(backend=Forgetful())
    app.job(name="orders.send")(send_order)
    assert await app.enqueue_many("orders.send", items(), on_stored=lambda _: None) == []
    assert 0 < most <= 200


class Argument(dict[str, Any]):
    """A dict whose life can be watched."""

    __hash__ = object.__hash__  # type: ignore[assignment]


async def send_order(order_id: int) -> None: ...
