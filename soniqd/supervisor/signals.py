"""What signals mean to the master. Handlers run in the loop, between two events, never in the middle of one.

TERM, INT  drain and leave; a second one: now       HUP  reload
QUIT       leave now                                USR1 write the state to the log
TTIN, TTOU one process more or less in the         USR2 go on as the soniqd on disk (soniqctl upgrade)
           first [[workers]] group
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

from soniqd.log import catalogue, emit
from soniqd.supervisor.groups import Groups
from soniqd.supervisor.master import Master

HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)
"""Every signal with a handler: these stay pending while one image of the master makes room for the next."""


class Signals:
    """Installs the handlers; ``state`` is what USR1 writes down, ``upgrade`` what USR2 does."""

    def __init__(self, master: Master, *, state: Callable[[], dict[str, Any]], upgrade: Callable[[str], None]) -> None:
        self._master = master
        self._state = state
        self._groups = Groups(master)
        self._upgrade = upgrade
        self._reloads: set[asyncio.Task[Any]] = set()

    def install(self) -> None:
        """Begin to listen, also to what came while an earlier image made room for this one; needs the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._master.stop, number.name)
        loop.add_signal_handler(signal.SIGQUIT, self._stop_now)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._dump)
        loop.add_signal_handler(signal.SIGCHLD, self._master.reaper.reap)
        loop.add_signal_handler(signal.SIGUSR2, self._upgrade, "SIGUSR2")
        loop.add_signal_handler(signal.SIGTTIN, self._groups.step, 1, "SIGTTIN")
        loop.add_signal_handler(signal.SIGTTOU, self._groups.step, -1, "SIGTTOU")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def _stop_now(self) -> None:
        self._master.stop("SIGQUIT", now=True)

    def _reload(self) -> None:
        reload = asyncio.get_running_loop().create_task(self._master.reload("SIGHUP"))
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)

    def _dump(self) -> None:
        emit(catalogue.STATE_DUMPED, state=json.dumps(self._state()))
