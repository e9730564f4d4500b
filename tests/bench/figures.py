"""Figures of a whole daemon on a real PostgreSQL with fsync on: ``python -m tests.bench.figures [NAME ...]``.

``crash``   from kill -9 of a worker to the start of its job's next run, milliseconds
``fork``    from the fork request to the child's pid and to its readiness, milliseconds
``memory``  PSS and private memory of an idle daemon with four workers, MiB
``drain``   no-op jobs a second through one worker, 50,000 queued before it may claim

It prints one JSON object a line. Machines differ and are noisy: compare figures of one run only.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from soniqd import Soniq
from tests.support.daemon import Daemon
from tests.support.postgres import PostgresServer

WORKERS = 25

JOBS = '''
import asyncio, os, time
from soniqd import Soniq

app = Soniq()


@app.job(name="noop")
async def noop(i: int):
    pass


@app.job(name="mark")
async def mark(path: str):
    """Hang in the first run, return in the second."""
    first = not os.path.exists(path)
    with open(path, "a") as file:
        file.write(f"{time.time()} {os.getpid()}\\n")
    if first:
        await asyncio.sleep(600)
'''


async def crash(folder: Path, url: str) -> dict[str, Any]:
    """Kill the worker of a running job, another one of many each time, so that no backoff is measured."""
    delays_ms = []
    async with (
        Daemon(folder, jobs=JOBS, database_url=url, workers={"processes": WORKERS, "concurrency": 1}) as daemon,
        Soniq(database_url=url, enqueue_validation="none", pool_min_size=1) as app,
    ):
        for number in range(WORKERS - 1):
            path = folder / f"mark-{number}"
            await app.enqueue("mark", args={"path": str(path)})
            await daemon.eventually(partial(_has_lines, path, 1))
            _, pid = path.read_text().split()
            killed_at = time.time()
            os.kill(int(pid), 9)
            await daemon.eventually(partial(_has_lines, path, 2))
            delays_ms.append(1000 * (float(path.read_text().split()[2]) - killed_at))
            await _stable(daemon)
    return {"figure": "crash", "unit": "ms", **_spread(delays_ms)}


def _has_lines(path: Path, count: int) -> bool:
    return path.exists() and path.read_text().count("\n") == count


async def _stable(daemon: Daemon) -> None:
    """Wait until the replacement is up, so that each kill meets a healthy daemon."""
    await daemon.ready()


async def fork(folder: Path, url: str) -> dict[str, Any]:
    """Kill one idle worker after the other and read how long its successor took."""
    forked, ready = [], []
    group = {"processes": WORKERS, "concurrency": 1}
    async with Daemon(folder, jobs=JOBS, database_url=url, workers=group, soniqd={"log_level": "DEBUG"}) as daemon:
        for index in range(1, WORKERS + 1):
            mark, slot = daemon.log.mark(), f"default/{index}"
            await daemon.kill(slot)
            forked.append((await daemon.log_event("child_forked", since=mark, slot=slot))["fork_ms"])
            ready.append((await daemon.log_event("child_ready", since=mark, slot=slot))["ready_ms"])
    return {"figure": "fork", "unit": "ms", "pid": _spread(forked), "ready": _spread(ready)}


async def memory(folder: Path, url: str) -> dict[str, Any]:
    """Look at an idle daemon after a short settling time."""
    async with Daemon(folder, jobs=JOBS, database_url=url, workers={"processes": 4, "concurrency": 10}) as daemon:
        await asyncio.sleep(10)
        processes = {"master": daemon.pid, **{p.command.split(" [")[0]: p.pid for p in daemon.processes()}}
        pss = {name: _smaps_mib(pid, "Pss") for name, pid in processes.items()}
        private = {name: _smaps_mib(pid, "Private_Dirty") for name, pid in processes.items()}
    return {"figure": "memory", "unit": "MiB", "pss": pss, "private": private, "total_pss": round(sum(pss.values()), 1)}


async def drain(folder: Path, url: str) -> dict[str, Any]:
    """Queue 50,000 jobs while the worker is paused, let it go, and time until the last one is done."""
    count, rates = 50_000, []
    group = {"processes": 1, "concurrency": int(os.environ.get("BENCH_CONCURRENCY", "100"))}
    pool = {"pool_max_size": group["concurrency"] + 2}
    async with (
        Daemon(folder, jobs=JOBS, database_url=url, workers=group, database=pool) as daemon,
        Soniq(database_url=url, enqueue_validation="none", pool_min_size=1) as app,
    ):
        for _ in range(3):
            await daemon.request("drain")
            done_before = (await daemon.child("default/1"))["done"]
            await app.enqueue_many("noop", [{"i": i} for i in range(count)])
            began = time.perf_counter()
            await daemon.request("resume")
            while (await daemon.child("default/1"))["done"] < done_before + count:  # noqa: ASYNC110  another process
                await asyncio.sleep(0.02)
            rates.append(count / (time.perf_counter() - began))
            assert sum(row["queued"] + row["processing"] for row in await app.get_queue_stats()) == 0
    return {"figure": "drain", "unit": "jobs/s", **_spread(rates)}


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "n": len(values),
        "min": round(min(values), 1),
        "median": round(statistics.median(values), 1),
        "max": round(max(values), 1),
    }


def _smaps_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


FIGURES: dict[str, Callable[[Path, str], Coroutine[Any, Any, dict[str, Any]]]] = {
    "crash": crash,
    "fork": fork,
    "memory": memory,
    "drain": drain,
}


def main(names: list[str]) -> None:
    """Measure the named figures, or all."""
    server = PostgresServer()
    server.start()
    server.execute("ALTER SYSTEM SET fsync = on")
    server.restart()
    try:
        for name in names or list(FIGURES):
            with tempfile.TemporaryDirectory(prefix="soniqd-figures-") as folder:
                url = server.url(server.create_database())
                print(json.dumps(asyncio.run(FIGURES[name](Path(folder), url))), flush=True)
    finally:
        server.close()


if __name__ == "__main__":
    main(sys.argv[1:])
