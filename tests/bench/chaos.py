"""Random reloads, kills, scalings, restarts and re-execs under load: ``python -m tests.bench.chaos --help``.

Jobs of 10 ms to 10 s run in two groups of workers while 100 actions, drawn at random, befall their daemon: reloads of a
changed module, of a changed configuration, of nothing, of everything and of broken code; other numbers of processes;
rolling restarts; upgrades in place; and, at any moment of all these, kills of workers, schedulers and fork servers.
Prints two Markdown tables, what was done and what came of it, and ends with 1 if one of these did not hold:

* each job was done, and began again only if its worker had been killed, or died of broken code;
* each configured place had a worker that works, except where one was killed;
* the daemon's connections stayed within ``max_connections``, looked at fifty times a second;
* a reload of nothing replaced nothing; broken code was refused;
* in the end there is the configured number of processes and no more, and after the stop none at all.
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
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from soniqd import Soniq
from soniqd.control.client import ControlClient
from soniqd.errors import ControlError
from tests.bench.load import JOBS, Moment, find_reruns, next_duration_s, read_runs
from tests.bench.tables import markdown, spread
from tests.bench.watching import Capacity, Connections, Gap, Onlooker
from tests.support.daemon import Daemon
from tests.support.postgres import PostgresServer

DRAIN_S = 20.0
"""More than the longest job takes: nothing may be cut short."""
PATIENCE_S = 240.0
MAX_CONNECTIONS = 47
"""The plan of the file needs 39; what is scaled up beyond this bound has to be refused."""
JOBS_PER_S = 7.0
KILL_WITHIN_S = 5.0
"""Kills come so soon after a command has begun: about as long as a reload takes."""
FILE = {"default": 3, "mail": 2}
"""Processes of each group as the file says."""

BROKEN = {
    "raises": "raise RuntimeError('broken on purpose')\n",
    "exits": "import os\nos._exit(3)\n",
    "dies": "import os, signal as s\nos.register_at_fork(after_in_child=lambda: s.setitimer(s.ITIMER_REAL, 0.15))\n",
}
"""Three ways to be broken: at import, at import without a word, and a moment after the fork."""

WEIGHTS = {
    "kill worker": 26,
    "kill scheduler": 5,
    "kill fork server": 5,
    "reload, module changed": 14,
    "reload, group changed": 6,
    "reload, nothing changed": 8,
    "reload --all": 6,
    "reload, module broken": 8,
    "scale": 8,
    "TTIN or TTOU": 4,
    "restart": 5,
    "upgrade": 5,
}


@dataclass(slots=True)
class Record:
    """What became of the actions of one kind."""

    done: int = 0
    refused: int = 0
    seconds: list[float] = field(default_factory=list)


class Chaos:
    """Befalls one daemon. What must not be goes to ``wrong``, in words."""

    def __init__(self, daemon: Daemon, capacity: Capacity, source: random.Random) -> None:
        self.records: dict[str, Record] = defaultdict(Record)
        self.killed: dict[int, list[Moment]] = defaultdict(list)
        self.wrong: list[str] = []
        self._daemon = daemon
        self._capacity = capacity
        self._random = source
        self._onlooker = Onlooker(daemon)
        self._client = ControlClient(daemon.socket)
        self._version = 0
        self._concurrency = 4
        self._loaded = True
        self._commands: dict[str, Callable[[], Awaitable[None]]] = {
            "reload, module changed": self._reload_changed,
            "reload, group changed": self._reload_group,
            "reload, nothing changed": self._reload_nothing,
            "reload --all": self._reload_all,
            "reload, module broken": self._reload_broken,
            "scale": self._scale,
            "TTIN or TTOU": self._step,
            "restart": self._restart,
            "upgrade": self._upgrade,
        }

    async def befall(self, actions: int) -> None:
        """Do so many things: commands one after the other, kills at any moment of them."""
        drawn = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=actions)
        commands = [kind for kind in drawn if kind in self._commands]
        kills = [(self._random.randrange(len(commands)), kind) for kind in drawn if kind not in self._commands]
        for number, kind in enumerate(commands):
            killing = [asyncio.create_task(self._kill(victim)) for at, victim in kills if at == number]
            await self._command(kind)
            await asyncio.gather(*killing)
            await asyncio.sleep(self._random.random())

    async def _command(self, kind: str) -> None:
        record, began_s = self.records[kind], time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {kind}", file=sys.stderr, flush=True)
        try:
            await self._commands[kind]()
            record.done += 1
        except ControlError as error:
            record.refused += 1
            print(f"  {error}", file=sys.stderr, flush=True)
        record.seconds.append(time.monotonic() - began_s)
        await self._count_places()

    async def _count_places(self) -> None:
        """Learn what the daemon now wants to have, however the last command ended."""
        for group in (await self._call("status"))["groups"]:
            if group["name"] in FILE:
                self._capacity.want(group["name"], group["processes"])

    async def _call(self, command: str, **params: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self._client.call, command, params, timeout_s=PATIENCE_S)

    # kills

    async def _kill(self, kind: str) -> None:
        await asyncio.sleep(self._random.random() * KILL_WITHIN_S)
        wanted = kind.removeprefix("kill ")
        victims = [
            seen for seen in self._onlooker.look() if seen.place == wanted or (wanted == "worker" and "/" in seen.place)
        ]
        if not victims:
            self.records[kind].refused += 1
            return
        victim = victims[0] if wanted == "fork server" else self._random.choice(victims)
        self._capacity.excuse(victim.place, victim.pid)
        with suppress(ProcessLookupError):
            before_s = time.monotonic()
            os.kill(victim.pid, signal.SIGKILL)
            self.killed[victim.pid].append((before_s, time.monotonic()))
            self.records[kind].done += 1

    # reloads

    async def _reload_changed(self) -> None:
        self._version += 1
        self._daemon.write_jobs(f"{JOBS}\nVERSION = {self._version}\n")
        await self._reload()

    async def _reload_group(self) -> None:
        self._concurrency = 7 - self._concurrency
        configure(self._daemon, concurrency=self._concurrency)
        await self._reload()

    async def _reload_nothing(self) -> None:
        loaded = self._loaded
        answer = await self._reload()
        if loaded and answer["replaced"]:
            self.wrong.append(f"a reload of nothing replaced {answer['replaced']}")

    async def _reload_all(self) -> None:
        for group, processes in FILE.items():  # what was scaled goes back to what the file says
            self._capacity.want(group, min(processes, self._capacity.wanted(group)))
        await self._reload(everything=True)

    async def _reload_broken(self) -> None:
        kind = self._random.choice(list(BROKEN))
        module = self._daemon.folder / "test_jobs.py"
        kept = module.rename(module.with_suffix(".kept"))  # comes back as the very file that it was
        self._daemon.write_jobs(BROKEN[kind] + JOBS)
        try:
            await self._call("reload")
        except ControlError:
            return
        finally:
            kept.replace(module)
        self.wrong.append(f"a reload of code that {kind} was not refused")

    async def _reload(self, *, everything: bool = False) -> dict[str, Any]:
        self._loaded = False
        answer = await self._call("reload", all=everything)
        self._loaded = True
        return answer

    # other numbers, fresh processes, a fresh master

    async def _scale(self) -> None:
        group = self._random.choice(list(FILE))
        processes = self._random.randint(FILE[group] - 1, FILE[group] + 2)
        self._capacity.want(group, min(processes, self._capacity.wanted(group)))
        await self._call("scale", group=group, processes=processes)

    async def _step(self) -> None:
        before = self._capacity.wanted("default")
        by = 1 if before <= 1 else self._random.choice([-1, 1])
        self._capacity.want("default", min(before, before + by))
        mark = self._daemon.log.mark()
        self._daemon.signal(signal.SIGTTIN if by > 0 else signal.SIGTTOU)

        def answered() -> list[Any]:
            return self._daemon.log.find("group_scaled", since=mark) + self._daemon.log.find(
                "scale_refused", since=mark
            )

        await self._daemon.eventually(answered)

    async def _restart(self) -> None:
        await self._call("restart", group=self._random.choice([*FILE, None]))

    async def _upgrade(self) -> None:
        before = (await self._call("status"))["upgrades"]
        await self._call("upgrade")
        status = await self._call("status")
        if status["upgrades"] != before + 1 or status["pid"] != self._daemon.pid:
            self.wrong.append(f"an upgrade did not go on in place: {status['pid']}, {status['upgrades']} upgrades")


def configure(daemon: Daemon, *, concurrency: int = 4) -> None:
    """Write soniq.toml."""
    daemon.write_config(
        soniqd={"drain_timeout": DRAIN_S, "probation": 0.3},
        database={"max_connections": MAX_CONNECTIONS} if daemon.database_url.startswith("postgresql") else {},
        jobs={"max_crashes": 1000, "result_ttl": "1h"},
        workers=[
            {"name": "default", "processes": FILE["default"], "concurrency": concurrency, "queues": ["default"]},
            {"name": "mail", "processes": FILE["mail"], "concurrency": 2, "queues": ["mail"]},
        ],
    )


async def produce(app: Soniq, source: random.Random) -> list[str]:
    """Enqueue at random moments until cancelled; return the jobs' ids."""
    ids = []
    with suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(source.expovariate(JOBS_PER_S))
            name, queue = source.choice(["wait", "wait", "hold"]), source.choice(["default", "default", "mail"])
            ids.append(await app.enqueue(name, args={"seconds": next_duration_s(source)}, queue=queue))
    return ids


@dataclass(slots=True)
class Report:
    """What one backend's round has shown. ``checks`` are the rows of the second table."""

    records: dict[str, Record]
    checks: dict[str, object]
    wrong: list[str]


async def befall(folder: Path, url: str, *, actions: int, seed: int) -> Report:
    """Run one round."""
    source, runs = random.Random(seed), folder / "runs"
    on_postgres = url.startswith("postgresql")
    environ = {"LOAD_RUNS": str(runs)} | ({"LOAD_CONNECT": "1"} if on_postgres else {})
    daemon = Daemon(folder, jobs=JOBS, database_url=url, environ=environ)
    daemon.patience_s = DRAIN_S + 30
    configure(daemon)
    producer_url = f"{url}?application_name=producer" if on_postgres else url
    connections = Connections(url)
    began_s = time.monotonic()
    async with AsyncExitStack() as stack:
        if on_postgres:
            stack.enter_context(connections.watching())
        await stack.enter_async_context(daemon)
        app = await stack.enter_async_context(
            Soniq(database_url=producer_url, enqueue_validation="none", pool_min_size=1)
        )
        capacity = Capacity(daemon, dict(FILE))
        chaos = Chaos(daemon, capacity, source)
        watching = asyncio.create_task(capacity.watch())
        producing = asyncio.create_task(produce(app, random.Random(seed + 1)))
        await chaos.befall(actions)
        producing.cancel()
        ids = await producing
        await _settled(daemon, app)
        watching.cancel()
        dead = await app.dead_letter.list()
        status = await daemon.status()
        await _count_processes(daemon, status, chaos)
    found = read_runs(runs)
    reruns = find_reruns(found, _deaths(daemon, chaos.killed))
    lost = set(ids) - {run.job_id for run in found if run.how == "done"}
    causes = Counter(rerun.cause for rerun in reruns)
    checks: dict[str, object] = {
        "actions": sum(record.done + record.refused for record in chaos.records.values()),
        "seconds": round(time.monotonic() - began_s),
        "upgrades in place": status["upgrades"],
        "generations": status["generation"],
        "jobs": len(ids),
        "jobs lost": len(lost),
        "dead letters": len(dead),
        "jobs run again: worker killed": causes["killed"],
        "jobs run again: cut short": causes["cut"],
        "jobs run again: no reason known": causes[None],
        "runs that overlapped": sum(rerun.overlaps for rerun in reruns),
        "looks at every place": capacity.samples,
        "places found empty, nobody killed": len(capacity.gaps),
        "looks at the connections": connections.samples if on_postgres else "-",
        "most connections": f"{connections.most} of {MAX_CONNECTIONS}" if on_postgres else "-",
        "processes left in the end": len(daemon.processes()),
        "other things wrong": len(chaos.wrong),
    }
    wrong = [*chaos.wrong, *(f"lost: {job_id}" for job_id in sorted(lost))]
    wrong += [_describe(gap, daemon) for gap in capacity.gaps]
    for rerun in reruns:
        if rerun.cause != "killed" or rerun.overlaps:
            wrong += [str(rerun), *(f"  {record}" for record in daemon.log.records if rerun.concerns(record))]
    if connections.error is not None or connections.most > MAX_CONNECTIONS:
        wrong.append(f"connections: {connections.most} of {MAX_CONNECTIONS}, {connections.error}")
    wrong += [f"dead letter: {letter['id']}" for letter in dead]
    return Report(chaos.records, checks, wrong)


async def _settled(daemon: Daemon, app: Soniq) -> None:
    """Wait until every job is done and every place filled."""

    async def done() -> bool:
        return sum(row["queued"] + row["processing"] for row in await app.get_queue_stats()) == 0

    await daemon.eventually(done, timeout_s=PATIENCE_S)
    await daemon.ready(timeout_s=PATIENCE_S)


async def _count_processes(daemon: Daemon, status: dict[str, Any], chaos: Chaos) -> None:
    """Hold that there is one fork server, one scheduler and each configured worker once, as soon as all is drained."""
    expected = Counter({"fork server": 1, "scheduler": 1})
    for group in status["groups"]:
        if group["role"] == "worker":
            expected.update({f"{group['name']}/{index}": 1 for index in range(1, group["processes"] + 1)})
    onlooker = Onlooker(daemon)

    def places() -> Counter[str]:
        return Counter(seen.place for seen in onlooker.look())

    try:
        await daemon.eventually(lambda: places() == expected, timeout_s=DRAIN_S + 10)
    except AssertionError:
        chaos.wrong.append(f"processes: {places()}, expected {expected}")


def _describe(gap: Gap, daemon: Daemon) -> str:
    """Word a gap, with what the log tells about the place around it."""
    at = datetime.fromisoformat(gap.at)
    lines = [str(gap)]
    for record in daemon.log.records:
        near = abs((datetime.fromisoformat(record["ts"]) - at).total_seconds()) < 5
        about = record.get("slot") == gap.place or record["event"].startswith(("reload", "restart", "generation"))
        if near and about:
            lines.append(f"  {record['ts']} {record['event']} {record['message']}")
    return "\n".join(lines)


def _deaths(daemon: Daemon, killed: dict[int, list[Moment]]) -> dict[int, list[Moment]]:
    """Add those that died of broken code, by the log's word."""
    offset_s = time.time() - time.monotonic()
    deaths = {pid: list(moments) for pid, moments in killed.items()}
    for record in daemon.log.find("child_died") + daemon.log.find("child_left"):
        at_s = datetime.fromisoformat(record["ts"]).timestamp() - offset_s
        if record["pid"] is not None and "SIGALRM" in record["cause"]:
            deaths.setdefault(record["pid"], []).append((at_s - 1, at_s))
    return deaths


def tables(reports: dict[str, Report]) -> str:
    """Word the reports."""
    rows = []
    for kind in WEIGHTS:
        row: list[object] = [kind]
        for report in reports.values():
            record = report.records.get(kind, Record())
            row += [record.done, record.refused, spread(record.seconds, digits=1)]
        rows.append(row)
    head = ["action"]
    for name in reports:
        head += [f"{name}: done", "refused", "seconds"]
    first, *_ = reports.values()
    checks = [[name, *(report.checks[name] for report in reports.values())] for name in first.checks]
    return f"{markdown(head, rows)}\n\n{markdown(['after the end', *reports], checks)}"


def main(arguments: list[str]) -> int:
    """Return 1 if something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.chaos")
    parser.add_argument("--actions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--backend", choices=["both", "postgresql", "sqlite"], default="both")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    reports: dict[str, Report] = {}
    server = PostgresServer()
    server.start()
    try:
        for backend in ["postgresql", "sqlite"] if options.backend == "both" else [options.backend]:
            with tempfile.TemporaryDirectory(prefix="soniqd-chaos-") as name:
                folder = Path(name)
                url = server.url(server.create_database())
                url = url if backend == "postgresql" else f"sqlite:///{folder / 'jobs.db'}"
                reports[backend] = asyncio.run(befall(folder, url, actions=options.actions, seed=options.seed))
    finally:
        server.close()
    print(tables(reports))
    wrong = [f"{backend}: {what}" for backend, report in reports.items() for what in report.wrong]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
