"""Jobs that do to their worker what no job should."""

from __future__ import annotations

import pytest

from soniqd import Soniq
from tests.support.daemon import JOBS, Daemon

ENDING = (
    JOBS
    + """

@app.job(name="leave", retries=0)
async def leave(code: int):
    os._exit(code)
"""
)


@pytest.mark.parametrize("code", [0, 78])
async def test_a_job_that_ends_its_worker_by_an_innocent_exit_code_becomes_a_dead_letter(
    tmp_path, database_url, app: Soniq, code
):
    async with Daemon(tmp_path, jobs=ENDING, database_url=database_url) as daemon:
        job_id = await app.enqueue("leave", args={"code": code})

        async def buried() -> bool:
            return await app.dead_letter.get(job_id) is not None

        await daemon.eventually(buried, timeout_s=20)
        letter = await app.dead_letter.get(job_id)
        assert letter is not None
        assert letter["dead_letter_reason"] == "worker_lost"
        await daemon.ready()
