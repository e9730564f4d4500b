"""A worker after kill -9, forked against executed anew: ``python -m tests.bench.respawn [--workers N]``.

The jobs module is 300 MiB of small Python objects once imported, the worst that a fork can meet: whoever reads one
writes its reference count, and so copies its page. One daemon forks its workers as ever. The other's module also starts
a thread at import, so that each of its workers is a fresh interpreter that imports everything itself: a plain exec of
the same worker under the same master. The workers of both are killed in turn, one of each at a time.

Prints a Markdown table: the time from the kill to the readiness of the next worker, and the private memory of that one
when it is ready, and after it has run 100 jobs, each of which reads five rows of the module's data. Ends with 1 unless
the forked worker is there ten times as fast, with a tenth of the private memory after work.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path

from soniqd import Soniq
from tests.bench.scenarios.idle import private_mib
from tests.bench.tables import markdown, spread
from tests.support.daemon import Daemon
from tests.support.postgres import PostgresServer

WARM_JOBS = 100

HEAVY = """
import random
from soniqd import Soniq

app = Soniq()

ROWS = [{"id": i, "name": f"row number {i}"} for i in range(900_000)]


@app.job(name="read")
async def read():
    for _ in range(5):
        random.choice(ROWS)["name"].upper()
"""

THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


class Patient(Daemon):
    """A daemon whose children may take long to import."""

    async def ready(self, *, timeout_s: float = 180) -> None:
        await super().ready(timeout_s=timeout_s)


class Contestant:
    """One daemon, whose workers are killed one after the other, so that no backoff is measured."""

    def __init__(self, folder: Path, url: str, *, jobs: str, workers: int) -> None:
        folder.mkdir()
        group = {"processes": workers, "concurrency": 4, "queues": [folder.name]}
        self.daemon = Patient(folder, jobs=jobs, database_url=url, workers=group)
        self.seconds: list[float] = []
        self.ready_mib: list[float] = []
        self.worked_mib: list[float] = []
        self._queue = folder.name

    async def respawn(self, slot: str, app: Soniq) -> None:
        """Kill the worker of a place; measure the next one, which then runs jobs like any other."""
        mark = self.daemon.log.mark()
        killed_at = time.time()
        await self.daemon.kill(slot)
        ready = await self.daemon.log_event("child_ready", since=mark, slot=slot, timeout_s=60)
        self.seconds.append(datetime.fromisoformat(ready["ts"]).timestamp() - killed_at)
        self.ready_mib.append(private_mib(ready["pid"]))
        await self._warm(app, slot)
        self.worked_mib.append(private_mib(ready["pid"]))

    async def _warm(self, app: Soniq, slot: str) -> None:
        """Queue jobs until this worker has done its share."""
        while (await self.daemon.child(slot))["done"] < WARM_JOBS:
            await app.enqueue_many("read", [{}] * WARM_JOBS, queue=self._queue)
            await self.daemon.eventually(partial(self._idle, app))

    async def _idle(self, app: Soniq) -> bool:
        return sum(row["queued"] + row["processing"] for row in await app.get_queue_stats()) == 0


async def measure(folder: Path, url: str, workers: int) -> dict[str, Contestant]:
    """Kill each worker of both daemons once, in turn."""
    contestants = {
        "forked": Contestant(folder / "forked", url, jobs=HEAVY, workers=workers),
        "executed": Contestant(folder / "executed", url, jobs=HEAVY + THREAD, workers=workers),
    }
    source = random.Random(0)
    async with (
        contestants["forked"].daemon,
        contestants["executed"].daemon,
        Soniq(database_url=url, enqueue_validation="none", pool_min_size=1) as app,
    ):
        for index in range(1, workers + 1):
            for contestant in source.sample(list(contestants.values()), k=2):
                await contestant.respawn(f"default/{index}", app)
    return contestants


def main(arguments: list[str]) -> int:
    """Return 1 if forking is not worth ten times an exec."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.respawn")
    parser.add_argument("--workers", type=int, default=10)
    options = parser.parse_args(arguments)
    server = PostgresServer()
    server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="soniqd-respawn-") as folder:
            url = server.url(server.create_database())
            contestants = asyncio.run(measure(Path(folder), url, options.workers))
    finally:
        server.close()
    forked, executed = contestants["forked"], contestants["executed"]
    faster = statistics.median(executed.seconds) / statistics.median(forked.seconds)
    smaller = statistics.median(executed.worked_mib) / statistics.median(forked.worked_mib)
    rows = [
        [
            name,
            spread([1000 * seconds for seconds in it.seconds]),
            spread(it.ready_mib, digits=1),
            spread(it.worked_mib, digits=1),
        ]
        for name, it in contestants.items()
    ]
    lighter = statistics.median(executed.ready_mib) / statistics.median(forked.ready_mib)
    rows.append(["executed / forked", f"{faster:.1f}", f"{lighter:.1f}", f"{smaller:.1f}"])
    print(f"{options.workers} workers each, {os.cpu_count()} CPUs; median (least to most)\n")
    print(markdown(["worker", "ms from kill -9 to ready", "private MiB when ready", "after 100 jobs"], rows))
    return 0 if faster >= 10 and smaller >= 10 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
