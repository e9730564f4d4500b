from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from soniqd.queue.metrics import GuardedMetrics, NullMetricsSink

START: dict[str, Any] = {"job_id": "id", "job_name": "task", "queue": "default", "attempt": 1}
END: dict[str, Any] = {"job_id": "id", "job_name": "task", "queue": "default", "status": "done", "duration_s": 0.1}


class Recorder:
    def __init__(self):
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def record_job_start(self, **fields):
        self.calls.append(("start", fields))

    def record_job_end(self, **fields):
        self.calls.append(("end", fields))


async def test_a_sink_gets_both_calls_whether_its_methods_are_async_or_not():
    sink = Recorder()
    metrics = GuardedMetrics(sink)
    assert metrics.job_started(**START) is None
    assert metrics.job_ended(**END) is None
    assert sink.calls == [("start", START), ("end", {**END, "error": None})]


async def test_a_raising_sink_is_logged_and_nothing_else(caplog):
    class Broken(NullMetricsSink):
        async def record_job_start(self, **fields):
            raise RuntimeError("no socket")

    metrics = GuardedMetrics(Broken())
    with caplog.at_level(logging.WARNING, "soniqd"):
        assert metrics.job_started(**START) is None
    (record,) = caplog.records
    assert record.event == "metrics_sink_failed"
    assert "no socket" in record.getMessage()


def test_the_null_sink_need_not_be_called():
    assert not GuardedMetrics(NullMetricsSink()).active
    assert GuardedMetrics(Recorder()).active


async def test_the_null_sink_can_be_called():
    await NullMetricsSink().record_job_start(**START)
    await NullMetricsSink().record_job_end(**END)


async def test_a_sink_that_waits_is_waited_for_and_what_it_raises_then_is_logged_too(caplog):
    went_on = asyncio.Event()

    class Slow(NullMetricsSink):
        async def record_job_end(self, **fields):
            await went_on.wait()
            raise RuntimeError("lost its socket")

    left = GuardedMetrics(Slow()).job_ended(**END)
    assert left is not None
    waiting = asyncio.ensure_future(left)
    await asyncio.sleep(0)
    assert not waiting.done()
    went_on.set()
    with caplog.at_level(logging.WARNING, "soniqd"):
        await waiting
    assert "lost its socket" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), RuntimeError("x")])
@pytest.mark.parametrize("waits", [False, True])
async def test_nothing_that_a_sink_raises_gets_out(caplog, error, waits):
    class Broken(NullMetricsSink):
        async def record_job_end(self, **fields):
            if waits:
                await asyncio.sleep(0)
            raise error

    with caplog.at_level(logging.WARNING, "soniqd"):
        left = GuardedMetrics(Broken()).job_ended(**END)
        if left is not None:
            await left
    assert [record.event for record in caplog.records] == ["metrics_sink_failed"]


async def test_a_sink_that_waits_for_ever_is_left_behind_and_reported(caplog):
    class Hanging(NullMetricsSink):
        async def record_job_start(self, **fields):
            await asyncio.Event().wait()

    left = GuardedMetrics(Hanging(), limit_s=0.01).job_started(**START)
    assert left is not None
    with caplog.at_level(logging.WARNING, "soniqd"):
        await left
    assert "TimeoutError" in caplog.text


async def test_a_job_that_is_cancelled_while_its_sink_waits_is_cancelled():
    class Hanging(NullMetricsSink):
        async def record_job_start(self, **fields):
            await asyncio.Event().wait()

    async def job():
        left = GuardedMetrics(Hanging()).job_started(**START)
        assert left is not None
        await left

    task = asyncio.create_task(job())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
