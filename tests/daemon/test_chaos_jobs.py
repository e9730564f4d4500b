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


POISON = (
    JOBS
    + """

@app.job(name="poison", retries=0)
async def poison():
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), 9)
"""
)


async def test_a_job_that_kills_its_workers_takes_no_neighbour_to_the_dead_letters(tmp_path, database_url, app: Soniq):
    async with Daemon(tmp_path, jobs=POISON, database_url=database_url, workers={"concurrency": 4}) as daemon:
        poison = await app.enqueue("poison")
        others = [await app.enqueue("sleep", args={"seconds": 0.3}) for _ in range(6)]

        async def all_done() -> bool:
            jobs = [await app.get_job(job_id) for job_id in others]
            return all(job is not None and job["status"] == "done" for job in jobs)

        async def buried() -> bool:
            return await app.dead_letter.get(poison) is not None

        await daemon.eventually(all_done, timeout_s=30)
        await daemon.eventually(buried)
        assert [letter["id"] for letter in await app.dead_letter.list()] == [poison]


FORKING = (
    JOBS
    + """

@app.job(name="fork", retries=0)
async def fork():
    os.fork()


@app.job(name="fork_and_raise", retries=0)
async def fork_and_raise():
    if os.fork() == 0:
        raise RuntimeError("only in the copy")


@app.job(name="fork_and_wait", retries=0)
async def fork_and_wait():
    if os.fork() == 0:
        await asyncio.sleep(3600)


@app.job(name="fork_in_thread", retries=0)
def fork_in_thread():
    os.fork()
"""
)


@pytest.mark.parametrize("name", ["fork", "fork_and_raise", "fork_and_wait", "fork_in_thread"])
async def test_a_copy_of_the_worker_that_a_handler_forked_ends_and_the_worker_goes_on(
    tmp_path, database_url, app: Soniq, name
):
    async with Daemon(tmp_path, jobs=FORKING, database_url=database_url) as daemon:
        worker, processes = await daemon.pid_of("default/1"), len(daemon.processes())
        job_ids = [await app.enqueue(name)]
        await daemon.log_event("job_forked")
        await daemon.eventually(lambda: len(daemon.processes()) == processes, message="the copy is gone")
        job_ids += [await app.enqueue("noop") for _ in range(4)]

        async def done() -> bool:
            jobs = [await app.get_job(job_id) for job_id in job_ids]
            return all(job is not None and job["status"] == "done" for job in jobs)

        await daemon.eventually(done, timeout_s=20)
        assert await daemon.pid_of("default/1") == worker
