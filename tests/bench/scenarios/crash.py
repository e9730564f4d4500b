"""How soon the job of a worker that is killed runs again, and how soon there is another worker."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.bench.contestants import SONIQD, SQLITE, Ours, application, until
from tests.bench.distribution import quantile
from tests.bench.scenario import Bench, Case, Sample, Scenario

_BETWEEN_S = 0.3


def cases(bench: Bench) -> Sequence[Case]:
    def case(contestant: Ours) -> Case:
        async def measure() -> Sample:
            async with contestant.database(bench.server) as url:
                return await crash(contestant, url, bench.size(20, 6))

        return Case(contestant.name, measure)

    return [case(SONIQD), *([] if bench.quick else [case(SQLITE)])]


async def crash(contestant: Ours, url: str, kills: int) -> Sample:
    """Kill the worker of a running job again and again; the next worker of a place may then wait for its backoff."""
    again_ms = []
    group = {"processes": kills + 1, "concurrency": 1}
    with tempfile.TemporaryDirectory(prefix="soniqd-bench-") as folder:
        async with contestant.daemon(url, [group]) as (_, daemon), application(url) as app:
            up = daemon.log.mark()
            for number in range(kills):
                marks = Path(folder) / str(number)
                await app.enqueue("mark", args={"path": str(marks)})
                await until(partial(_has_lines, marks, 1), "the job runs")
                _, pid = marks.read_text().split()
                killed_at = time.monotonic()
                os.kill(int(pid), signal.SIGKILL)
                await until(partial(_has_lines, marks, 2), "the job runs again")
                again_ms.append(1000 * (float(marks.read_text().split()[2]) - killed_at))
                await asyncio.sleep(_BETWEEN_S)
            ready_ms = [float(record["ready_ms"]) for record in daemon.log.find("child_ready", since=up)]
    return {
        "runs again, median ms": quantile(again_ms, 0.5),
        "runs again, max ms": max(again_ms),
        "next worker, median ms": quantile(ready_ms, 0.5),
    }


def _has_lines(path: Path, count: int) -> bool:
    return path.exists() and path.read_text().count("\n") == count


SCENARIO = Scenario(
    name="crash",
    title="A worker is killed",
    figure="runs again, median ms",
    cases=cases,
    rounds=(2, 1),
    estimate_s=(40, 6),
    note="From kill -9 until the job's handler starts in another worker; from the fork request until the next "
    "worker is ready.",
)
