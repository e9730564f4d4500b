import asyncio
import sys

import pytest

from soniqd.backends.postgres import PostgresBackend
from soniqd.errors import DatabaseUnavailableError
from tests.support.waiting import eventually

_LEADER = """
import asyncio, sys
from soniqd.backends.postgres import PostgresBackend
async def lead():
    print(await PostgresBackend(sys.argv[1]).leadership("scheduler").acquire(), flush=True)
    await asyncio.sleep(600)
asyncio.run(lead())
"""


async def test_a_killed_leader_is_followed_at_once(postgres, postgres_url):
    leader = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LEADER, postgres_url, stdout=asyncio.subprocess.PIPE
    )
    follower = postgres.leadership("scheduler")
    try:
        assert leader.stdout is not None
        assert await leader.stdout.readline() == b"True\n"
        assert await follower.acquire() is False
    finally:
        leader.kill()
        await leader.communicate()
    await eventually(follower.acquire, timeout_s=1)


async def test_a_leader_notices_that_the_server_crashed_and_may_lead_again(postgres, postgres_server):
    leader = postgres.leadership("scheduler")
    assert await leader.acquire()
    assert await leader.acquire()
    assert await leader.held()
    await asyncio.to_thread(postgres_server.restart, "immediate")
    assert await leader.held() is False
    assert await leader.acquire()
    assert await leader.held()


async def test_a_leader_whose_session_was_ended_knows(postgres, postgres_server):
    leader = postgres.leadership("scheduler")
    assert await leader.acquire()
    postgres_server.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'soniqd leader %'"
    )
    assert await leader.held(max_age_s=60) is False


async def test_what_was_proved_lately_costs_no_statement(postgres, monkeypatch):
    leader = postgres.leadership("scheduler")
    assert await leader.acquire()
    assert await leader.held(max_age_s=60)
    monkeypatch.setattr(leader, "_run", None)
    assert await leader.held(max_age_s=60)
    with pytest.raises(TypeError):
        await leader.held()
    monkeypatch.undo()


async def test_a_follower_does_not_hold(postgres, postgres_url):
    first, second = postgres.leadership("scheduler"), PostgresBackend(postgres_url).leadership("scheduler")
    assert await first.acquire()
    assert not await second.acquire()
    assert not await second.held()
    await second.release()
    await first.release()


async def test_names_do_not_get_into_each_others_way(postgres):
    assert await postgres.leadership("a").acquire()
    assert await postgres.leadership("b").acquire()


async def test_without_a_database_asking_fails_and_later_succeeds(postgres_server, postgres_url):
    backend = PostgresBackend(postgres_url)
    leader = backend.leadership("scheduler")
    postgres_server.stop()
    with pytest.raises(DatabaseUnavailableError):
        await leader.acquire()
    assert await leader.held() is False
    postgres_server.start()
    assert await leader.acquire()
    await backend.close()
