"""What signals mean to the master. Handlers run in the loop, between two events, never in the middle of one.

TERM, INT  drain and leave; a second one: now       HUP  reload
QUIT       leave now                                USR1 write the state to the log
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

from soniqd.log import catalogue, emit
from soniqd.supervisor.master import Master

_WITHOUT_MEANING = (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)
"""Common among process managers, and deadly by default."""


class Signals:
    """Installs the handlers; ``state`` is what USR1 writes down."""

    def __init__(self, master: Master, *, state: Callable[[], dict[str, Any]]) -> None:
        self._master = master
        self._state = state
        self._reloads: set[asyncio.Task[Any]] = set()

    def install(self) -> None:
        """Begin to listen; needs the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._master.stop, number.name)
        loop.add_signal_handler(signal.SIGQUIT, self._stop_now)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR1, self._dump)
        loop.add_signal_handler(signal.SIGCHLD, self._master.reaper.reap)
        for number in _WITHOUT_MEANING:
            loop.add_signal_handler(number, self._ignore, number.name)

    def _stop_now(self) -> None:
        self._master.stop("SIGQUIT", now=True)

    def _reload(self) -> None:
        reload = asyncio.get_running_loop().create_task(self._master.reload("SIGHUP"))
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)

    def _dump(self) -> None:
        emit(catalogue.STATE_DUMPED, state=json.dumps(self._state()))

    def _ignore(self, name: str) -> None:
        emit(catalogue.SIGNAL_IGNORED, signal=name)
