"""The jobs of `make run`: a recurring one makes orders, and each order takes a few jobs to handle."""

from __future__ import annotations

import asyncio
import logging
import random
import time

from soniqd import JobContext, Soniq

app = Soniq()
log = logging.getLogger("demo")
some = random.SystemRandom()  # has no state that forked workers would share


@app.periodic(every=2, name="demo.open_shop")
async def open_shop() -> None:
    """Every two seconds: a few customers order something."""
    for order in some.sample(range(1000, 10_000), k=2):
        await app.enqueue("demo.handle_order", order=order)


@app.job(name="demo.handle_order")
async def handle_order(order: int) -> str:
    """Run on the event loop, and enqueue what comes next."""
    await asyncio.sleep(some.uniform(0.1, 1.0))
    await app.enqueue("demo.print_label", order=order)
    await app.enqueue("demo.charge_card", order=order)
    return f"order {order} accepted"


@app.job(name="demo.print_label")
def print_label(order: int) -> str:
    """Run in a thread: a handler without async may block."""
    time.sleep(some.uniform(0.1, 0.5))
    log.info("label of order %d printed", order)
    return f"label-{order}.pdf"


@app.job(name="demo.charge_card", retries=4, retry_delay=1, retry_backoff=True)
async def charge_card(order: int, context: JobContext) -> str:
    """Fail now and then; each retry waits longer."""
    await asyncio.sleep(some.uniform(0.05, 0.3))
    if some.random() < 0.3:
        raise ConnectionError(f"the bank does not answer (order {order}, attempt {context.attempt})")
    log.info("order %d paid at attempt %d", order, context.attempt)
    return "paid"


@app.job(name="demo.hello")
async def hello(name: str = "world", seconds: float = 0) -> str:
    """Be enqueued by hand; ``seconds`` makes it long enough to look at, to drain or to kill."""
    log.info("hello, %s", name)
    await asyncio.sleep(seconds)
    return f"hello, {name}"
