import errno
import os
import socket
from pathlib import Path

import pytest

from soniqd.forkserver import forking
from soniqd.forkserver.forking import fork_orphan
from soniqd.forkserver.inspection import open_descriptors, running_threads, shared_descriptors

# The test runner may have threads, a fork server has none; Python 3.12 and newer warn of the former.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def told_by_child(tell) -> tuple[int, bytes]:
    """Fork an orphan that runs ``tell(fd)``; return its pid and what it wrote."""
    reader, writer = os.pipe()

    def become() -> int:
        os.close(reader)
        os.write(writer, tell())
        return 0

    pid = fork_orphan(become)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        return pid, pipe.read()


def test_the_pid_is_the_childs_own():
    pid, told = told_by_child(lambda: str(os.getpid()).encode())
    assert pid == int(told)


def test_the_child_is_nobodys_here_once_its_pid_is_known():
    pid, told = told_by_child(lambda: b"x")
    assert told == b"x"
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def test_the_intermediate_process_is_reaped(monkeypatch):
    reaped: list[int] = []
    waitpid = os.waitpid

    def watched(pid: int, options: int) -> tuple[int, int]:
        reaped.append(pid)
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", watched)
    pid, _ = told_by_child(lambda: b"x")
    assert len(reaped) == 1
    assert pid not in reaped


def test_no_descriptor_is_left_over():
    before = open_descriptors().keys()
    told_by_child(lambda: b"x")
    assert open_descriptors().keys() == before


def test_the_child_has_none_of_the_pipes_of_its_making():
    here = set(open_descriptors())
    _, told = told_by_child(lambda: repr(sorted(open_descriptors())).encode())
    child = set(eval(told))
    assert len(child - here) == 1  # what it writes to


def test_a_refused_first_fork_raises_and_leaves_no_descriptor(monkeypatch):
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    before = open_descriptors().keys()
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(BlockingIOError):
        fork_orphan(lambda: 0)
    assert open_descriptors().keys() == before


def test_a_refused_second_fork_is_told_by_the_intermediate_process(monkeypatch):
    fork, parent = os.fork, os.getpid()

    def refuse_in_child() -> int:
        if os.getpid() != parent:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return fork()

    monkeypatch.setattr(os, "fork", refuse_in_child)
    with pytest.raises(OSError, match="Cannot allocate memory") as raised:
        fork_orphan(lambda: 0)
    assert raised.value.errno == errno.ENOMEM


def test_an_intermediate_process_that_dies_is_an_error_not_a_pid(monkeypatch):
    monkeypatch.setattr(forking, "_run_intermediate", lambda *_: os._exit(1))
    with pytest.raises(ChildProcessError, match="died"):
        fork_orphan(lambda: 0)


def test_descriptors_that_appeared_are_described_and_harmless_ones_are_not():
    before = open_descriptors()
    with socket.socket() as sock, Path(os.devnull).open() as null:
        after = open_descriptors()
        (shared,) = shared_descriptors(before, after)
        assert shared.startswith(f"{sock.fileno()} (socket:")
        assert null.fileno() in after


def test_a_thread_is_found_by_its_name():
    import threading

    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="lingerer")
    thread.start()
    try:
        assert "lingerer" in running_threads()
    finally:
        done.set()
        thread.join()
    assert "lingerer" not in running_threads()
