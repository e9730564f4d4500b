"""The jobs module of the daemon that is measured; the handlers count in the folder that BENCH_TALLY names."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from soniqd import Soniq
from tests.bench.drivers.tally import Tally

app = Soniq()


@cache
def tally() -> Tally:
    """Open the file of this process, at its first job."""
    return Tally(Path(os.environ["BENCH_TALLY"]))


async def noop(i: int) -> None:
    tally().tick(i)


app.job(name="noop")(noop)
