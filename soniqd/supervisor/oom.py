"""Whether a killed process was killed by the kernel for want of memory, as far as the kernel tells.

A process that was killed does not know why, and its exit status says SIGKILL, as after any kill -9. The kernel counts
what it kills for want of memory, for each control group: ``oom_kill`` in memory.events (cgroup v2, see
Documentation/admin-guide/cgroup-v2.rst of Linux) or in memory.oom_control (v1), and for the whole machine in
/proc/vmstat, which is looked at where there is no control group. The count grows before the signal is sent. So an exit
by SIGKILL is put down to it if the count has grown within the last one or two seconds, once for each that was counted.

Two processes of one control group that are killed in the same second, one by the kernel and one by a person, cannot
be told apart.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from soniqd.model.child import ExitCause

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


class MemoryKills:
    """Compares counts over time. ``count`` reads the kernel's; None: it cannot be known."""

    def __init__(self, count: Callable[[], int | None] | None = None) -> None:
        self._count = count or count_memory_kills
        self._samples: deque[int] = deque(maxlen=2)
        self.sample()

    @property
    def counted(self) -> int | None:
        """The count that later ones are compared with; None if there is none."""
        return self._samples[0] if self._samples else None

    def resume(self, counted: int | None) -> None:
        """Compare with the count of an earlier image of this process: what was killed meanwhile is seen, too."""
        if counted is not None:
            self._samples.appendleft(counted)

    def sample(self) -> None:
        """Look at the count; to be called every second or so."""
        count = self._count()
        if count is not None:
            self._samples.append(count)

    def explain(self, cause: ExitCause) -> ExitCause:
        """Return the cause of an exit that was just heard of, with the want of memory if that is behind it."""
        if cause.signal != signal.SIGKILL or not self._samples:
            return cause
        count = self._count()
        if count is None or count <= self._samples[0]:
            return cause
        explained = self._samples[0] + 1
        self._samples = deque((max(sample, explained) for sample in self._samples), maxlen=2)
        return replace(cause, out_of_memory=True)


def count_memory_kills(*, proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Read how many processes of this process's control group, or of the machine, were killed for want of memory."""
    for path in (*_candidates(proc, cgroups), proc / "vmstat"):
        try:
            words = path.read_text(encoding="ascii", errors="replace").split()
        except OSError:
            continue
        for name, value in pairwise(words):
            if name == "oom_kill" and value.isdigit():
                return int(value)
    return None


def _candidates(proc: Path, cgroups: Path) -> list[Path]:
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            found.append(cgroups / group.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(cgroups / "memory" / group.lstrip("/") / "memory.oom_control")
    # A container may see its own control group at the root, under a name that only its host understands.
    return [*found, cgroups / "memory.events"]
