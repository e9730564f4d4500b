from __future__ import annotations

import asyncio
import os
import threading

import pytest

from soniqd.backends import Capabilities
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import ClosedError, ConfigurationError, DatabaseUnavailableError
from soniqd.queue.lifecycle import BackendLifecycle


class Fake(MemoryBackend):
    """Counts, and waits or fails on demand."""

    def __init__(self, *, shared: bool = True) -> None:
        super().__init__()
        self.opened = 0
        self.closed = 0
        self.begun = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None
        self.shared = shared

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("fake", transactional_enqueue=False, multi_process=self.shared, multi_host=self.shared)

    async def open(self) -> None:
        self.opened += 1
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.closed += 1


class Factory:
    def __init__(self, **options):
        self.made: list[Fake] = []
        self.options = options

    def __call__(self) -> Fake:
        self.made.append(Fake(**self.options))
        return self.made[-1]


async def test_nothing_is_made_before_it_is_needed():
    factory = Factory()
    lifecycle = BackendLifecycle(make=factory)
    assert factory.made == []
    assert await lifecycle.open() is factory.made[0]


async def test_many_tasks_wait_for_one_opening():
    backend = Fake()
    backend.gate = asyncio.Event()
    lifecycle = BackendLifecycle(given=backend)
    tasks = [asyncio.create_task(lifecycle.open()) for _ in range(50)]
    await backend.begun.wait()
    backend.gate.set()
    assert set(await asyncio.gather(*tasks)) == {backend}
    assert backend.opened == 1


async def test_a_cancelled_waiter_does_not_cancel_the_opening():
    backend = Fake()
    backend.gate = asyncio.Event()
    lifecycle = BackendLifecycle(given=backend)
    first, second = (asyncio.create_task(lifecycle.open()) for _ in range(2))
    await backend.begun.wait()
    first.cancel()
    await asyncio.wait([first])
    backend.gate.set()
    assert await second is backend
    assert backend.opened == 1


async def test_a_failed_opening_tells_every_waiter_and_the_next_use_tries_again():
    factory = Factory()
    lifecycle = BackendLifecycle(make=factory)
    lifecycle.backend.error = DatabaseUnavailableError("away")  # type: ignore[attr-defined]
    results = await asyncio.gather(lifecycle.open(), lifecycle.open(), return_exceptions=True)
    assert [type(result) for result in results] == [DatabaseUnavailableError, DatabaseUnavailableError]
    assert (factory.made[0].opened, factory.made[0].closed) == (1, 1)
    assert await lifecycle.open() is factory.made[1]


async def test_closing_twice_closes_once():
    backend = Fake()
    lifecycle = BackendLifecycle(given=backend)
    await lifecycle.open()
    await lifecycle.close()
    await lifecycle.close()
    assert backend.closed == 1


async def test_closing_waits_for_an_opening_under_way():
    backend = Fake()
    backend.gate = asyncio.Event()
    lifecycle = BackendLifecycle(given=backend)
    opening = asyncio.create_task(lifecycle.open())
    await backend.begun.wait()
    closing = asyncio.create_task(lifecycle.close())
    await asyncio.sleep(0)
    assert backend.closed == 0
    backend.gate.set()
    await closing
    assert backend.closed == 1
    with pytest.raises(ClosedError):
        await opening


async def test_after_closing_every_use_is_refused():
    lifecycle = BackendLifecycle(make=Factory())
    await lifecycle.close()
    with pytest.raises(ClosedError, match="it was closed"):
        await lifecycle.open()
    with pytest.raises(ClosedError):
        _ = lifecycle.backend


def test_one_event_loop_after_the_other_gets_a_fresh_backend_and_the_old_one_is_closed():
    factory = Factory()
    lifecycle = BackendLifecycle(make=factory)
    assert asyncio.run(lifecycle.open()) is factory.made[0]
    assert asyncio.run(lifecycle.open()) is factory.made[1]
    assert [backend.closed for backend in factory.made] == [1, 0]


def test_closing_from_another_event_loop_closes_what_a_closed_one_has_left():
    factory = Factory()
    lifecycle = BackendLifecycle(make=factory)
    asyncio.run(lifecycle.open())
    asyncio.run(lifecycle.close())
    assert factory.made[0].closed == 1


def test_memory_goes_on_in_the_next_event_loop():
    factory = Factory(shared=False)
    lifecycle = BackendLifecycle(make=factory)
    assert asyncio.run(lifecycle.open()) is asyncio.run(lifecycle.open())


def test_a_given_backend_of_a_closed_event_loop_is_refused():
    lifecycle = BackendLifecycle(given=Fake())
    asyncio.run(lifecycle.open())
    with pytest.raises(ConfigurationError, match="another event loop, closed since"):
        asyncio.run(lifecycle.open())


async def test_a_second_event_loop_beside_the_first_is_refused():
    lifecycle = BackendLifecycle(make=Factory())
    await lifecycle.open()
    errors = []

    def elsewhere() -> None:
        for use in (lifecycle.open, lifecycle.close):
            try:
                asyncio.run(use())
            except ConfigurationError as error:
                errors.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(errors) == 2
    assert all("another event loop, which still runs" in error for error in errors)


def in_child(check) -> int:
    """Run a check in a forked process; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_process_gets_a_fresh_backend_and_leaves_the_old_one_alone():
    factory = Factory()
    lifecycle = BackendLifecycle(make=factory)
    asyncio.run(lifecycle.open())

    def check() -> bool:
        backend = asyncio.run(lifecycle.open())
        asyncio.run(lifecycle.close())
        return backend is factory.made[1] and factory.made[0].closed == 0

    assert in_child(check) == 0


def test_a_forked_process_sees_a_fresh_backend_before_it_opens_it():
    factory = Factory()
    lifecycle = BackendLifecycle(make=factory)
    asyncio.run(lifecycle.open())
    assert in_child(lambda: lifecycle.backend is not factory.made[0]) == 0


def test_a_given_backend_of_another_process_is_refused():
    lifecycle = BackendLifecycle(given=Fake())
    asyncio.run(lifecycle.open())

    def check() -> bool:
        with pytest.raises(ConfigurationError, match="another process, before a fork"):
            asyncio.run(lifecycle.open())
        return True

    assert in_child(check) == 0


def test_what_was_not_opened_before_a_fork_may_be_opened_after_it():
    backend = Fake()
    lifecycle = BackendLifecycle(given=backend)
    assert in_child(lambda: asyncio.run(lifecycle.open()) is backend) == 0


async def test_a_borrowed_backend_is_used_and_not_closed():
    factory = Factory()
    lifecycle = BackendLifecycle(make=factory)
    lent = Fake()
    lifecycle.borrow(lent)
    assert await lifecycle.open() is lent
    assert lifecycle.backend is lent
    await lifecycle.close()
    assert (lent.opened, lent.closed, factory.made) == (0, 0, [])


async def test_who_has_opened_a_backend_borrows_none():
    lifecycle = BackendLifecycle(make=Factory())
    await lifecycle.open()
    with pytest.raises(ConfigurationError, match="opened its own already"):
        lifecycle.borrow(Fake())
