"""A program with an unsupervised worker, for the tests: ``python lone_worker.py URL FOLDER [setting=value...]``.

Each run of a job appends a line to a file in FOLDER named for the job.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from soniqd import JobContext, Soniq

URL, FOLDER = sys.argv[1], Path(sys.argv[2])
SETTINGS: dict[str, Any] = {key: json.loads(value) for key, _, value in (pair.partition("=") for pair in sys.argv[3:])}
CONCURRENCY = SETTINGS.pop("concurrency", 10)

app = Soniq(URL, **SETTINGS)


def note(kind: str, context: JobContext) -> None:
    with (FOLDER / kind).open("a") as file:
        file.write(f"{context.job_id} {os.getpid()} {time.time()}\n")


async def until_released() -> None:
    while not (FOLDER / "release").exists():  # noqa: ASYNC110  the release comes from another process, as a file
        await asyncio.sleep(0.01)


@app.job(name="quick")
async def quick(context: JobContext) -> int:
    note("quick", context)
    return os.getpid()


@app.job(name="slow")
async def slow(context: JobContext) -> int:
    note("slow", context)
    await until_released()
    return os.getpid()


@app.job(name="short")
async def short(context: JobContext) -> None:
    note("short", context)
    await asyncio.sleep(0.05)


@app.job(name="endless")
def endless(context: JobContext) -> None:
    note("endless", context)
    time.sleep(3600)


@app.job(name="compute")
async def compute(context: JobContext) -> None:
    note("compute", context)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        pass


class ToStderr(logging.Handler):
    """Writes the event names, one a line."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{getattr(record, 'event', '')} {record.getMessage()}\n")
        sys.stderr.flush()


async def main() -> None:
    async with app:
        await app.run_worker(concurrency=CONCURRENCY)


logging.getLogger("soniqd").addHandler(ToStderr())
logging.getLogger("soniqd").setLevel(logging.INFO)
asyncio.run(main())
