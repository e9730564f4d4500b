"""Take the control socket's path: no moment with wrong permissions, no second soniqd, no stale file in the way.

The socket is bound under a name of its own, gets its group and mode, listens, and is then renamed over the path. A
lock on the folder keeps two that start at once from both finding the path free; it leaves no file behind.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from soniqd.control.peer import Peer, group_id
from soniqd.errors import ConfigurationError, ControlError

_MODE = 0o660
_FOLDER_MODE = 0o755
_BACKLOG = 64
_LOCK_TIMEOUT_S = 5.0
_LOCK_RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and the file that is its own, if any; ``gid`` is the group that may use it."""

    accepting: socket.socket
    path: Path
    gid: int
    file: tuple[int, int] | None

    @classmethod
    def inherited(cls, listening: socket.socket, path: Path, *, group: str | None) -> Listener:
        """Serve a socket that others have made and go on to own: its file is left where it is."""
        listening.setblocking(False)
        return cls(listening, path, _gid(path, group), None)

    @classmethod
    def handed_over(
        cls, listening: socket.socket, path: Path, *, group: str | None, file: tuple[int, int] | None
    ) -> Listener:
        """Go on with the socket of this process's earlier image, and with the file that was its own."""
        listening.setblocking(False)
        return cls(listening, path, _gid(path, group), file)

    def close(self) -> None:
        """Stop listening; remove the file unless it is another's by now."""
        self.accepting.close()
        with suppress(OSError), _folder(self.path) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _identity(os.stat(self.path.name, dir_fd=folder, follow_symlinks=False)) == self.file:
                os.unlink(self.path.name, dir_fd=folder)


async def listen(path: Path, *, group: str | None) -> Listener:
    """Listen on ``path``; raises ControlError with the reason when that cannot be, or another soniqd does."""
    gid = _gid(path, group)
    _make_folder(path)
    try:
        async with _locked_folder(path) as folder:
            _refuse_living(path, folder)
            return _bind(path, folder, gid)
    except OSError as error:
        raise ControlError(f"cannot listen on {path}: {_reason(error)}") from error


def _gid(path: Path, group: str | None) -> int:
    try:
        return os.getegid() if group is None else group_id(group)
    except KeyError:
        raise ConfigurationError(f'cannot listen on {path}: there is no group "{group}" (socket_group)') from None


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise ControlError(
            f"cannot listen on {path}: cannot create the folder {path.parent}: {_reason(error)}"
        ) from error


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


@asynccontextmanager
async def _locked_folder(path: Path) -> AsyncIterator[int]:
    with _folder(path) as folder:
        try:
            async with asyncio.timeout(_LOCK_TIMEOUT_S):
                while not _try_lock(folder):  # noqa: ASYNC110  another process unlocks it
                    await asyncio.sleep(_LOCK_RETRY_S)
        except TimeoutError:
            raise ControlError(f"cannot listen on {path}: another process holds a lock on {path.parent}") from None
        yield folder


def _try_lock(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refuse_living(path: Path, folder: int) -> None:
    try:
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"cannot listen on {path}: it is there and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(_short(folder, path.name))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:  # it listens, and is too busy to accept
            raise ControlError(f"cannot listen on {path}: another soniqd runs here") from None
        raise ControlError(f"cannot listen on {path}: another soniqd (pid {Peer.of(probe).pid}) runs here")


def _bind(path: Path, folder: int, gid: int) -> Listener:
    private = f".{secrets.token_hex(8)}"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listening.bind(_short(folder, private))
        status = os.stat(private, dir_fd=folder, follow_symlinks=False)
        if status.st_gid != gid:
            os.chown(private, -1, gid, dir_fd=folder, follow_symlinks=False)
        os.chmod(private, _MODE, dir_fd=folder)
        listening.listen(_BACKLOG)
        os.rename(private, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        listening.close()
        with suppress(OSError):
            os.unlink(private, dir_fd=folder)
        raise
    return Listener(listening, path, gid, _identity(status))


def _short(folder: int, name: str) -> str:
    """Name a file by its folder's descriptor: the whole path may be longer than the 107 bytes of unix(7)."""
    return f"/proc/self/fd/{folder}/{name}"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
