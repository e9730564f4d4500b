"""A load of jobs that write down each of their runs, and the account of them afterwards.

Each run appends a line when it begins and one when it ends, so that a run whose process was killed has no end. A job
that began twice is *explained* by what became of its earlier run:

``killed``   its process was killed while it ran, or right after it, before its outcome can have been written, and
             before the next run began
``cut``      its worker left and its drain's deadline cut it short
``None``     by nothing known: the job was given to somebody else while its process lived
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

SHORTEST_S = 0.01
LONGEST_S = 10.0
WRITTEN_WITHIN_S = 5.0
"""An outcome that has not reached the database for so long is not excused by a kill that comes then."""

JOBS = '''
import asyncio, contextlib, json, os, time
from soniqd import JobContext, Soniq

app = Soniq()
RUNS = os.environ["LOAD_RUNS"]
CONNECT = "LOAD_CONNECT" in os.environ


def note(what, context):
    """One write(2) a line: runs of many processes share the file."""
    line = json.dumps([what, context.job_id, context.worker_id, os.getpid(), time.monotonic()]) + "\\n"
    fd = os.open(RUNS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, line.encode())
    os.close(fd)


@app.job(name="wait", retries=0)
async def wait(seconds: float, context: JobContext):
    note("began", context)
    try:
        async with app.backend.acquire() if CONNECT else contextlib.nullcontext():
            await asyncio.sleep(seconds)
    except BaseException:
        note("cut", context)
        raise
    note("done", context)


@app.job(name="hold", retries=0)
def hold(seconds: float, context: JobContext):
    note("began", context)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.02))
        note("goes on", context)
    note("done", context)
'''
"""``wait`` waits in the loop, ``hold`` in a thread, where nothing can cut it short but the end of its process.

They append to the file that LOAD_RUNS names. With LOAD_CONNECT ``wait`` holds a connection of its worker's pool.
"""

Moment = tuple[float, float]
"""Seconds just before and just after a kill: this process may stand still between the two."""

How = Literal["done", "cut"]
Cause = Literal["killed", "cut"]


@dataclass(slots=True)
class Run:
    """One run of a job. Times are seconds of the host's monotonic clock; ``ended_s`` is None if nobody saw the end."""

    job_id: str
    worker_id: str
    pid: int
    began_s: float
    ended_s: float | None = None
    how: How | None = None
    seen_s: float = 0.0
    """When it was last known to go on."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """A job that began again: the earlier run, the next one, and what explains it."""

    first: Run
    second: Run
    cause: Cause | None

    @property
    def overlaps(self) -> bool:
        """The second run began while the first one is known to have gone on."""
        return self.second.began_s < self.first.seen_s

    def concerns(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of a daemon's log is about the job, or about a process or a worker that ran it."""
        pids, workers = {self.first.pid, self.second.pid}, {self.first.worker_id, self.second.worker_id}
        about_job = record.get("job_id") == self.first.job_id
        return about_job or record.get("pid") in pids or record.get("worker_id") in workers


def next_duration_s(source: random.Random, *, longest_s: float = LONGEST_S) -> float:
    """Return 10 ms to 10 s with a long tail: half of the jobs take less than 120 ms, one in ten more than 3.6 s."""
    return float(SHORTEST_S * (longest_s / SHORTEST_S) ** (source.random() ** 1.5))


def read_runs(path: Path) -> list[Run]:
    """Return every run, in the order in which they began. A torn last line cannot be: each is one write."""
    runs: dict[tuple[str, str, float], Run] = {}
    going: dict[tuple[str, str], Run] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        what, job_id, worker_id, pid, at_s = json.loads(line)
        if what == "began":
            going[job_id, worker_id] = runs[job_id, worker_id, at_s] = Run(job_id, worker_id, pid, at_s)
        run = going[job_id, worker_id]
        run.seen_s = at_s
        if what in ("done", "cut"):
            run.ended_s, run.how = at_s, what
    return sorted(runs.values(), key=lambda run: run.began_s)


def find_reruns(
    runs: Sequence[Run],
    killed: Mapping[int, Sequence[Moment]],
    left_behind: Collection[tuple[str, int]] = frozenset(),
) -> list[Rerun]:
    """Pair each run of a job with its next one.

    ``killed`` tells when each pid was sent SIGKILL, ``left_behind`` which (job id, pid) a drain's deadline has cut
    short in a thread, where the run itself cannot notice.
    """
    by_job: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_job[run.job_id].append(run)
    for run in runs:
        if run.how is None and (run.job_id, run.pid) in left_behind:
            run.how = "cut"
    return [
        Rerun(first, second, _explain(first, second, killed))
        for of_job in by_job.values()
        for first, second in pairwise(of_job)
    ]


def _explain(first: Run, second: Run, killed: Mapping[int, Sequence[Moment]]) -> Cause | None:
    if first.how == "cut":
        return "cut"
    until_s = second.began_s if first.ended_s is None else min(second.began_s, first.ended_s + WRITTEN_WITHIN_S)
    moments = killed.get(first.pid, ())
    return "killed" if any(first.began_s <= after_s and before_s <= until_s for before_s, after_s in moments) else None
