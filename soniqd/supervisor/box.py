"""The master's ends of what a child leaves behind: its memory and its black box."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass

from soniqd.control.memory import (
    MasterMemory,
    RunningJob,
    create_blackbox,
    create_memory,
    read_blackbox,
    written_to_blackbox,
)


@dataclass(frozen=True, slots=True)
class Remains:
    """What a child has left: the jobs that had begun and not ended, the one that kept its loop, its last stacks.

    ``ended`` names jobs whose code had ended: of those that the worker still holds, nobody was told how.
    """

    running: tuple[RunningJob, ...] = ()
    ended: tuple[str, ...] = ()
    blocker: RunningJob | None = None
    stacks: str = ""


class Box:
    """Both files of one child, by their descriptors, which stay open here until :meth:`close`."""

    def __init__(self, memory_fd: int, blackbox_fd: int) -> None:
        self.memory_fd = memory_fd
        self.blackbox_fd = blackbox_fd
        self.memory = MasterMemory(memory_fd)
        self.asking = asyncio.Lock()
        """Held by who waits for stacks: the box has room for one answer."""

    @classmethod
    def create(cls, slots: int) -> Box:
        """Make them for a child that runs so many jobs at once; raises OSError."""
        descriptors: list[int] = []
        try:
            descriptors += [create_memory(slots)]
            descriptors += [create_blackbox()]
            return cls(*descriptors)
        except OSError:
            for fd in descriptors:
                os.close(fd)
            raise

    @property
    def closed(self) -> bool:
        """There is nothing to be read any more."""
        return self.blackbox_fd < 0

    @property
    def written(self) -> int:
        """How much there is in the black box."""
        return 0 if self.closed else written_to_blackbox(self.blackbox_fd)

    def remains(self) -> Remains:
        """Read what there is to be known of a child that has ended."""
        if self.closed:
            return Remains()
        return Remains(
            running=tuple(self.memory.running()),
            ended=tuple(self.memory.ended()),
            blocker=self.memory.blocker(),
            stacks=self.take_stacks(),
        )

    def take_stacks(self) -> str:
        """Take out what was written into the black box since this was last asked."""
        return read_blackbox(self.blackbox_fd).strip() if not self.closed else ""

    def close(self) -> None:
        """Give the descriptors back."""
        self.memory.close()
        for fd in (self.memory_fd, self.blackbox_fd):
            with suppress(OSError):
                if fd >= 0:
                    os.close(fd)
        self.memory_fd = self.blackbox_fd = -1
