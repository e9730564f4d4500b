import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from soniqd.log.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of $NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        receiver.bind(str(tmp_path / "notify"))
        yield receiver


@pytest.fixture
def notifier(manager: socket.socket) -> Notifier:
    return Notifier.from_environ({"NOTIFY_SOCKET": manager.getsockname()})


@pytest.mark.parametrize(
    ("send", "datagram"),
    [
        (lambda n: n.ready(main_pid=4711), "READY=1\nMAINPID=4711"),
        (lambda n: n.stopping(), "STOPPING=1"),
        (lambda n: n.status("idle"), "STATUS=idle"),
        (lambda n: n.watchdog(), "WATCHDOG=1"),
        (lambda n: n.extend_timeout(1.5), "EXTEND_TIMEOUT_USEC=1500000"),
    ],
)
def test_each_message_is_one_datagram(
    manager: socket.socket, notifier: Notifier, send: Callable[[Notifier], bool], datagram: str
) -> None:
    assert send(notifier)
    assert manager.recv(4096).decode() == datagram


def test_reloading_carries_the_monotonic_time_in_the_same_datagram(manager: socket.socket, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    state, stamp = manager.recv(4096).decode().split("\n")
    assert state == "RELOADING=1"
    key, _, value = stamp.partition("=")
    assert key == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_a_newline_in_a_status_starts_no_assignment(manager: socket.socket, notifier: Notifier) -> None:
    notifier.status("fine\nMAINPID=1\rX=2")
    assert manager.recv(4096) == b"STATUS=fine MAINPID=1 X=2"


def test_a_name_with_an_at_sign_is_in_the_abstract_namespace() -> None:
    name = f"soniqd-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        receiver.bind("\0" + name)
        assert Notifier("@" + name).stopping()
        assert receiver.recv(64) == b"STOPPING=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_manager_it_is_silent(environ: dict[str, str]) -> None:
    notifier = Notifier.from_environ(environ)
    assert not notifier.enabled
    assert notifier.stopping() is False


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    assert Notifier(str(tmp_path / "nobody")).stopping() is False


def test_a_manager_that_does_not_read_stalls_the_caller_only_briefly(
    manager: socket.socket, notifier: Notifier
) -> None:
    started = time.monotonic()
    while notifier.status("x" * 1000):
        assert time.monotonic() - started < 10
    assert time.monotonic() - started < 5


def test_a_status_does_not_wait_for_a_manager_that_does_not_read(
    manager: socket.socket, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []

    class Recorded(socket.socket):
        def settimeout(self, value: float | None, /) -> None:
            waits.append(value)
            super().settimeout(value)

    monkeypatch.setattr(socket, "socket", Recorded)
    while notifier.status("x" * 1000):
        pass
    assert set(waits) == {0.0}
