"""The service manager's notification protocol: sd_notify(3), spoken without libsystemd."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

_PATIENCE_S = 0.5
"""How long a change of state waits when the manager's queue is full; a mere status does not wait."""


class Notifier:
    """Tells the service manager what this process is doing; silent where there is none.

    Each method returns whether the manager got the message. Nothing here raises: a missing manager must not stop a
    daemon.
    """

    def __init__(self, address: str | None) -> None:
        self._address = _socket_address(address)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """Use $NOTIFY_SOCKET."""
        return cls(environ.get("NOTIFY_SOCKET"))

    @property
    def enabled(self) -> bool:
        """Whether anybody listens."""
        return self._address is not None

    def ready(self, *, main_pid: int) -> bool:
        """Start-up, or a reload, is complete; the service's main process is this one."""
        return self._send("READY=1", f"MAINPID={main_pid}")

    def reloading(self) -> bool:
        """A reload begins; :meth:`ready` ends it. The time tells the manager which signal this answers."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self) -> bool:
        """The shutdown begins."""
        return self._send("STOPPING=1")

    def status(self, text: str) -> bool:
        """Set the line that ``systemctl status`` shows. Sent often and soon outdated: it is not waited for."""
        # A newline would end the status and start an assignment of its own.
        return self._send("STATUS=" + " ".join(text.splitlines()), patience_s=0.0)

    def watchdog(self) -> bool:
        """Show that the main loop goes round."""
        return self._send("WATCHDOG=1", patience_s=0.0)

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for more time to start, reload or stop, counted from now."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}", patience_s=0.0)

    def _send(self, *assignments: str, patience_s: float = _PATIENCE_S) -> bool:
        if self._address is None:
            return False
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(patience_s)
            sender.sendto("\n".join(assignments).encode(errors="replace"), self._address)
            return True
        return False


def watchdog_timeout_s(environ: Mapping[str, str]) -> float | None:
    """Return after what silence the manager ends this very process; None if it does not (sd_watchdog_enabled(3))."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    timeout_us = environ.get("WATCHDOG_USEC", "")
    return int(timeout_us) / 1_000_000 if timeout_us.isdecimal() and int(timeout_us) > 0 else None


def _socket_address(address: str | None) -> str | bytes | None:
    match address:
        case None | "":
            return None
        case _ if address.startswith("/"):
            return os.fsencode(address)
        case _ if address.startswith("@"):  # the abstract namespace of unix(7)
            return b"\0" + os.fsencode(address[1:])
        case _:
            return None
