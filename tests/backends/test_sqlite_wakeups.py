"""The bell beside the file: dead, stopped and lost subscribers, and folders that cannot be used."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from soniqd.backends import WakeUp
from soniqd.backends.sqlite import SQLiteBackend
from soniqd.backends.sqlite.bell import wake_folder
from tests.backends.conformance.builders import job
from tests.support.waiting import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[SQLiteBackend]:
    opened = SQLiteBackend(path)
    await opened.open()
    yield opened
    await opened.close()


def sockets(path: Path) -> list[str]:
    return sorted(place.name for place in wake_folder(path).glob("*.sock"))


async def test_closing_removes_the_socket(backend: SQLiteBackend, path: Path) -> None:
    subscription = await backend.subscribe()
    assert len(sockets(path)) == 1
    await subscription.close()
    assert sockets(path) == []


async def test_closing_the_backend_closes_its_subscriptions(path: Path) -> None:
    backend = SQLiteBackend(path)
    await backend.open()
    subscription = await backend.subscribe()
    await backend.close()
    assert subscription.live is False
    assert sockets(path) == []
    assert await subscription.wait(10.0) == ()


async def test_who_goes_on_waiting_after_the_close_does_not_spin(backend: SQLiteBackend) -> None:
    subscription = await backend.subscribe()
    await subscription.close()
    assert await subscription.wait(10.0) == ()
    waiting = asyncio.ensure_future(subscription.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_dead_subscribers_socket_is_removed(backend: SQLiteBackend, path: Path) -> None:
    alive = await backend.subscribe()
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    dead.bind(str(wake_folder(path) / "1-dead.sock"))
    dead.close()
    assert len(sockets(path)) == 2
    await backend.enqueue([job(queue="q")])
    assert await alive.wait(10.0) == (WakeUp("q"),)
    assert "1-dead.sock" not in sockets(path)


async def test_a_subscriber_that_does_not_read_stops_nobody(backend: SQLiteBackend, path: Path) -> None:
    alive = await backend.subscribe()
    stuck = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stuck.bind(str(wake_folder(path) / "1-stuck.sock"))
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for number in range(1000):
        await backend.enqueue([job(queue=f"q{number}")])
        async with asyncio.timeout(10):
            assert await alive.wait(10.0), f"not woken by enqueue {number}"
    stuck.close()


async def test_a_subscriber_that_was_away_looks_at_everything(
    backend: SQLiteBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await backend.subscribe()
    flood = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    [name] = sockets(path)
    monkeypatch.chdir(wake_folder(path))  # the whole path may be longer than an address can be
    while _fits(flood, name):
        pass
    flood.close()
    assert WakeUp() in await subscription.wait(10.0)


def _fits(sender: socket.socket, place: str) -> bool:
    try:
        sender.sendto(b'{"queues": ["q"], "due_at": null}', place)
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("message", [b"", b"\xff", b"[]", b'{"queues": 1}', b'{"queues": [], "due_at": "x"}'])
async def test_a_message_that_cannot_be_read_means_anything(
    backend: SQLiteBackend, path: Path, message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await backend.subscribe()
    [name] = sockets(path)
    monkeypatch.chdir(wake_folder(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(message, name)
    assert await subscription.wait(10.0) == (WakeUp(),)


async def test_very_many_queues_are_told_as_anything(backend: SQLiteBackend) -> None:
    subscription = await backend.subscribe()
    await backend.enqueue([job(queue=f"q{number}") for number in range(200)])
    assert await subscription.wait(10.0) == (WakeUp(),)


async def test_a_removed_folder_is_made_again(backend: SQLiteBackend, path: Path) -> None:
    subscription = await backend.subscribe()
    await backend.enqueue([job(queue="before")])
    await subscription.wait(10.0)
    shutil.rmtree(wake_folder(path))
    assert subscription.live is False
    assert await subscription.wait(10.0) == (WakeUp(),)
    await backend.enqueue([job(queue="after")])
    assert await subscription.wait(10.0) == (WakeUp("after"),)


async def test_a_folder_that_cannot_be_made_means_polling(backend: SQLiteBackend, path: Path) -> None:
    wake_folder(path).write_text("in the way")
    subscription = await backend.subscribe()
    assert subscription.live is False
    assert await subscription.wait(0.01) == ()
    await backend.enqueue([job()])
    wake_folder(path).unlink()
    assert await subscription.wait(10.0) == (WakeUp(),)
    await eventually(lambda: subscription.live)


async def test_a_very_long_path_works(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120) / ("e" * 120)
    folder.mkdir(parents=True)
    backend = SQLiteBackend(folder / "jobs.db")
    await backend.open()
    subscription = await backend.subscribe()
    assert subscription.live is True
    await backend.enqueue([job(queue="far")])
    assert await subscription.wait(10.0) == (WakeUp("far"),)
    await backend.close()


@pytest.fixture
def path_for_a_group(path: Path) -> Path:
    path.touch()
    path.chmod(0o660)
    return path


async def test_the_folder_and_sockets_have_the_files_rights(path_for_a_group: Path) -> None:
    path = path_for_a_group
    backend = SQLiteBackend(path)
    await backend.open()
    await backend.subscribe()
    assert wake_folder(path).stat().st_mode & 0o777 == 0o770
    [place] = wake_folder(path).glob("*.sock")
    assert place.stat().st_mode & 0o777 == 0o660
    await backend.close()


async def test_nobody_to_wake_is_fine(backend: SQLiteBackend, path: Path) -> None:
    await backend.enqueue([job()])
    assert not wake_folder(path).exists()


async def test_a_cancelled_wait_loses_nothing(backend: SQLiteBackend) -> None:
    subscription = await backend.subscribe()
    waiting = asyncio.ensure_future(subscription.wait(None))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await backend.enqueue([job(queue="q")])
    assert await subscription.wait(10.0) == (WakeUp("q"),)
