"""The last word on leaving: a child ends by its deadline even if its event loop stands still.

The loop itself notices a drain order and the end of the link. A handler that blocks the loop keeps it from that, and
when the master is dead nobody else would end the process. So a thread waits for the end of the link, and a timer in C
(:func:`faulthandler.dump_traceback_later`) dumps all stacks and exits with code 1 when the deadline has passed: it
needs neither the loop nor the interpreter's lock.

Dumps go to the black box, for the master to read. When the master is gone they go to stderr, from then on.
"""

from __future__ import annotations

import faulthandler
import os
import select
import socket
import threading
import time
from contextlib import suppress

_STDERR = 2


class Guard:
    """Arms the timer; the earliest deadline counts. ``blackbox`` is where dumps go while the master lives."""

    def __init__(self, *, blackbox: int = _STDERR) -> None:
        self._dump_to = blackbox
        self._lock = threading.Lock()
        self._deadline: float | None = None

    def end_within(self, seconds: float) -> None:
        """End this process, at the latest in so many seconds. Any thread may call it."""
        deadline = time.monotonic() + seconds
        with self._lock:
            if self._deadline is None or deadline < self._deadline:
                self._deadline = deadline
                self._arm(deadline)

    def watch_link(self, link: socket.socket, *, patience_s: float) -> None:
        """Arm the timer when the master is gone, so that this process has ended ``patience_s`` later."""
        # A descriptor of its own: the loop may close the other one, and its number may be given out again.
        thread = threading.Thread(
            target=self._wait_for_hangup,
            args=(os.dup(link.fileno()), patience_s),
            name="soniqd-guard",
            daemon=True,
        )
        thread.start()

    def _arm(self, deadline: float) -> None:
        left_s = max(0.001, deadline - time.monotonic())
        with suppress(RuntimeError):  # no memory for its thread: then the master is who ends this process
            faulthandler.dump_traceback_later(left_s, exit=True, file=self._dump_to)

    def _wait_for_hangup(self, fd: int, patience_s: float) -> None:
        poll = select.poll()
        poll.register(fd, 0)
        poll.poll()
        with self._lock:
            self._dump_to = _STDERR
            if self._deadline is not None:
                self._arm(self._deadline)
        if faulthandler.is_enabled():
            faulthandler.enable(file=_STDERR, all_threads=True)
        self.end_within(patience_s)
