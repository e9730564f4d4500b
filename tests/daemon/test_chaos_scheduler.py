"""A scheduler that stands still."""

from __future__ import annotations

from tests.support.daemon import Daemon


async def test_a_scheduler_that_stands_still_is_replaced_and_the_next_one_leads(tmp_path):
    async with Daemon(tmp_path) as daemon:
        await daemon.log_event("scheduler_leads")
        mark = daemon.log.mark()
        stopped = await daemon.freeze("scheduler/1")
        await daemon.log_event("child_hung", since=mark, pid=stopped, timeout_s=40)
        await daemon.log_event("scheduler_leads", since=mark, timeout_s=20)
