"""Which exits are put down to a want of memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from soniqd.model.child import ExitCause
from soniqd.supervisor.oom import MemoryKills, count_memory_kills

KILLED = ExitCause(signal=9)


class Count:
    """What the kernel says, as a test wants it."""

    def __init__(self, value: int | None) -> None:
        self.value = value

    def __call__(self) -> int | None:
        return self.value


def test_a_kill_that_the_kernel_counted_is_explained_once():
    count = Count(5)
    kills = MemoryKills(count)
    assert kills.explain(KILLED) == KILLED
    count.value = 6
    explained = kills.explain(KILLED)
    assert explained.out_of_memory
    assert str(explained) == "signal 9 (SIGKILL), out of memory"
    assert kills.explain(KILLED) == KILLED


def test_each_of_several_is_explained():
    count = Count(0)
    kills = MemoryKills(count)
    count.value = 2
    assert [kills.explain(KILLED).out_of_memory for _ in range(3)] == [True, True, False]


def test_a_count_that_grew_between_two_looks_still_explains_an_exit_just_after():
    count = Count(0)
    kills = MemoryKills(count)
    kills.sample()
    count.value = 1
    kills.sample()
    assert kills.explain(KILLED).out_of_memory


def test_a_count_that_grew_long_ago_explains_nothing():
    count = Count(0)
    kills = MemoryKills(count)
    count.value = 1
    kills.sample()
    kills.sample()
    assert kills.explain(KILLED) == KILLED


@pytest.mark.parametrize("cause", [ExitCause(signal=11), ExitCause(code=9), ExitCause()])
def test_only_sigkill_is_explained(cause):
    count = Count(0)
    kills = MemoryKills(count)
    count.value = 1
    assert kills.explain(cause) == cause


def test_without_a_count_nothing_is_explained():
    count = Count(None)
    kills = MemoryKills(count)
    kills.sample()
    count.value = 3
    assert kills.explain(KILLED) == KILLED


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("group", "file", "text"),
    [
        ("0::/system.slice/soniqd.service", "system.slice/soniqd.service/memory.events", "low 0\noom 4\noom_kill 3\n"),
        ("5:cpu:/x\n4:memory:/box\n0::/", "memory/box/memory.oom_control", "under_oom 0\noom_kill 3\n"),
        ("0::/../../outside", "memory.events", "oom_kill 3\n"),
    ],
    ids=["version 2", "version 1", "seen from a container"],
)
def test_the_count_is_that_of_the_own_control_group(tmp_path, group, file, text):
    write(tmp_path / "proc/self/cgroup", group + "\n")
    write(tmp_path / "proc/vmstat", "oom_kill 99\n")
    write(tmp_path / "cgroup" / file, text)
    assert count_memory_kills(proc=tmp_path / "proc", cgroups=tmp_path / "cgroup") == 3


def test_without_a_control_group_the_machine_is_asked(tmp_path):
    write(tmp_path / "proc/self/cgroup", "0::/\n")
    write(tmp_path / "proc/vmstat", "pgfault 12\noom_kill 7\n")
    assert count_memory_kills(proc=tmp_path / "proc", cgroups=tmp_path / "cgroup") == 7


def test_a_kernel_that_tells_nothing_is_no_error(tmp_path):
    assert count_memory_kills(proc=tmp_path, cgroups=tmp_path) is None
