"""The first fork server, forked from the master instead of executed: the two then share what both import.

That is most of what either needs: the interpreter, asyncio, the driver of the database. It is done before the master
has an event loop, a connection or a thread, and of the master's process only the memory stays: descriptors,
environment, arguments and module path become those of ``python -P -m soniqd.forkserver``. Every later fork server is
executed, since a reload is also for libraries that are newer on disk.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Collection
from contextlib import suppress

from setproctitle import setproctitle

from soniqd.forkserver import __main__ as program
from soniqd.forkserver.sharing import prepare_sharing

_ONLY_OF_MASTERS = frozenset({"dotenv"})


def fork_early(*, without: Collection[str]) -> tuple[int, socket.socket] | None:
    """Return the fork server's pid and the master's end of the socket; None if there can be no process more now.

    Ends the fork server, as a program of its own, with SystemExit. It does not get the variables ``without``.
    """
    prepare_sharing()
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = os.fork()
    except OSError:  # the master has the patience to try again, by exec
        near.close()
        far.close()
        return None
    if pid == 0:
        near.close()
        _become_a_program(keep=far.fileno(), without=without)
        raise SystemExit(program.serve(far.detach(), exec_child=False))
    far.close()
    return pid, near


def _become_a_program(*, keep: int, without: Collection[str]) -> None:
    _close_all_but(keep)
    for name in without:
        os.environ.pop(name, None)
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of the master's own program
    sys.argv = [str(program.__file__), "--fd", str(keep)]
    sys.modules["__main__"] = program  # what is there is the master's, and part of a fingerprint
    for name in [name for name in sys.modules if name.partition(".")[0] in _ONLY_OF_MASTERS]:
        del sys.modules[name]  # likewise
    setproctitle("soniqd: fork server")


def _close_all_but(keep: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208  names are all that is wanted
        if fd > 2 and fd != keep:
            with suppress(OSError):  # the one that listed the folder is closed by now
                os.close(fd)
