"""What two images of one process say to each other without having met: names of variables, and sealed memory.

The image that leaves writes its state into memory that nobody can change any more, and starts the next one in its own
place (execve(2)) with the descriptor's number in :data:`HANDOVER_VARIABLE`. Before that it starts the next one beside
itself, with a socket in :data:`SELF_CHECK_VARIABLE`: it is to say whether it could go on with that state.
"""

from __future__ import annotations

import fcntl
import os

HANDOVER_VARIABLE = "SONIQD_HANDOVER"
SELF_CHECK_VARIABLE = "SONIQD_SELF_CHECK"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def sealed_memory(content: bytes) -> int:
    """Return the descriptor of a file in memory with this content, for ever; raises OSError."""
    fd = os.memfd_create("soniqd-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_memory(fd: int) -> bytes:
    """Return the whole content of a file in memory, wherever its position is; raises OSError."""
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return file.read()
