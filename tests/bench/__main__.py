"""soniqd's benchmark: ``python -m tests.bench [--quick] [--only NAME,...]``; ``make bench``, ``make bench-quick``."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.bench.catalogue import SCENARIOS
from tests.bench.peers import PEERS
from tests.bench.runner import run
from tests.bench.scenario import Bench
from tests.bench.server import BenchServer
from tests.bench.tables import markdown, spread


def main(arguments: list[str]) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--only", default="", help="names of scenarios")
    options = parser.parse_args(arguments)
    names = set(options.only.split(",")) - {""}
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.name in names]
    server = BenchServer()
    peers = [peer.contestant for peer in PEERS if peer.is_installed]
    try:
        bench = Bench(server=server, peers=peers, quick=options.quick)
        minutes = options.minutes or (2 if options.quick else 15)
        measured = asyncio.run(run(chosen, bench, 60 * minutes))
    finally:
        server.close()
    for it in measured:
        figure = it.scenario.figure
        rows = [
            [case, spread([v for v in it.values(case, figure) if v is not None])]
            for case in it.samples
        ]
        print(f"\n{it.scenario.title}\n")
        print(markdown(["", figure], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
