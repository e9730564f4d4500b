"""A worker with 300 MiB of imports, forked against executed anew: ``tests.bench.respawn`` with a few workers."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.contestants import SONIQD
from tests.bench.respawn import measure as measure_respawn
from tests.bench.scenario import Bench, Case, Sample, Scenario

_WORKERS = 3


def cases(bench: Bench) -> Sequence[Case]:
    async def measure() -> Sample:
        async with SONIQD.database(bench.server) as url:
            with tempfile.TemporaryDirectory(prefix="soniqd-bench-") as folder:
                contestants = await measure_respawn(Path(folder), url, _WORKERS)
        figures: dict[str, float] = {}
        for name, it in contestants.items():
            figures[f"{name}, ready after ms"] = 1000 * statistics.median(it.seconds)
            figures[f"{name}, private MiB"] = statistics.median(it.worked_mib)
        figures["times as fast"] = figures["executed, ready after ms"] / figures["forked, ready after ms"]
        return figures

    return [] if bench.quick else [Case("300 MiB imported", measure)]


SCENARIO = Scenario(
    name="respawn",
    title="A worker after kill -9, forked against executed anew",
    figure="times as fast",
    cases=cases,
    rounds=(1, 0),
    estimate_s=(60, 0),
    note="300 MiB of small objects are imported. Private memory is that after 100 jobs.",
)
