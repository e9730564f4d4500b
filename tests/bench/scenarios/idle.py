"""What four idle workers cost: memory, transactions, connections and CPU time."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import psycopg

from tests.bench.contestants import SONIQD, Contestant
from tests.bench.scenario import Bench, Case, Sample, Scenario

WORKERS = 4
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SETTLE_S = 25
_PEERS_SETTLE_S = 14
"""An idle server process tells its statistics after ten seconds; what soniqd needs no more of connections goes then."""


def cases(bench: Bench) -> Sequence[Case]:
    def case(contestant: Contestant) -> Case:
        async def measure() -> Sample:
            return await idle(bench, contestant)

        return Case(contestant.name, measure)

    return [case(contestant) for contestant in (SONIQD, *([] if bench.quick else bench.peers))]


async def idle(bench: Bench, contestant: Contestant) -> Sample:
    """Look at workers that have had nothing to do, and at their memory again after a second of work."""
    async with contestant.database(bench.server) as url, contestant.working(url, WORKERS) as working:
        await asyncio.sleep(bench.size(_SETTLE_S if contestant is SONIQD else _PEERS_SETTLE_S, _SETTLE_S // 2))
        pids = working.pids()
        with psycopg.connect(url, autocommit=True) as connection:
            before, cpu_s, began = _transactions(connection), _cpu_s(pids.values()), time.monotonic()
            await asyncio.sleep(bench.size(20, 5))
            seconds = time.monotonic() - began
            after, cpu_s = _transactions(connection), _cpu_s(pids.values()) - cpu_s
            connections = _connections(connection)
        pss_mib = {name: smaps_mib(pid, "Pss") for name, pid in pids.items()}
        workers = [private_mib(pid) for name, pid in pids.items() if name.startswith("worker")]
        await contestant.ask("one", url, 1)
        return {
            "PSS MiB": sum(pss_mib.values()),
            "private MiB a worker": statistics.median(workers),
            "PSS MiB after work": sum(smaps_mib(pid, "Pss") for pid in working.pids().values()),
            "transactions/s": (after - before - 1) / seconds,
            "connections": connections,
            "CPU %": 100 * cpu_s / seconds,
            **_by_role(pss_mib),
        }


def _by_role(pss_mib: Mapping[str, float]) -> dict[str, float]:
    """Return the PSS of the first process of each role; a process is named for its role and its place."""
    found: dict[str, float] = {}
    for name, mib in pss_mib.items():
        role = next((role for role in ("fork server", "scheduler", "worker") if name.startswith(role)), name)
        found.setdefault(f"PSS MiB, {role}", mib)
    return found


def private_mib(pid: int) -> float:
    """Return what would be free if the process ended (proc_pid_smaps(5))."""
    return smaps_mib(pid, "Private_Clean") + smaps_mib(pid, "Private_Dirty")


def smaps_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _transactions(connection: psycopg.Connection) -> int:
    """Return how many there were; each call is one itself."""
    row = connection.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _connections(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _cpu_s(pids: Collection[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


SCENARIO = Scenario(
    name="idle",
    title="Four idle workers",
    figure="PSS MiB",
    cases=cases,
    rounds=(1, 1),
    estimate_s=(200, 18),
    note="soniqd's figures are those of the whole daemon: master, fork server, scheduler and workers. Private memory "
    "is what a further worker costs. A connection that only measures is not counted.",
)
