"""Memory in which one image of a process leaves its state for the next."""

from __future__ import annotations

import os

import pytest

from soniqd.control.reexec import read_memory, sealed_memory


@pytest.fixture
def memory():
    fd = sealed_memory(b"state" * 100_000)
    yield fd
    os.close(fd)


def test_what_was_written_is_read_as_often_as_one_likes(memory):
    assert read_memory(memory) == read_memory(memory) == b"state" * 100_000


def test_nobody_can_change_it_any_more(memory):
    with pytest.raises(PermissionError):
        os.pwrite(memory, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 1)


def test_other_processes_do_not_inherit_it(memory):
    assert not os.get_inheritable(memory)
