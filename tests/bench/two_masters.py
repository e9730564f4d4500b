"""Two daemons of one host on one database, under random kills: ``python -m tests.bench.two_masters --help``.

Workers, masters, schedulers, fork servers and database connections of both are killed at random while jobs of 10 ms
to 10 s run. A master comes back after a moment. In the end each job must have been done, and each that began twice
must have lost its first worker to a kill, or have been cut short by a drain's deadline: the children of a dead master
finish what they run within their drain timeout. Prints each job that nothing explains, with what both logs tell.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from soniqd import Soniq
from tests.bench.load import JOBS, Moment, Rerun, find_reruns, next_duration_s, read_runs
from tests.support.daemon import Daemon
from tests.support.postgres import PostgresServer
from tests.support.processes import Process

VICTIMS = {"worker": 20, "scheduler": 2, "fork server": 2, "master": 3, "connection": 6}
"""Who is killed, and how often in proportion."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: durations in seconds, rates in 1/s."""

    seconds: float
    seed: int
    drain_s: float
    longest_s: float
    jobs_per_s: float
    kills_per_s: float
    heartbeat_timeout_s: float


class Killer:
    """Kills, and remembers whom and when."""

    def __init__(self, daemons: list[Daemon], server: PostgresServer, source: random.Random) -> None:
        self.killed: dict[int, list[Moment]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self._daemons = daemons
        self._server = server
        self._random = source
        self._returns: set[asyncio.Task[None]] = set()

    async def rage(self, seconds: float, *, per_s: float) -> None:
        """Kill somebody every now and then, then let all masters come back."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(self._random.expovariate(per_s))
            kind = self._random.choices(list(VICTIMS), list(VICTIMS.values()))[0]
            daemon = self._random.choice(self._daemons)
            if kind == "master":
                self._kill_master(daemon)
            elif kind == "connection":
                await asyncio.to_thread(self._cut_connection, daemon)
            else:
                self._kill_child(daemon, kind)
        await asyncio.gather(*self._returns)

    def _kill_master(self, daemon: Daemon) -> None:
        if not daemon.running:
            return
        daemon.kill_master()
        self.counts["master"] += 1
        self._returns.add(asyncio.create_task(self._bring_back(daemon)))

    async def _bring_back(self, daemon: Daemon) -> None:
        await asyncio.sleep(self._random.random() * 2)
        daemon.start()

    def _cut_connection(self, daemon: Daemon) -> None:
        name = daemon.database_url.rpartition("/")[2]
        rows = self._server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' "
            "AND application_name LIKE 'soniqd%' ORDER BY random() LIMIT 1"
        )
        self.counts["connection"] += len(rows)

    def _kill_child(self, daemon: Daemon, kind: str) -> None:
        victims = [process for process in daemon.processes() if kind_of(process) == kind]
        if not victims:
            return
        victim = self._random.choice(victims)
        with suppress(ProcessLookupError):
            before_s = time.monotonic()
            os.kill(victim.pid, signal.SIGKILL)
            self.killed[victim.pid].append((before_s, time.monotonic()))
            self.counts[kind] += 1


async def run(plan: Plan, folder: Path, server: PostgresServer) -> bool:
    """Return whether everything is explained."""
    url = server.url(server.create_database())
    source = random.Random(plan.seed)
    runs = folder / "runs"
    daemons = [_daemon(plan, folder / name, url, runs) for name in ("a", "b")]
    async with daemons[0], daemons[1], _producer(url) as app:
        killer = Killer(daemons, server, source)
        producing = asyncio.create_task(_produce(app, plan, random.Random(plan.seed + 1)))
        await killer.rage(plan.seconds, per_s=plan.kills_per_s)
        ids = await producing
        for daemon in daemons:
            await daemon.ready(timeout_s=60)

        async def settled() -> bool:
            return sum(row["queued"] + row["processing"] for row in await app.get_queue_stats()) == 0

        await daemons[0].eventually(settled, timeout_s=180)
        dead = await app.dead_letter.list()
    found = read_runs(runs)
    lost = set(ids) - {run.job_id for run in found if run.how == "done"}
    left_behind = [record for daemon in daemons for record in daemon.log.find("job_left_behind")]
    reruns = find_reruns(found, killer.killed, {(record["job_id"], record["pid"]) for record in left_behind})
    unexplained = [rerun for rerun in reruns if rerun.cause is None]
    overlapping = [rerun for rerun in reruns if rerun.overlaps]
    causes = Counter(str(rerun.cause) for rerun in reruns)
    print(f"killed {dict(killer.counts)}; jobs {len(ids)}, runs {len(found)}, lost {len(lost)}, dead {len(dead)}")
    print(f"reruns {dict(causes)}, of them while the first run went on: {len(overlapping)}")
    for rerun in {id(rerun): rerun for rerun in unexplained + overlapping}.values():
        print(_describe(rerun, daemons, killer))
    return not (unexplained or overlapping or lost or dead)


def _producer(url: str) -> Soniq:
    """Its connections have a name of their own, by which they are spared."""
    return Soniq(database_url=f"{url}?application_name=producer", enqueue_validation="none", pool_min_size=1)


async def _produce(app: Soniq, plan: Plan, source: random.Random) -> list[str]:
    """Enqueue at random moments, also while connections break; return the jobs' ids."""
    end = time.monotonic() + plan.seconds
    ids = []
    while time.monotonic() < end:
        await asyncio.sleep(source.expovariate(plan.jobs_per_s))
        name = source.choice(["wait", "wait", "hold"])
        ids.append(await app.enqueue(name, args={"seconds": next_duration_s(source, longest_s=plan.longest_s)}))
    return ids


def _daemon(plan: Plan, folder: Path, url: str, runs: Path) -> Daemon:
    folder.mkdir()
    daemon = Daemon(folder, jobs=JOBS, database_url=url, environ={"LOAD_RUNS": str(runs)})
    daemon.patience_s = plan.drain_s + 15
    daemon.write_config(
        soniqd={"drain_timeout": plan.drain_s},
        jobs={"max_crashes": 1000, "result_ttl": "1h"},
        workers={"processes": 3, "concurrency": 4},
        sweep={"heartbeat_interval": plan.heartbeat_timeout_s / 10, "heartbeat_timeout": plan.heartbeat_timeout_s},
    )
    return daemon


def kind_of(process: Process) -> str:
    """Tell what a process of a daemon is, by its title; empty if it is none of those that are killed."""
    command = process.command.removeprefix("soniqd: ")
    return next((kind for kind in ("fork server", "scheduler", "worker") if command.startswith(kind)), "")


def _describe(rerun: Rerun, daemons: list[Daemon], killer: Killer) -> str:
    lines = [f"not explained: {rerun.first} then {rerun.second}"]
    lines.append(f"  killed: {[(pid, killer.killed.get(pid)) for pid in (rerun.first.pid, rerun.second.pid)]}")
    for daemon in daemons:
        daemon.log.mark()
        lines += [f"  {daemon.folder.name}: {record}" for record in daemon.log.records if rerun.concerns(record)]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Return 1 if a job was lost, or began twice for no known reason."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.two_masters")
    defaults = Plan(60.0, random.randrange(1_000_000), 20.0, 10.0, 12.0, 2.0, 300.0)
    for field in fields(Plan):
        default = getattr(defaults, field.name)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(default), default=default)
    plan = Plan(**vars(parser.parse_args(arguments)))
    print(plan, flush=True)
    server = PostgresServer()
    server.start()
    try:
        with tempfile.TemporaryDirectory(prefix="soniqd-two-masters-") as folder:
            return 0 if asyncio.run(run(plan, Path(folder), server)) else 1
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
