"""soniqctl's end of the control socket: connect, ask one thing, leave. Blocking, with a deadline.

An answer that has no end (:meth:`ControlClient.follow`) has a deadline for its beginning only.
"""

from __future__ import annotations

import grp
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from soniqd.control.codec import LineBuffer, decode_answer, decode_response, encode_request
from soniqd.control.message import Failed, Items, Request, Succeeded
from soniqd.control.surroundings import START_OF_SERVICE, by_systemd
from soniqd.errors import ControlError, DaemonUnreachableError

DEFAULT_TIMEOUT_S = 10.0

_ADVICE: dict[tuple[type[OSError], ...], str] = {
    (FileNotFoundError, NotADirectoryError): (
        "there is no such socket: is it running{look}? "
        "If it listens elsewhere, name its configuration (-c) or its socket (--socket)"
    ),
    (ConnectionRefusedError,): (
        "nobody listens there: it has died or was killed; its log tells why{log}, {start} starts it"
    ),
    (PermissionError,): "permission denied: use sudo, or become a member of group {group}",
    (TimeoutError,): "no answer within {timeout_s:g} s: see its log{log}",
    (BlockingIOError,): "too many clients are waiting: see its log{log}",
    (ConnectionError,): "it broke the connection: is it stopping?",
}
_RECEIVE_SIZE = 64 * 1024
_LONGEST_PATH = 107  # unix(7): sun_path, without its zero byte


class ControlClient:
    """Asks the daemon that listens on ``path``. Each call is a connection of its own."""

    def __init__(self, path: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def call(
        self, command: str, params: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Return the command's result.

        Raises DaemonUnreachableError when nobody answers in time, and ControlError when the daemon refuses: its
        ``context`` has the error's ``code`` and ``problems``.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        request = Request(1, command, dict(params or {}))
        try:
            with self._connected(timeout_s) as connection:
                response = decode_response(_exchange(connection, encode_request(request), timeout_s, LineBuffer()))
        except OSError as error:
            raise DaemonUnreachableError(self._advice(error, timeout_s)) from error
        match response:
            case Succeeded(result=result):
                return result
            case Failed(code=code, message=message, problems=problems):
                raise ControlError(message, code=code, problems=problems)

    def follow(
        self, command: str, params: Mapping[str, Any] | None = None, *, output: int | None = None
    ) -> Iterator[tuple[dict[str, Any], ...]]:
        """Yield what the daemon tells, as it tells it, until it has no more; the first may be empty.

        ``output`` is where it goes: BrokenPipeError is raised when nobody reads there any more, be there anything to
        tell or not. Raises DaemonUnreachableError and ControlError as :meth:`call`, the former in the middle, too.
        """
        request = Request(1, command, dict(params or {}))
        try:
            with self._connected(self._timeout_s) as connection:
                lines = LineBuffer()
                message = decode_answer(_exchange(connection, encode_request(request), self._timeout_s, lines))
                while isinstance(message, Items):
                    yield message.items
                    message = decode_answer(_next_line(connection, lines, output))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DaemonUnreachableError(self._advice(error, self._timeout_s)) from error
        if isinstance(message, Failed):
            raise ControlError(message.message, code=message.code, problems=message.problems)

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            if len(os.fsencode(self._path)) <= _LONGEST_PATH:
                connection.connect(str(self._path))
            else:
                folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    connection.connect(f"/proc/self/fd/{folder}/{self._path.name}")
                finally:
                    os.close(folder)
            yield connection

    def _advice(self, error: OSError, timeout_s: float) -> str:
        reason = (error.strerror or str(error)).lower()
        for kinds, wording in _ADVICE.items():
            if isinstance(error, kinds):
                facts = {"timeout_s": timeout_s, "group": _group_of(self._path), **_surroundings(self._path)}
                reason = wording.format(**facts)
                break
        return f"cannot reach soniqd on {self._path}: {reason}"


def _next_line(connection: socket.socket, lines: LineBuffer, output: int | None) -> bytes:
    """Wait for the next line, for as long as somebody reads what becomes of it."""
    connection.settimeout(None)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if output is not None:
        poll.register(output, 0)  # POLLERR and POLLHUP are always reported: the reader has left
    while (line := lines.next_line()) is None:
        if any(fd == output for fd, _ in poll.poll()):
            raise BrokenPipeError
        data = connection.recv(_RECEIVE_SIZE)
        if not data:
            raise ConnectionResetError
        lines.feed(data)
    return line


def _exchange(connection: socket.socket, request: bytes, timeout_s: float, lines: LineBuffer) -> bytes:
    deadline = time.monotonic() + timeout_s
    with suppress(BrokenPipeError, ConnectionResetError):  # it may have refused us before reading: that is an answer
        connection.sendall(request)
    while (line := lines.next_line()) is None:
        remaining_s = deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        connection.settimeout(remaining_s)
        data = connection.recv(_RECEIVE_SIZE)
        if not data:
            raise ConnectionResetError
        lines.feed(data)
    return line


def _surroundings(path: Path) -> dict[str, str]:
    if by_systemd(path):
        return {"look": " (systemctl status soniqd)", "log": " (journalctl -u soniqd)", "start": START_OF_SERVICE}
    return {"look": "", "log": " (it goes to the standard error of soniqd)", "start": "soniqd -c FILE"}


def _group_of(path: Path) -> str:
    try:
        return grp.getgrgid(path.lstat().st_gid).gr_name
    except (OSError, KeyError):
        return "of the socket"
