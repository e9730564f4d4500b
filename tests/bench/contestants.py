"""Who is measured: soniqd's daemon, the bare loop, and other job queues where ``make bench-peers`` has installed them.

All of them are filled by their own driver and count by the same tally. soniqd runs as it does in production, master,
fork server and scheduler included; its workers are up and idle, held by a paused queue, before their jobs are there to
be had. The others' workers are started on a full table; their time begins with their first handler as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg

from soniqd import Soniq
from tests.bench.drivers.tally import Reader
from tests.bench.server import BenchServer
from tests.support.daemon import Daemon

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "soniqd-bench"
PATIENCE_S = 120.0
_LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Contestant:
    """``left`` asks whether a job is left; ``concurrency`` is what the contestant does best with."""

    name: str
    program: tuple[str, ...]
    left: str
    concurrency: int
    jobs: int
    """How many jobs one drain takes, so that it lasts about two seconds."""
    settings: dict[str, Any] = field(default_factory=dict, hash=False)

    async def ask(self, verb: str, url: str, *arguments: object) -> Any:
        """Run the driver to its end and return its answer."""
        process = await asyncio.create_subprocess_exec(
            *self.program,
            verb,
            url,
            *map(str, arguments),
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise RuntimeError(f"{self.name} cannot {verb}: {errors.decode()[-1000:]}")
        return json.loads(output.splitlines()[-1]) if output.strip() else None

    @asynccontextmanager
    async def working(self, url: str, workers: int) -> AsyncIterator[Reader]:
        """Run so many worker processes on a database."""
        with tempfile.TemporaryDirectory(prefix="soniqd-bench-") as folder, (Path(folder) / "log").open("wb") as log:
            tally = Path(folder) / "tally"
            tally.mkdir()
            processes = [
                subprocess.Popen(
                    [*self.program, "work", url, str(self.concurrency), str(tally)],
                    cwd=ROOT,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                for _ in range(workers)
            ]
            try:
                yield Reader(tally)
            finally:
                _end(processes)

    async def fill(self, server: BenchServer, jobs: int) -> str:
        """Return a database with so many jobs queued, to be copied."""
        key = (self.program, jobs)
        template = server.template_for(key)
        if template is None:
            template = server.new_database()
            await self.ask("setup", template)
            await self._fill(template, jobs)
            server.keep_template(key, template)
        return template

    async def _fill(self, url: str, jobs: int) -> None:
        await self.ask("many", url, jobs)

    async def wait_empty(self, url: str, tally: Reader, jobs: int) -> int:
        """Return the moment, in nanoseconds, when all were started and none is left in the database."""
        await until(lambda: tally.count() >= jobs, f"{self.name} runs {jobs} jobs")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while True:
                cursor = await connection.execute(self.left.encode())
                row = await cursor.fetchone()
                if row is not None and not row[0]:
                    return time.monotonic_ns()
                await asyncio.sleep(_LOOK_S)


@dataclass(frozen=True, slots=True)
class Ours(Contestant):
    """``settings`` are tables of soniq.toml."""

    def with_settings(self, name: str, **tables: Any) -> Ours:
        return replace(self, name=name, settings=tables)

    @asynccontextmanager
    async def working(self, url: str, workers: int) -> AsyncIterator[Reader]:
        async with self.daemon(url, workers) as (tally, _):
            async with Soniq(database_url=url, pool_min_size=1, pool_max_size=1) as app:
                await app.resume_queue("default")
            yield tally

    @asynccontextmanager
    async def daemon(self, url: str, workers: int) -> AsyncIterator[tuple[Reader, Daemon]]:
        """Run the daemon until every child is up."""
        with tempfile.TemporaryDirectory(prefix="soniqd-bench-") as folder:
            tally = Path(folder) / "tally"
            tally.mkdir()
            tables: dict[str, Any] = {
                "jobs": {"modules": ["tests.bench.jobs"], "path": [str(ROOT)]},
                "workers": {"processes": workers, "concurrency": self.concurrency},
                "database": {"pool_max_size": self.concurrency + 2},
            }
            for table, values in self.settings.items():
                tables[table] = {**tables.get(table, {}), **values}
            environ = {"BENCH_TALLY": str(tally)}
            daemon = Daemon(Path(folder), database_url=url, environ=environ)
            daemon.write_config(**tables)
            async with daemon:
                yield Reader(tally), daemon

    async def _fill(self, url: str, jobs: int) -> None:
        await self.ask("many", url, jobs)
        async with Soniq(database_url=url, pool_min_size=1, pool_max_size=1) as app:
            await app.pause_queue("default")


def _python(driver: str, python: Path | str = sys.executable) -> tuple[str, ...]:
    return str(python), "-m", "tests.bench.drivers", driver


SONIQD = Ours(
    name="soniqd",
    program=_python("ours"),
    left="SELECT EXISTS (SELECT FROM soniq_jobs)",
    concurrency=100,
    jobs=50_000,
)
FLOOR = Contestant(
    name="psycopg loop",
    program=_python("floor"),
    left="SELECT EXISTS (SELECT FROM (SELECT state FROM floor_jobs ORDER BY id DESC LIMIT 2000) j WHERE state <> 2)",
    concurrency=500,
    jobs=50_000,
)
GRAPHILE = Contestant(
    name="graphile-worker",
    program=("node", str(ROOT / "tests" / "bench" / "drivers" / "graphile.js")),
    left="SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)",
    concurrency=10,
    jobs=50_000,
)


async def until(predicate: Any, what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Look again and again until something is true."""
    end = time.monotonic() + patience_s
    while not predicate():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {patience_s:g} s: {what}")
        await asyncio.sleep(_LOOK_S)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SONIQ_")}
    return inherited | {"PYTHONPATH": str(ROOT), "NODE_PATH": str(CACHE / "node_modules")}
