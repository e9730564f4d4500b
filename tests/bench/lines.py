"""What a line costs the job that writes it: ``python -m tests.bench.lines``.

Each measurement is a process of its own that writes to a pipe which another one empties. ``plain`` is Python's own
line-buffered stdout; the others are what a child of soniqd has.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from soniqd.log import printed
from soniqd.log.context import begin_job
from soniqd.log.mirror import Mirror
from soniqd.log.setup import configure_logging

TEXT = "x" * 80
LINES = 50_000
ROUNDS = 5


def plain_print() -> Callable[[], None]:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return lambda: print(TEXT)


def captured_print(log_format: str) -> Callable[[], None]:
    printed.prepare()
    printed.capture(configure_logging("INFO", log_format))  # type: ignore[arg-type]
    begin_job("01a2047c-bb81-7c48-86ef-491fd950ad51")
    return lambda: print(TEXT)


def followed_print() -> Callable[[], None]:
    call = captured_print("json")
    follow().follow(logging.INFO)
    return call


def log_line(*, mirror: str) -> Callable[[], None]:
    configure_logging("INFO", "json")
    begin_job("01a2047c-bb81-7c48-86ef-491fd950ad51")
    if mirror != "never":
        it = follow()
        it.follow(logging.INFO)
        if mirror == "off":
            it.stop()
    log = logging.getLogger("app")
    return lambda: log.info(TEXT)


def follow() -> Mirror:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def empty() -> None:
        with suppress(OSError):
            while True:
                near.recv(1 << 16)

    threading.Thread(target=empty, daemon=True).start()
    return Mirror(far, slot="default/1")


CASES: dict[str, Callable[[], Callable[[], None]]] = {
    "print, plain": plain_print,
    "print, captured, text": lambda: captured_print("text"),
    "print, captured, json": lambda: captured_print("json"),
    "print, captured, json, followed": followed_print,
    "log line, no mirror in the process": lambda: log_line(mirror="never"),
    "log line, mirror off": lambda: log_line(mirror="off"),
    "log line, followed": lambda: log_line(mirror="on"),
}


def measure(case: str, lines: int) -> None:
    """Write lines, and tell on descriptor 3 how long one took, in nanoseconds."""
    call = CASES[case]()
    for _ in range(lines // 10):
        call()
    began = time.process_time_ns(), time.perf_counter_ns()
    for _ in range(lines):
        call()
    ended = time.process_time_ns(), time.perf_counter_ns()
    os.write(3, f"{(ended[1] - began[1]) / lines} {(ended[0] - began[0]) / lines}".encode())


def run(case: str, lines: int) -> tuple[float, float]:
    """Measure in a process of its own; return wall and CPU time of a line, in microseconds."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "tests.bench.lines", "--case", case, "--lines", str(lines)]
    drain = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        subprocess.run(
            ["sh", "-c", f'exec 3>&{writer}; exec "$@"', "sh", *command],
            stdout=drain.stdin,
            stderr=drain.stdin,
            pass_fds=[writer],
            check=True,
        )
        wall_ns, cpu_ns = os.read(reader, 100).split()
        return float(wall_ns) / 1000, float(cpu_ns) / 1000
    finally:
        assert drain.stdin is not None
        drain.stdin.close()
        drain.wait()
        os.close(reader)
        os.close(writer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case")
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.case:
        measure(options.case, options.lines)
        return
    taken: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for _ in range(options.rounds):  # in turns, so that a busy moment of the machine is not one case's alone
        for case in CASES:
            taken[case].append(run(case, options.lines))
    print(f"{'microseconds a line of 80 characters':<38}{'wall':>8}{'cpu':>8}   median of {options.rounds}")
    for case, times in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{case:<38}{wall:>8.2f}{cpu:>8.2f}")


if __name__ == "__main__":
    main()
