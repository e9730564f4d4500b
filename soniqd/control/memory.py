"""What a child shares with its master in memory: they read it whatever state the other one is in.

Two files that exist in memory only (memfd_create(2)), made by the master for each child, of a sealed size: a child
that could shorten them would kill the master that reads them (mmap(2), SIGBUS), one that could extend them would take
memory without a bound.

The *memory* is mapped by both. Each field has one writer, and is one store of a machine word, so that a reader sees
the old value or the new one:

======  ===========  =====  =============================================================================
offset  field        by     meaning
======  ===========  =====  =============================================================================
0       tick         child  grows while the event loop goes round
8       asked        both   the master adds one to ask for all stacks
16      answered     child  ``asked`` as it was when the stacks were last written to the black box
24      blocker      child  where the slot of the job that blocks the event loop begins; 0: none is known
32      begun        child  how many jobs have begun
40      looks        child  how often it has looked for jobs and had an answer
64...   slots        child  48 bytes for each job that may run at once: its id as text, then when it started
                            (nanoseconds of CLOCK_MONOTONIC; 0: the slot is free)
======  ===========  =====  =============================================================================

A slot's id is written before its start and stays when the slot is freed. Thus a child that was killed at any moment
leaves the jobs that really ran, and those that had ended lately: what became of them may not be written down yet.

The *black box* is a file for stack dumps, as an aircraft has for its last moments: written by signal handlers and by
threads in need, read by the master. Both use one file position, which says how much was written; the master puts it
back when it has read. What does not fit is lost.

Neither side believes the other one: whatever the bytes are, they are only ever numbers and text.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from typing import NamedTuple

LAYOUT = 1
"""Grows when a master would misread the memory of children that another release has started (see soniqctl upgrade)."""
BLACKBOX_BYTES = 256 * 1024

_WORD = struct.Struct("=Q")
_ASKED_AT, _ANSWERED_AT, _BLOCKER_AT, _BEGUN_AT, _LOOKS_AT, _SLOTS_AT = 8, 16, 24, 32, 40, 64
_SLOT = struct.Struct("=36s4xQ")  # written in this order
_STARTED = 40
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class RunningJob(NamedTuple):
    """A job in its slot. ``job_id`` is the child's word for it: not yet known to be an id."""

    job_id: str
    started_ns: int


def create_memory(slots: int) -> int:
    """Return the descriptor of memory for a child that runs so many jobs at once; raises OSError."""
    return _create("soniqd-memory", _SLOTS_AT + slots * _SLOT.size)


def create_blackbox() -> int:
    """Return the descriptor of an empty black box; raises OSError."""
    return _create("soniqd-blackbox", BLACKBOX_BYTES)


def _create(name: str, size: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


class _Mapped:
    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, 0)
        self._slots = (len(self._memory) - _SLOTS_AT) // _SLOT.size

    def close(self) -> None:
        """Unmap it."""
        self._memory.close()

    @property
    def asked(self) -> int:
        """How often the master has asked for stacks."""
        return self._word(_ASKED_AT)

    def _word(self, offset: int) -> int:
        value: int = _WORD.unpack_from(self._memory, offset)[0]
        return value


class ChildMemory(_Mapped):
    """The child's side. Slots belong to the thread of its event loop."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._free = [_SLOTS_AT + number * _SLOT.size for number in range(self._slots)]
        self._ticks = self._begun = self._looks = 0

    def tick(self) -> None:
        """Say that the event loop goes round."""
        self._ticks += 1
        _WORD.pack_into(self._memory, 0, self._ticks)

    def look(self) -> None:
        """Note that a claim was answered, with jobs or with none."""
        self._looks += 1
        _WORD.pack_into(self._memory, _LOOKS_AT, self._looks)

    def begin(self, job_id: str) -> int | None:
        """Note that a job runs from now on; returns where its slot begins, None where all are taken."""
        if not self._free:
            return None
        slot = self._free.pop()
        _SLOT.pack_into(self._memory, slot, job_id.encode(), time.monotonic_ns())
        self._begun += 1
        _WORD.pack_into(self._memory, _BEGUN_AT, self._begun)
        return slot

    def end(self, slot: int | None) -> None:
        """Note that the job in a slot runs no more."""
        if slot is not None:
            _WORD.pack_into(self._memory, slot + _STARTED, 0)
            self._free.append(slot)

    def set_blocker(self, slot: int | None) -> None:
        """Name the job that blocks the event loop, by its slot."""
        _WORD.pack_into(self._memory, _BLOCKER_AT, slot or 0)

    def answer(self, asked: int) -> None:
        """Say that the stacks asked for are in the black box."""
        _WORD.pack_into(self._memory, _ANSWERED_AT, asked)


class MasterMemory(_Mapped):
    """The master's side."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._starts = memoryview(self._memory).cast("Q")[(_SLOTS_AT + _STARTED) // 8 :: _SLOT.size // 8]

    def close(self) -> None:
        self._starts.release()
        super().close()

    @property
    def tick(self) -> int:
        """The child's tick counter."""
        return self._word(0)

    @property
    def answered(self) -> int:
        """Which question about stacks the child has answered last."""
        return self._word(_ANSWERED_AT)

    def ask(self) -> int:
        """Ask for the stacks of threads and tasks; returns what ``answered`` will be."""
        asked = (self.asked + 1) & 0xFFFFFFFFFFFFFFFF
        _WORD.pack_into(self._memory, _ASKED_AT, asked)
        return asked

    @property
    def begun(self) -> int:
        """How many jobs have begun."""
        return self._word(_BEGUN_AT)

    @property
    def looks(self) -> int:
        """How often the child has looked for jobs and had an answer."""
        return self._word(_LOOKS_AT)

    @property
    def in_flight(self) -> int:
        """How many jobs run now, whatever the child has told. Cheap: asked for every job."""
        return sum(map(bool, self._starts))

    def running(self) -> list[RunningJob]:
        """Return the jobs that run, or ran when the child ended, oldest first."""
        jobs = [self._job(_SLOTS_AT + number * _SLOT.size) for number in range(self._slots)]
        return sorted((job for job in jobs if job is not None), key=lambda job: job.started_ns)

    def ended(self) -> list[str]:
        """Return what freed slots still name: the last job of each, at whatever time it ended."""
        slots = (_SLOT.unpack_from(self._memory, _SLOTS_AT + number * _SLOT.size) for number in range(self._slots))
        return [text for raw, started_ns in slots if not started_ns and (text := _text(raw))]

    def blocker(self) -> RunningJob | None:
        """Return the job that blocks the event loop, if there is one and it is known."""
        slot = self._word(_BLOCKER_AT)
        number, rest = divmod(slot - _SLOTS_AT, _SLOT.size)
        return self._job(slot) if 0 <= number < self._slots and not rest else None

    def _job(self, slot: int) -> RunningJob | None:
        raw, started_ns = _SLOT.unpack_from(self._memory, slot)
        return RunningJob(_text(raw), started_ns) if started_ns else None


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii", "replace")


def written_to_blackbox(fd: int) -> int:
    """Return how many bytes there are to be taken out."""
    return min(os.lseek(fd, 0, os.SEEK_CUR), BLACKBOX_BYTES)


def read_blackbox(fd: int) -> str:
    """Take what was written out of a black box."""
    written = written_to_blackbox(fd)
    text = os.pread(fd, written, 0).decode(errors="replace") if written > 0 else ""
    os.lseek(fd, 0, os.SEEK_SET)
    return text.replace("\0", "")


def write_blackbox(fd: int, text: str) -> None:
    """Add text; what does not fit is lost."""
    data = text.encode(errors="replace")
    room = BLACKBOX_BYTES - os.lseek(fd, 0, os.SEEK_CUR)
    if room > 0:
        os.write(fd, data[:room])
