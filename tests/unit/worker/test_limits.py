"""Settings that bound what a handler or an outage can do."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from soniqd import Soniq
from soniqd.app.worker import make_worker
from soniqd.queue.context import Snooze
from soniqd.worker.outage import Outage
from tests.unit.worker.rig import Rig


async def test_a_snooze_is_cut_to_the_longest_one(rig: Rig):
    async def much_later():
        return Snooze(1e300)

    rig.task(much_later)
    job_id = await rig.enqueue("much_later")
    await rig.run_once(snooze_max_s=3600.0)
    job = await rig.job(job_id)
    assert (job["status"], job["attempts"]) == ("queued", 0)
    due = datetime.fromisoformat(job["scheduled_at"] or "")
    assert due <= datetime.now(UTC) + timedelta(hours=1)


def test_the_pauses_of_a_long_outage_are_bounded():
    outage = Outage(worker_id="w", on_change=lambda: None, longest_s=7.0)
    pauses = [outage._pause_s(3600.0) for _ in range(50)]
    assert all(3.5 <= pause <= 7.0 for pause in pauses)


async def test_run_worker_takes_its_bounds_from_the_settings():
    async with Soniq(backend="memory", snooze_max_seconds=60, error_retry_delay=9) as app:
        worker = make_worker(app, app.backend, concurrency=None, queues=None, until_empty=True)
    assert (worker.options.snooze_max_s, worker.options.error_retry_s) == (60, 9)


@pytest.mark.parametrize(
    ("settings", "level"),
    [({}, logging.NOTSET), ({"log_level": "error"}, logging.ERROR), ({"debug": True}, logging.DEBUG)],
)
async def test_run_worker_sets_a_log_level_only_if_it_was_asked_for(settings, level):
    logger = logging.getLogger("soniqd")
    before = logger.level
    logger.setLevel(logging.NOTSET)
    try:
        async with Soniq(backend="memory", **settings) as app:
            await asyncio.wait_for(app.run_worker(run_once=True), 10)
        assert logger.level == level
    finally:
        logger.setLevel(before)
