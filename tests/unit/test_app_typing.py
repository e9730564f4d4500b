"""What mypy says about programs that use the library: strict, and without an ignore."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mypy import api

RIGHT = """
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel

from soniqd import JobContext, Snooze, Soniq, TaskRef, errors, task_ref
from soniqd.model import JobRecord, QueueStats


class InvoiceArgs(BaseModel):
    invoice_id: int


app = Soniq("postgresql://localhost/shop", concurrency=8, max_retries=2)
SEND_INVOICE: TaskRef = task_ref("billing.send_invoice", InvoiceArgs)


@app.job
async def bare(order_id: int) -> str:
    return str(order_id)


@app.job(name="orders.sync", retries=5, retry_delay=[1, 5, 30], timeout="5m", queue="slow", unique=True)
def sync(shop: str, ctx: JobContext, note: str = "") -> int | Snooze:
    return Snooze(5) if ctx.attempt == 1 else len(shop)


@app.periodic(cron="0 9 * * *", timezone="Europe/Berlin", name="reports.send", args={"day": 1})
async def report(day: int) -> None: ...


@app.before_job
async def started(job_name: str, job_id: str) -> None: ...


async def main() -> None:
    text: str = await bare(42)
    name: str = sync.task_name
    async with app:
        job_id: str = await app.enqueue(bare, order_id=42)
        await app.enqueue("orders.sync", args={"shop": "a"}, scheduled_at=timedelta(minutes=5), priority=1)
        await app.enqueue(SEND_INVOICE, args=InvoiceArgs(invoice_id=1), queue="billing")
        await bare.enqueue(order_id=42)
        await sync.options(queue="slow", scheduled_at=datetime.now(UTC)).enqueue(shop="a")
        ids: list[str] = await app.enqueue_many(bare, ({"order_id": number} for number in range(3)))
        await app.schedule(bare, 60, order_id=42)
        job: JobRecord | None = await app.get_job(job_id)
        model: InvoiceArgs | None = await app.get_result(job_id, result_model=InvoiceArgs)
        stats: list[QueueStats] = await app.get_queue_stats()
        cancelled: bool = await app.cancel_job(job_id)
        letters = await app.dead_letter.list(job_name=name, limit=5)
        replayed: str | None = await app.dead_letter.replay(letters[0]["id"])
        await app.scheduler.add(report, name="again", every="1h")
        async with app.backend.acquire() as conn, conn.transaction():
            await app.enqueue(bare, connection=conn, order_id=42)
        try:
            await app.run_worker(run_once=True, queues=["slow"])
        except errors.SoniqError as error:
            print(error.code, text, ids, job, model, stats, cancelled, replayed)
"""

START = """
from soniqd import Soniq

app = Soniq()


@app.job
def task(number: int) -> str:
    return str(number)
"""

WRONG = {
    "app.job(retries='three')": "retries",
    "app.job(colour='red')": "colour",
    "app.enqueue(task, queue=7)": "queue",
    "app.enqueue(task, scheduled_at='tomorrow')": "scheduled_at",
    "task('x')": "incompatible type",
    "task.options(colour='red')": "colour",
    "number: int = task(1)": "Incompatible types in assignment",
    "app.periodic(cron=5)": "cron",
    "app.periodic(every=5, missed='some')": "missed",
}


def check(tmp_path: Path, program: str) -> tuple[str, int]:
    source = tmp_path / "program.py"
    source.write_text(program)
    options = ["--strict", "--python-executable", sys.executable, "--cache-dir", str(tmp_path / "cache")]
    output, errors, code = api.run([*options, "--config-file", "", "--show-error-codes", str(source)])
    return output + errors, code


@pytest.mark.timeout(300)
def test_a_right_program_has_no_type_errors_and_wrong_lines_each_have_one(tmp_path):
    output, code = check(tmp_path, RIGHT)
    assert (output, code) == ("Success: no issues found in 1 source file\n", 0)

    start = START.lstrip()
    program = start + "\n".join(WRONG) + "\n"
    output, _ = check(tmp_path, program)
    lines = output.splitlines()
    first = start.count("\n") + 1
    for number, (line, word) in enumerate(WRONG.items(), first):
        assert any(f"program.py:{number}:" in found and word in found for found in lines), f"{line}\n{output}"
