"""Fork a child that is nobody's here: its parent is gone before this process knows its pid."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

_REPORT = struct.Struct("=i")
"""The child's pid, or an errno negated."""


def fork_orphan(become: Callable[[], int]) -> int:
    """Make a process that runs ``become`` and exits with its answer; return its pid.

    Its parent has ended and was reaped on return, so that it belongs to the nearest subreaper (see
    PR_SET_CHILD_SUBREAPER(2const)). Raises OSError, as fork(2), if there is no new process.
    """
    reader, writer = os.pipe()
    try:
        intermediate = os.fork()
        if intermediate == 0:
            _run_intermediate(become, reader, writer)
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    os.close(writer)
    try:
        report = os.read(reader, _REPORT.size)
    finally:
        os.close(reader)
        os.waitpid(intermediate, 0)
    return _pid_from(report)


def _run_intermediate(become: Callable[[], int], reader: int, writer: int) -> None:
    """Fork once more and end; does not return, whatever happens."""
    try:
        os.close(reader)
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            os.close(writer)
            os._exit(become())
        os.write(writer, _REPORT.pack(pid))
    finally:
        os._exit(70)  # the exit code of the intermediate process means nothing, that of a failed child does


def _pid_from(report: bytes) -> int:
    if len(report) != _REPORT.size:
        raise ChildProcessError("the intermediate process died")
    (pid,) = _REPORT.unpack(report)
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return int(pid)
