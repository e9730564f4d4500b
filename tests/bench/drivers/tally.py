"""What the handlers of one contestant count: a folder with a file for each process, mapped by who writes and who reads.

A file is an array of 64-bit integers in the host's byte order: how many handlers have started, the moment of the first,
one of every thousandth, and for jobs that are numbered below ``SLOTS`` the moment of its own. Moments are nanoseconds
of the host's monotonic clock, which all processes share. Drivers of other languages write the same.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

STEP = 1000
STAMPS = 4096
SLOTS = 4096
_COUNT, _FIRST, _STAMPS = 0, 1, 2
_SLOTS = _STAMPS + STAMPS
CELLS = _SLOTS + SLOTS


class Tally:
    """Counts what one process starts."""

    def __init__(self, folder: Path) -> None:
        self._cells = _map(folder / str(os.getpid()), create=True)

    def tick(self, number: int) -> None:
        """Count the start of a job; a negative number has no slot."""
        cells = self._cells
        count = cells[_COUNT]
        if count == 0:
            cells[_FIRST] = time.monotonic_ns()
        if 0 <= number < SLOTS and not cells[_SLOTS + number]:
            cells[_SLOTS + number] = time.monotonic_ns()
        count += 1
        cells[_COUNT] = count
        if count % STEP == 0 and count < STEP * STAMPS:
            cells[_STAMPS + count // STEP] = time.monotonic_ns()


class Reader:
    """Adds up what all processes of a contestant counted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maps: dict[str, memoryview] = {}

    def count(self) -> int:
        return sum(cells[_COUNT] for cells in self._all())

    def counts(self) -> list[int]:
        """How many each process started."""
        return [cells[_COUNT] for cells in self._all()]

    def first_ns(self) -> int:
        """When the first handler of all started."""
        return min(cells[_FIRST] for cells in self._all() if cells[_FIRST])

    def reached_ns(self, count: int) -> int:
        """When one process alone had started so many; 0 if none had."""
        assert count % STEP == 0
        return max((cells[_STAMPS + count // STEP] for cells in self._all()), default=0)

    def started_ns(self, number: int) -> int:
        """When the job of this number started; 0 if it has not."""
        return max((cells[_SLOTS + number] for cells in self._all()), default=0)

    def _all(self) -> Iterator[memoryview]:
        for name in os.listdir(self._folder):  # noqa: PTH208  names are all that is needed, and often
            if name not in self._maps and (self._folder / name).stat().st_size == CELLS * 8:
                self._maps[name] = _map(self._folder / name, create=False)
        return iter(self._maps.values())


def _map(path: Path, *, create: bool) -> memoryview:
    with path.open("w+b" if create else "r+b") as file:
        if create:
            file.truncate(CELLS * 8)
        return memoryview(mmap.mmap(file.fileno(), CELLS * 8)).cast("q")
