"""The jobs module of the daemon that is measured; the handlers count in the folder that BENCH_TALLY names."""

from __future__ import annotations

import asyncio
import os
import time
from functools import cache
from pathlib import Path

from soniqd import JobContext, Soniq
from tests.bench.drivers.tally import SLOTS, Tally

RETRY_DELAY_S = 0.5
SECOND = SLOTS // 2
"""What is added to a job's number in its second run."""

app = Soniq()


@cache
def tally() -> Tally:
    """Open the file of this process, at its first job."""
    return Tally(Path(os.environ["BENCH_TALLY"]))


@app.job(name="noop")
async def noop(i: int) -> None:
    tally().tick(i)


@app.job(name="retried", retries=1, retry_delay=RETRY_DELAY_S, retry_jitter=False)
async def retried(i: int, context: JobContext) -> None:
    """Fail in the first run."""
    tally().tick(i if context.attempt == 1 else i + SECOND)
    if context.attempt == 1:
        raise RuntimeError("failed on purpose")


@app.job(name="mark")
async def mark(path: str) -> None:
    """Hang in the first run, return in the second."""
    marks = Path(path)
    first = not marks.exists()  # noqa: ASYNC240  a local file
    with marks.open("a") as file:  # noqa: ASYNC230  a local file
        file.write(f"{time.monotonic()} {os.getpid()}\n")
    if first:
        await asyncio.sleep(600)
