"""The new image's first steps: it goes on where the old one stood.

If it cannot, in spite of what it said when it was asked (see :mod:`soniqd.supervisor.selfcheck`), it executes itself
once more, without a state: what follows is a start like any other after a master's death. The children see their links
end, finish what runs and leave; new ones start meanwhile; who asked for the upgrade is told so.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from soniqd.control import fork
from soniqd.control.activation import keep_passed_sockets
from soniqd.control.codec import encode_response
from soniqd.control.message import Failed
from soniqd.control.reexec import HANDOVER_VARIABLE, read_memory
from soniqd.errors import ControlError
from soniqd.log import catalogue, emit
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.generation import Generation
from soniqd.supervisor.handover import Handover, decode
from soniqd.supervisor.master import Master
from soniqd.version import __version__

_LAST_WORD_S = 1.0


def receive() -> Handover:
    """Take what the old image has left; raises ControlError. Everything it left is close-on-exec from here on."""
    fd = int(os.environ.pop(HANDOVER_VARIABLE))
    _close_on_exec()
    try:
        handover = decode(read_memory(fd))
        os.close(fd)
    except OSError as error:
        raise ControlError(f"cannot read a master's state: {error.strerror}") from error
    if handover.pid != os.getpid():
        raise ControlError(f"the state is that of process {handover.pid}")
    return handover


def resume(master: Master, handover: Handover) -> None:
    """Make a master, made with the roster of the old one, own everything else that was handed over."""
    loop = asyncio.get_running_loop()
    master.started_at, master.started_s = handover.started_at, handover.started_s
    master.upgrades = handover.upgrades + 1
    master.reloads.last, master.reloads.code = handover.last_reload, handover.code
    master.ledger.resume(handover.ledger)
    master.budget.resume(handover.budget)
    master.postmortems.memory_kills.resume(handover.memory_kills)
    master.tap.replace(socket.socket(fileno=handover.tap_fd), socket.socket(fileno=handover.far_tap_fd))
    master.ring.fill(handover.events)
    for earlier in handover.generations:
        generation = Generation.resume(
            earlier, loop=loop, reaper=master.reaper, events=master.hearing, soft_nofile=master.soft_nofile
        )
        master.generations[earlier.number] = generation
        if handover.protocols.fork != fork.PROTOCOL:
            _send_away(generation, theirs=handover.protocols.fork)
    for each in handover.children:
        child = ChildProcess.resume(each, loop, master.reaper, tap_fd=master.tap.far.fileno())
        master.hearing.adopt(child, each.pid)
        master.tap.welcome(child, resumed=True)


def start_anew(handover: Handover | None, error: Exception) -> NoReturn:
    """Give up what was handed over, and start as if there had been nothing; raises OSError."""
    emit(catalogue.TAKEOVER_FAILED, version=__version__, error=f"{type(error).__name__}: {error}", exc_info=error)
    reason = f"soniqd {__version__} cannot go on where its predecessor stood and starts anew: {error}"
    for connection in handover.control.connections if handover else ():
        if connection.answering is not None:
            _tell(connection.fd, Failed(connection.answering, ControlError.code, f"cannot upgrade: {reason}"))
    keep_passed_sockets(os.environ)
    os.execve(sys.executable, sys.orig_argv, os.environ)  # noqa: S606  this very daemon


def _close_on_exec() -> None:
    """Before any other process is started; what cannot be read could not be listed one by one."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one of the folder itself
            if int(entry.name) > 2:
                os.set_inheritable(int(entry.name), False)


def _send_away(generation: Generation, *, theirs: int) -> None:
    emit(
        catalogue.FORK_SERVER_OUTDATED,
        generation=generation.number,
        theirs=theirs,
        ours=fork.PROTOCOL,
        version=__version__,
    )
    generation.hang_up()


def _tell(fd: int, response: Failed) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(fd)) as client:
        client.settimeout(_LAST_WORD_S)
        client.sendall(encode_response(response))
