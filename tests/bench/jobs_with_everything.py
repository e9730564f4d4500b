"""The jobs module with all that a job can have: a timeout, retries, hooks, metrics and a result."""

from __future__ import annotations

from collections import Counter
from typing import Any

from soniqd import JobContext, Soniq
from tests.bench.jobs import tally


class Counts:
    """A metrics sink that counts as a real one would."""

    def __init__(self) -> None:
        self.runs: Counter[tuple[str, str]] = Counter()
        self.seconds: Counter[str] = Counter()

    async def record_job_start(self, *, job_id: str, job_name: str, queue: str, attempt: int) -> None:
        self.runs[job_name, "started"] += 1

    async def record_job_end(
        self, *, job_id: str, job_name: str, queue: str, status: str, duration_s: float, error: str | None = None
    ) -> None:
        self.runs[job_name, status] += 1


app = Soniq(metrics_sink=Counts())
seen: Counter[str] = Counter()


@app.before_job
def before(job_name: str, job_id: str) -> None:
    seen["before"] += 1


@app.after_job
def after(job_name: str, result: Any) -> None:
    seen["after"] += 1


@app.on_error
def on_error(job_name: str, error: BaseException) -> None:
    seen["error"] += 1


@app.job(name="noop", timeout=60, retries=5, retry_delay=2, retry_backoff=True)
async def noop(i: int, context: JobContext) -> dict[str, int]:
    tally().tick(i)
    return {"number": i, "attempt": context.attempt}
