"""``python -m soniqd.forkserver``: started by the master, of no use by hand."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from contextlib import suppress

from soniqd.control.fork import MAX_PACKET, BootFailed, encode
from soniqd.version import __version__

_EX_CONFIG = 78
_FAREWELL_S = 3


def main() -> int:
    """Serve the master on the inherited socket; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m soniqd.forkserver", description="part of soniqd; not for people")
    parser.add_argument("--fd", type=int, required=True, help="inherited SOCK_SEQPACKET socket of the master")
    parser.add_argument("--exec-child", action="store_true", help="become the first child instead of forking it")
    arguments = parser.parse_args()
    return serve(arguments.fd, exec_child=arguments.exec_child)


def serve(fd: int, *, exec_child: bool) -> int:
    """Serve the master at the other end of a socket until it is gone; returns the exit code."""
    with socket.socket(fileno=fd) as master:
        master.set_inheritable(False)
        code = _serve(master, exec_child=exec_child)
    _end_soon()
    return code


def _serve(master: socket.socket, *, exec_child: bool) -> int:
    try:
        from soniqd.forkserver.server import ForkServer  # noqa: PLC0415  what it needs may be missing, see below
    except ImportError as error:
        with suppress(OSError):
            master.recv(MAX_PACKET)  # Boot: what is left unread at the end would reset the connection, answer and all
            master.send(encode(_incomplete(error)))
        return _EX_CONFIG
    return ForkServer(master, exec_child=exec_child).run()


def _end_soon() -> None:
    """See to it that this process ends, whatever modules left behind: the interpreter waits for threads and atexit."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM,))
    signal.alarm(_FAREWELL_S)


def _incomplete(error: ImportError) -> BootFailed:
    """Say that this interpreter, which may be an application's, has soniqd without what it depends on."""
    problem = (
        f"cannot run soniqd in {sys.executable}: {error}; "
        f'install it there with "{sys.executable} -m pip install soniqd=={__version__}"'
    )
    return BootFailed(problems=(problem,), traceback="", version=__version__)


if __name__ == "__main__":
    sys.exit(main())
