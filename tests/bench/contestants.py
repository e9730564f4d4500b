"""Who is measured: soniqd's daemon, the bare loop, and other job queues where ``make bench-peers`` has installed them.

All of them are filled by their own driver and count by the same tally. soniqd runs as it does in production, master,
fork server and scheduler included; its workers are up and idle, held by a paused queue, before their jobs are there to
be had. The others' workers are started on a full table; their time begins with their first handler as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
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
class Working:
    """Workers that run: what they count, and their processes by name."""

    tally: Reader
    pids: Callable[[], dict[str, int]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """``left`` asks whether a job is left, ``concurrency`` is what the contestant does best with.

    ``jobs`` are so many that a drain of them lasts about two seconds.
    """

    name: str
    program: tuple[str, ...]
    left: str
    concurrency: int
    jobs: int

    @asynccontextmanager
    async def database(self, server: BenchServer, jobs: int = 0) -> AsyncIterator[str]:
        """Lend a database of its own with so many jobs queued; it is made once and copied."""
        key = (self.program, jobs)
        template = server.template_for(key)
        if template is None:
            template = server.new_database()
            await self.fill(template, jobs)
            server.keep_template(key, template)
        with server.copy_of(template) as url:
            yield url

    async def fill(self, url: str, jobs: int) -> None:
        """Make the tables, and the jobs."""
        await self.ask("setup", url)
        if jobs:
            await self.ask("many", url, jobs)

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
    async def working(self, url: str, workers: int) -> AsyncIterator[Working]:
        """Run so many worker processes on a database."""
        with tempfile.TemporaryDirectory(prefix="soniqd-bench-") as folder, (Path(folder) / "log").open("wb") as log:
            tally = Path(folder) / "tally"
            tally.mkdir()
            command = [*self.program, "work", url, str(self.concurrency), str(tally)]
            processes = [
                subprocess.Popen(  # noqa: ASYNC220  returns at once
                    command, cwd=ROOT, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
                for _ in range(workers)
            ]
            names = {f"worker {number}": process.pid for number, process in enumerate(processes, 1)}
            try:
                yield Working(Reader(tally), lambda: names)
            finally:
                _end(processes)

    async def wait_empty(self, url: str, tally: Reader, jobs: int) -> int:
        """Return the moment, in nanoseconds, when all were started and none is left in the database."""
        await until(lambda: tally.count() >= jobs, f"{self.name} runs {jobs} jobs")
        ask = _sqlite_question if url.startswith("sqlite") else _postgres_question
        async with ask(url, self.left) as is_left:
            while await is_left():  # noqa: ASYNC110  another process
                await asyncio.sleep(_LOOK_S)
            return time.monotonic_ns()


@dataclass(frozen=True, slots=True)
class Ours(Contestant):
    """soniqd; ``settings`` are tables of soniq.toml."""

    settings: dict[str, Any] = field(default_factory=dict, hash=False)

    def configured(self, name: str, **tables: Any) -> Ours:
        """Return it with another name and other settings."""
        return replace(self, name=name, settings=tables)

    async def fill(self, url: str, jobs: int) -> None:
        await Contestant.fill(self, url, jobs)
        if jobs:
            async with application(url) as app:
                await app.pause_queue("default")

    @asynccontextmanager
    async def working(self, url: str, workers: int) -> AsyncIterator[Working]:
        group = {"processes": workers, "concurrency": self.concurrency}
        async with self.daemon(url, [group]) as (working, _):
            async with application(url) as app:
                await app.resume_queue("default")
            yield working

    @asynccontextmanager
    async def daemon(self, url: str, groups: Sequence[dict[str, Any]]) -> AsyncIterator[tuple[Working, Daemon]]:
        """Run the daemon from when every child is up."""
        with tempfile.TemporaryDirectory(prefix="soniqd-bench-") as name:
            folder = Path(name)
            (folder / "tally").mkdir()
            tables: dict[str, Any] = {
                "jobs": {"modules": ["tests.bench.jobs"], "path": [str(ROOT)]},
                "workers": groups,
                "database": {"pool_max_size": max(int(group["concurrency"]) for group in groups) + 2},
            }
            for table, values in self.settings.items():
                tables[table] = {**tables.get(table, {}), **values}
            environ = {"BENCH_TALLY": str(folder / "tally"), "PYTHONPATH": str(ROOT)}
            daemon = Daemon(folder, database_url=url, environ=environ)
            daemon.write_config(**tables)
            async with AsyncExitStack() as stack:
                stack.push_async_exit(daemon)
                daemon.start()
                await daemon.ready()
                yield Working(Reader(folder / "tally"), lambda: _processes(daemon)), daemon


@dataclass(frozen=True, slots=True)
class OursOnSQLite(Ours):
    """soniqd, with a database in a file."""

    @asynccontextmanager
    async def database(self, server: BenchServer, jobs: int = 0) -> AsyncIterator[str]:
        template = server.folder / f"template-{jobs}.db"
        if not template.exists():
            await self.fill(f"sqlite:///{template}", jobs)
        with tempfile.TemporaryDirectory(prefix="soniqd-bench-") as folder:
            shutil.copy(template, Path(folder) / "jobs.db")
            yield f"sqlite:///{folder}/jobs.db"


def application(url: str) -> Soniq:
    """Return a producer of soniqd's with one connection."""
    settings: dict[str, Any] = {} if url.startswith("sqlite") else {"pool_min_size": 1, "pool_max_size": 1}
    return Soniq(database_url=url, enqueue_validation="none", **settings)


async def until(predicate: Callable[[], bool], what: str, *, patience_s: float = PATIENCE_S) -> None:
    """Look again and again until something is true."""
    end = time.monotonic() + patience_s
    while not predicate():
        if time.monotonic() > end:
            raise RuntimeError(f"not within {patience_s:g} s: {what}")
        await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def _postgres_question(url: str, question: str) -> AsyncIterator[Callable[[], Any]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def ask() -> bool:
            row = await (await connection.execute(question.encode())).fetchone()
            return row is not None and bool(row[0])

        yield ask


@asynccontextmanager
async def _sqlite_question(url: str, question: str) -> AsyncIterator[Callable[[], Any]]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:

        async def ask() -> bool:
            return bool(connection.execute(question).fetchone()[0])

        yield ask


def _processes(daemon: Daemon) -> dict[str, int]:
    """Name a daemon's processes as their titles do."""
    children = {process.command.removeprefix("soniqd: ").split(" [")[0]: process.pid for process in daemon.processes()}
    return {"master": daemon.pid, **children}


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
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


def python_program(driver: str, python: Path | str = sys.executable) -> tuple[str, ...]:
    """Return how a driver in Python is run."""
    return str(python), "-m", "tests.bench.drivers", driver


SONIQD = Ours(
    name="soniqd",
    program=python_program("ours"),
    left="SELECT EXISTS (SELECT 1 FROM soniq_jobs)",
    concurrency=100,
    jobs=50_000,
)
SQLITE = OursOnSQLite(
    name="soniqd on SQLite",
    program=python_program("ours"),
    left="SELECT EXISTS (SELECT 1 FROM soniq_jobs WHERE status IN ('queued', 'processing'))",
    concurrency=100,
    jobs=30_000,
)
FLOOR = Contestant(
    name="psycopg loop",
    program=python_program("floor"),
    left="SELECT EXISTS (SELECT 1 FROM (SELECT state FROM floor_jobs ORDER BY id DESC LIMIT 2000) j WHERE state <> 2)",
    concurrency=500,  # what soniqd's worker writes at a time when it has much to do; it claims up to 1,000
    jobs=50_000,
)
