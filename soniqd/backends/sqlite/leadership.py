"""Being the only one for a name: a lock on a file in the wake folder, which the kernel releases with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path
from urllib.parse import quote

from soniqd.backends.sqlite.bell import make_wake_folder, wake_folder
from soniqd.errors import DatabaseUnavailableError
from soniqd.model import LeaderRecord

_LONGEST_NAME = 300


class FileLock:
    """An exclusive flock(2). The lock belongs to this object, not to the process."""

    def __init__(self, database: Path, name: str) -> None:
        self._database = database
        self._file_name = quote(name, safe="") + ".lock"
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Try once; a lock on a file that was removed since does not count."""
        if self.held():
            return True
        self.release()
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        self._sign(descriptor)
        return self.held()

    def holder(self) -> LeaderRecord | None:
        """Tell who holds the lock, by what he wrote into the file; None if nobody does.

        Nobody does if a shared lock can be had; who tries for the lock in that moment tries again.
        """
        try:
            descriptor = os.open(wake_folder(self._database) / self._file_name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pid, _, hostname = os.pread(descriptor, _LONGEST_NAME, 0).decode(errors="replace").partition(" ")
            return LeaderRecord(hostname, int(pid)) if pid.isdigit() else LeaderRecord(socket.gethostname())
        finally:
            os.close(descriptor)
        return None

    def held(self) -> bool:
        """Whether the locked file is still the one that others would lock."""
        if self._descriptor is None:
            return False
        try:
            here = (wake_folder(self._database) / self._file_name).stat()
        except OSError:
            return False
        mine = os.fstat(self._descriptor)
        return (here.st_dev, here.st_ino) == (mine.st_dev, mine.st_ino)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _sign(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # a full disk keeps nobody from leading
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}".encode(), 0)

    def _open(self) -> int:
        try:
            place = make_wake_folder(self._database) / self._file_name
            return os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self._database.stat().st_mode & 0o666)
        except OSError as error:
            raise DatabaseUnavailableError(
                f"cannot lock for leadership beside {self._database}: {error.strerror}"
            ) from error
