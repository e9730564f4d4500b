"""Who is at the other end of a unix socket, by the kernel's word."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

_UCRED = struct.Struct("3i")
# unix(7): SO_PEERGROUPS since Linux 4.13; Python has no name for it.
_SO_PEERGROUPS = 59
# getsockopt of Python takes at most 1024 bytes; who is in more groups is looked up by name.
_MOST_GROUPS = 256


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as it was then; ``groups`` are all its groups."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int] = frozenset()

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """Ask the kernel (unix(7), SO_PEERCRED)."""
        pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return cls(pid, uid, gid, frozenset((gid, *_groups(connection, uid, gid))))

    def may_control(self, *, uid: int, gid: int) -> bool:
        """Tell whether it is root, of the daemon's own user, or a member of the socket's group."""
        return self.uid in (0, uid) or gid in self.groups


def group_id(name: str) -> int:
    """Return a group's number; raises KeyError."""
    return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid


def _groups(connection: socket.socket, uid: int, gid: int) -> tuple[int, ...]:
    with suppress(OSError):
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
        return struct.unpack(f"{len(packed) // 4}I", packed)
    with suppress(KeyError, OSError):
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    return ()
