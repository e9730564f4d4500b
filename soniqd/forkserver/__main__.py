"""``python -m soniqd.forkserver``: started by the master, of no use by hand."""

from __future__ import annotations

import argparse
import socket
import sys

from soniqd.forkserver.server import ForkServer


def main() -> int:
    """Serve the master on the inherited socket; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m soniqd.forkserver", description="part of soniqd; not for people")
    parser.add_argument("--fd", type=int, required=True, help="inherited SOCK_SEQPACKET socket of the master")
    parser.add_argument("--exec-child", action="store_true", help="become the first child instead of forking it")
    arguments = parser.parse_args()
    with socket.socket(fileno=arguments.fd) as master:
        master.set_inheritable(False)
        return ForkServer(master, exec_child=arguments.exec_child).run()


if __name__ == "__main__":
    sys.exit(main())
