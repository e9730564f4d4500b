"""Opening, closing, schema, leadership and reset."""

from __future__ import annotations

import pytest

from soniqd.backends import DeadLetterFilter, JobFilter, StorageBackend
from soniqd.errors import SoniqError, UnsupportedByBackendError
from tests.backends.conformance.builders import NewView, claimed_job, job, worker


async def test_open_and_close_twice(new_view: NewView) -> None:
    view = new_view()
    await view.open()
    await view.open()
    await view.ping()
    await view.close()
    await view.close()


async def test_the_limits_of_connections_are_those_of_a_server(new_view: NewView) -> None:
    view = new_view()
    await view.open()
    limits = await view.connection_limits()
    assert (limits is not None) == view.capabilities.multi_host
    await view.close()


async def test_closing_what_was_never_opened(new_view: NewView) -> None:
    await new_view().close()


async def test_it_can_be_opened_again(new_view: NewView) -> None:
    view = new_view()
    await view.open()
    await view.close()
    await view.open()
    await view.enqueue([job()])
    assert len(await view.list_jobs(JobFilter())) == 1
    await view.close()


async def test_a_closed_backend_refuses_work_clearly(new_view: NewView) -> None:
    view = new_view()
    await view.open()
    if not view.capabilities.multi_process:
        pytest.skip("memory has nothing to close")
    await view.close()
    with pytest.raises(SoniqError, match="cannot"):
        await view.enqueue([job()])


async def test_the_schema_is_there(backend: StorageBackend) -> None:
    await backend.ping()
    await backend.check_schema()
    status = await backend.migration_status()
    assert (status.pending, status.foreign) == ((), ())


async def test_setup_again_applies_nothing(backend: StorageBackend) -> None:
    before = await backend.migration_status()
    status = await backend.setup()
    assert status.pending == ()
    assert status.applied == before.applied


async def test_reset_deletes_everything(backend: StorageBackend) -> None:
    await claimed_job(backend)
    await backend.enqueue([job(), job(delay_s=60.0)])
    await backend.set_queue_paused("q", paused=True)
    await backend.reset()
    assert await backend.list_jobs(JobFilter()) == []
    assert await backend.list_workers() == []
    assert await backend.list_queues() == []
    assert await backend.list_schedules() == []
    assert await backend.list_dead_letters(DeadLetterFilter()) == []
    await backend.enqueue([job()])
    claimer = await worker(backend)
    assert len(await backend.claim(claimer, names=None, queues=None, limit=5)) == 1


async def test_capabilities_and_location_are_told(backend: StorageBackend) -> None:
    assert backend.capabilities.name in {"memory", "sqlite", "postgres"}
    assert backend.location


async def test_lending_a_connection_or_saying_no(backend: StorageBackend) -> None:
    if backend.capabilities.transactional_enqueue:
        async with backend.acquire() as connection:
            assert connection is not None
        return
    with pytest.raises(UnsupportedByBackendError, match="cannot lend"):
        async with backend.acquire():
            pass


async def test_one_leader_for_a_name(backend: StorageBackend) -> None:
    first, second, other = backend.leadership("a"), backend.leadership("a"), backend.leadership("b")
    assert await first.acquire() is True
    assert await first.acquire() is True
    assert await first.held() is True
    assert await second.acquire() is False
    assert await second.held() is False
    assert await other.acquire() is True
    await first.release()
    assert await first.held() is False
    assert await second.acquire() is True
    await second.release()
    await second.release()
    await other.release()


async def test_one_leader_over_two_views(backend: StorageBackend, second_backend: StorageBackend) -> None:
    mine, theirs = backend.leadership("scheduler"), second_backend.leadership("scheduler")
    assert await mine.acquire() is True
    assert await theirs.acquire() is False
    await mine.release()
    assert await theirs.acquire() is True
    await theirs.release()


async def test_closing_a_backend_gives_its_leadership_back(
    backend: StorageBackend, second_backend: StorageBackend, new_view: NewView
) -> None:
    third = new_view()
    await third.open()
    assert await third.leadership("scheduler").acquire() is True
    assert await backend.leadership("scheduler").acquire() is False
    await third.close()
    leader = second_backend.leadership("scheduler")
    assert await leader.acquire() is True
    await leader.release()
