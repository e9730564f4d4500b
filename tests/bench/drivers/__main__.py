"""Drive one contestant, in its own interpreter: ``python -m tests.bench.drivers NAME VERB URL ...``.

``setup URL``                       make its tables
``one URL SECONDS``                 enqueue jobs one by one for so long
``many URL COUNT``                  enqueue so many in one call
``paced URL COUNT EVERY_S``         enqueue jobs 0, 1, 2 ... one every so many seconds, and tell when each was committed
``work URL CONCURRENCY TALLY``      run jobs until SIGTERM, and count them in the folder TALLY

The answer is one line of JSON. A driver is a module of this folder with ``setup``, ``producing`` and, but for soniqd's,
whose daemon does it, ``work``.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

WARM_UP = 30


async def one(driver: Any, url: str, seconds: str) -> dict[str, Any]:
    async with driver.producing(url) as producer:
        for _ in range(WARM_UP):
            await producer.one(-1)
        count, began = 0, time.perf_counter()
        while (passed_s := time.perf_counter() - began) < float(seconds):
            await producer.one(-1)
            count += 1
    return {"count": count, "seconds": passed_s}


async def many(driver: Any, url: str, count: str) -> dict[str, Any]:
    async with driver.producing(url) as producer:
        began = time.perf_counter()
        await producer.many(int(count))
        return {"count": int(count), "seconds": time.perf_counter() - began}


async def paced(driver: Any, url: str, count: str, every_s: str) -> dict[str, Any]:
    committed = []
    async with driver.producing(url) as producer:
        for _ in range(WARM_UP):
            await producer.one(-1)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        next_at = time.monotonic()
        for number in range(int(count)):
            next_at += float(every_s)
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            await producer.one(number)
            committed.append(time.monotonic_ns())
    return {"committed": committed}


ASKED: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {"one": one, "many": many, "paced": paced}


async def main(name: str, verb: str, url: str, *arguments: str) -> None:
    driver = importlib.import_module(f"tests.bench.drivers.{name}")
    match verb:
        case "setup":
            await driver.setup(url)
        case "work":
            from tests.bench.drivers.tally import Tally

            await driver.work(url, int(arguments[0]), Tally(Path(arguments[1])).tick)
        case _:
            print(json.dumps(await ASKED[verb](driver, url, *arguments)))


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main(*sys.argv[1:]))
    else:
        uvloop.run(main(*sys.argv[1:]))
