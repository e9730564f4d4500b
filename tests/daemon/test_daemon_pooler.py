"""A whole daemon whose only way to the database is a pooler in transaction mode."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from soniqd import Soniq
from tests.support.daemon import Daemon
from tests.support.pgbouncer import PgBouncer, find_pgbouncer

pytestmark = pytest.mark.skipif(find_pgbouncer() is None, reason="pgbouncer is not installed")


async def test_it_runs_jobs_leads_and_says_that_it_looks_for_them(tmp_path, postgres_server, postgres_url):
    ran = tmp_path / "ran"
    with PgBouncer(postgres_server, mode="transaction", pool_size=4) as pooler:
        url = pooler.url(postgres_url)
        async with Daemon(tmp_path, database_url=url, workers={"processes": 2, "concurrency": 4}) as daemon:
            await daemon.log_event("listener_deaf")
            app = Soniq(database_url=url, enqueue_validation="none")
            await asyncio.gather(*(app.enqueue("append", path=str(ran), text=str(n)) for n in range(40)))
            await app.enqueue("append", path=str(ran), text="later", scheduled_at=timedelta(seconds=0.5))
            await daemon.eventually(lambda: ran.exists() and len(ran.read_text().splitlines()) == 41)
            await app.close()
            status = await daemon.status()
            assert status["hears_wake_ups"] is False
            assert status["leader"] is not None
            shown = await daemon.soniqctl("status")
            assert "notifications of the database do not arrive" in shown
            found = await daemon.soniqctl_json("doctor", expect=1)
            assert "not_listening" in [finding["code"] for finding in found["findings"]]
