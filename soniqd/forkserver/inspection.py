"""What imported code left behind in this process that a fork would not carry well: threads and descriptors."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

_HARMLESS = frozenset({"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"})


def running_threads() -> tuple[str, ...]:
    """Name every thread but the main one, those that only C code knows included, by /proc/self/task."""
    main = os.getpid()
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    ids = sorted(int(entry.name) for entry in Path("/proc/self/task").iterdir())
    return tuple(known.get(thread_id) or _thread_command(thread_id) for thread_id in ids if thread_id != main)


def open_descriptors() -> dict[int, str]:
    """Map every open descriptor to what it stands for, as /proc/self/fd tells it."""
    found: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  a Path for each of many descriptors is of no use
        with contextlib.suppress(OSError):  # the one that listed the folder is closed by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115  its target is no path
    return found


def shared_descriptors(before: dict[int, str], after: dict[int, str]) -> tuple[str, ...]:
    """Describe the descriptors that appeared and that children would share: "7 (socket:[4242])"."""
    return tuple(
        f"{fd} ({target})"
        for fd, target in sorted(after.items())
        if before.get(fd) != target and target not in _HARMLESS
    )


def _thread_command(thread_id: int) -> str:
    try:
        return Path(f"/proc/self/task/{thread_id}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return f"thread {thread_id}"
