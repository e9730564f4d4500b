"""The control socket as a service manager passes it (sd_listen_fds(3)).

It is known by its address, which has to be the configured one: that is where soniqctl looks for it. Its descriptor
stays the same for as long as the process lives, and the variables stay in its environment, so that an image of the
process that has to start anew finds it again; the process's children see neither.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from soniqd.errors import ConfigurationError
from soniqd.log import catalogue, emit

_FIRST_FD = 3


def passed_socket(path: Path, environ: Mapping[str, str]) -> socket.socket | None:
    """Take the socket that listens on ``path``; None if none was passed, ConfigurationError if only others were."""
    passed = [fd for fd in _passed(environ) if _is_open(fd)]
    if not passed:
        return None
    found: int | None = None
    others = []
    for fd in passed:
        os.set_inheritable(fd, False)
        address = _address(fd)
        if found is None and address is not None and os.path.realpath(address) == os.path.realpath(path):
            found = fd
        else:
            others.append(f"descriptor {fd}" if address is None else address)
    if found is None:
        raise ConfigurationError(
            f"cannot use the passed socket ({', '.join(others)}): [soniqd] socket is {path}; "
            f"write ListenStream={path} into soniqd.socket, or change the key"
        )
    if others:
        emit(catalogue.SOCKETS_NOT_USED, sockets=", ".join(others))
    return socket.socket(fileno=found)


def keep_passed_sockets(environ: Mapping[str, str]) -> None:
    """Let the next image of this process find what was passed to this one."""
    for fd in _passed(environ):
        with suppress(OSError):
            os.set_inheritable(fd, True)


def _passed(environ: Mapping[str, str]) -> range:
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return range(0)
    return range(_FIRST_FD, _FIRST_FD + int(count))


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _address(fd: int) -> str | None:
    """Return where a descriptor listens as a unix stream socket; None if it does not."""
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as passed:
        is_stream = (passed.family, passed.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
        if is_stream and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            address = passed.getsockname()
            return address if isinstance(address, str) and address.startswith("/") else None
    return None
