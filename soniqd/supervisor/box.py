"""The master's ends of what a child leaves behind: its memory and its black box."""

from __future__ import annotations

import os
from contextlib import suppress

from soniqd.control.memory import MasterMemory, create_blackbox, create_memory, read_blackbox


class Box:
    """Both files of one child, by their descriptors, which stay open here until :meth:`close`."""

    def __init__(self, memory_fd: int, blackbox_fd: int) -> None:
        self.memory_fd = memory_fd
        self.blackbox_fd = blackbox_fd
        self.memory = MasterMemory(memory_fd)

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

    def take_stacks(self) -> str:
        """Take out what was written into the black box since this was last asked."""
        return read_blackbox(self.blackbox_fd).strip() if self.blackbox_fd >= 0 else ""

    def close(self) -> None:
        """Give the descriptors back."""
        self.memory.close()
        for fd in (self.memory_fd, self.blackbox_fd):
            with suppress(OSError):
                if fd >= 0:
                    os.close(fd)
        self.memory_fd = self.blackbox_fd = -1
