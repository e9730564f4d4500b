"""soniqd's benchmark, beside a bare loop of psycopg and other job queues: ``python -m tests.bench --help``.

``make bench`` takes 15 minutes, ``make bench-quick`` two with fewer peers, smaller tables and fewer rounds. ``make
bench-peers`` installs the peers first. Results are one JSON file and one HTML page; the targets also go to stdout. The
scenarios are in scenarios/, each in a module with what it measures in its docstring; what they are held against is in
targets.toml. ``make bench BENCH_ARGS='--only drain,latency --minutes 5'`` measures less.

Other measurements, each a program of its own: ``chaos``, ``two_masters`` (invariants under random kills), ``respawn``,
``supervisors`` (beside gunicorn and supervisord), ``lines`` (what a log line costs), ``memory`` (stage by stage).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from soniqd.version import __version__
from tests.bench.catalogue import SCENARIOS
from tests.bench.peers import PEERS
from tests.bench.report import Surroundings, as_html, as_json, as_markdown
from tests.bench.runner import Measured, run
from tests.bench.scenario import Bench, Scenario
from tests.bench.server import SETTINGS, BenchServer
from tests.bench.targets import judge, read_targets

FULL_MINUTES, QUICK_MINUTES = 14.5, 1.8
"""Starting the server and writing the report take the rest."""


def main(arguments: Sequence[str]) -> int:
    """Measure and report; return 1 if something could not be measured."""
    options = _options(arguments)
    load = os.getloadavg()[0]
    server = BenchServer()
    began, start = datetime.now(UTC), time.monotonic()
    minutes = options.minutes or (QUICK_MINUTES if options.quick else FULL_MINUTES)
    peers = [peer for peer in PEERS if peer.is_installed]
    bench = Bench(server=server, peers=[peer.contestant for peer in peers], quick=options.quick)
    try:
        found = asyncio.run(run(_chosen(options.only), bench, 60 * minutes))
        around = Surroundings(
            began=began.isoformat(timespec="seconds"),
            minutes=(time.monotonic() - start) / 60,
            mode="the quick form" if options.quick else "the full form",
            machine=_machine(server, load),
            versions={"soniqd": __version__} | {peer.name: peer.version for peer in peers},
            absent=[peer.name for peer in PEERS if not peer.is_installed],
        )
    finally:
        server.close()
    _write(options.out, around, found)
    return 1 if any(it.errors for it in found) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true", help="two minutes")
    parser.add_argument("--minutes", type=float, help="another time to keep")
    parser.add_argument("--only", default="", metavar="NAME,...", help=", ".join(it.name for it in SCENARIOS))
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder of the report")
    return parser.parse_args(arguments)


def _chosen(names: str) -> list[Scenario]:
    wanted = set(names.split(",")) - {""}
    return [scenario for scenario in SCENARIOS if not wanted or scenario.name in wanted]


def _machine(server: BenchServer, load: float) -> dict[str, str]:
    settings = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
    return {
        "Python": platform.python_version(),
        "PostgreSQL": f"{server.version} ({settings})",
        "CPUs": str(os.cpu_count()),
        "kernel": platform.release(),
        "load before": f"{load:.1f}",
    }


def _write(folder: Path, around: Surroundings, found: Sequence[Measured]) -> None:
    names = {it.scenario.name: it for it in found}
    judged = judge([target for target in read_targets() if target.scenario in names], names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(as_json(around, found, judged), indent=1))
    (folder / "report.html").write_text(as_html(around, found, judged))
    print(f"\n{as_markdown(judged)}\n\n{folder / 'report.html'}, {folder / 'results.json'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
