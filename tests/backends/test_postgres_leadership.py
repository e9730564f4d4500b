import asyncio
import sys
from typing import Any

import pytest

from soniqd.backends.postgres import PostgresBackend
from soniqd.backends.postgres.leadership import SessionLock
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
    monkeypatch.setattr(leader._seat.lock, "_run", None)
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


async def sessions(postgres):
    async with postgres.acquire() as connection:
        cursor = await connection.execute(
            "SELECT application_name FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'soniqd%' AND pid <> pg_backend_pid()"
        )
        return [name for (name,) in await cursor.fetchall()]


@pytest.fixture
async def single(postgres, postgres_url):
    """A backend whose pool has one connection, as a scheduler's."""
    backend = PostgresBackend(postgres_url, pool_max_size=1)
    await backend.open()
    yield backend
    await backend.close()


async def test_who_has_one_connection_leads_on_that_one_and_is_named_there(postgres, single):
    others = await sessions(postgres)
    leader = single.leadership("scheduler")
    assert await leader.acquire()
    assert await leader.acquire()
    assert await leader.held()
    await single.list_schedules()
    assert await leader.held()
    named = await sessions(postgres)
    assert len(named) == len(others)
    assert [name for name in named if " leader " in name]
    assert await postgres.leader("scheduler") is not None
    await leader.release()
    assert sorted(await sessions(postgres)) == sorted(others)
    assert await postgres.leadership("scheduler").acquire()


async def test_only_one_of_two_with_one_connection_leads(single, postgres_url):
    async with asyncio.timeout(20):
        first, second = single.leadership("scheduler"), PostgresBackend(postgres_url, pool_max_size=1)
        await second.open()
        follower = second.leadership("scheduler")
        assert await first.acquire()
        assert not await follower.acquire()
        assert not await follower.held()
        await first.release()
        assert await follower.acquire()
        await second.close()
        assert await first.acquire()


async def test_the_lead_is_lost_with_the_only_connection_and_can_be_had_again(single, postgres_server):
    leader = single.leadership("scheduler")
    assert await leader.acquire()
    assert await leader.held(max_age_s=60)
    postgres_server.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'soniqd leader %'"
    )
    await single.list_schedules()
    assert await leader.held(max_age_s=60) is False
    assert await leader.held() is False
    assert await leader.acquire()
    assert await leader.held(max_age_s=60)


async def test_a_leader_with_one_connection_loses_it_with_the_server(single, postgres_server):
    leader = single.leadership("scheduler")
    assert await leader.acquire()
    postgres_server.stop()
    assert await leader.held(max_age_s=60) is False
    assert await leader.held() is False
    with pytest.raises(DatabaseUnavailableError):
        await leader.acquire()
    postgres_server.start()
    assert await leader.acquire()


async def test_a_question_waits_for_a_transaction_on_the_only_connection(single):
    leader = single.leadership("scheduler")
    assert await leader.acquire()
    async with single.acquire() as connection:
        await connection.execute("BEGIN")
        asked = asyncio.create_task(leader.held())
        await eventually(lambda: single._database._pool._waiting)
        assert not asked.done()
        await connection.execute("COMMIT")
    assert await asked


@pytest.mark.parametrize("connections", [1, 2])
async def test_who_is_cancelled_on_the_way_to_the_lead_gives_it_back(postgres, postgres_url, monkeypatch, connections):
    backend = PostgresBackend(postgres_url, pool_max_size=connections)
    leader = backend.leadership("scheduler")
    took = asyncio.Event()
    run = SessionLock._run

    async def run_and_hang(self, connection, name):
        rows = await run(self, connection, name)
        if name == "try_lead":
            took.set()
            await asyncio.Event().wait()
        return rows

    with monkeypatch.context() as patched:
        patched.setattr(SessionLock, "_run", run_and_hang)
        asking = asyncio.create_task(leader.acquire())
        await took.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert await postgres.leadership("scheduler").acquire()
    await backend.close()


async def test_closing_gives_the_lead_back_once_the_only_connection_is_there_again(postgres, single):
    assert await single.leadership("scheduler").acquire()
    async with single.acquire():
        closing = asyncio.create_task(single.close())
        await eventually(lambda: single._database._pool._waiting)
        follower = postgres.leadership("scheduler")
        assert not await follower.acquire()
        assert not closing.done()
    await closing
    assert await follower.acquire()


async def test_a_lead_is_given_back_where_the_only_connection_is_no_place_for_it_any_more(single):
    """As when the next connection went to a pooler: the lead is asked for on a connection of its own then."""
    leader = single.leadership("scheduler")
    assert await leader.acquire()
    single._database.pooled = True
    assert await leader.acquire()
    assert await leader.held()


@pytest.mark.parametrize("connections", [1, 2])
async def test_the_server_is_told_to_notice_a_leader_whose_host_is_gone(postgres_url, connections):
    backend = PostgresBackend(postgres_url, pool_max_size=connections)
    leader: Any = backend.leadership("scheduler")
    assert await leader.acquire()
    async with leader._seat.lent() as connection:
        cursor = await connection.execute("SHOW tcp_keepalives_idle")
        assert await cursor.fetchone() == ("5",)
    await backend.close()


async def test_the_lead_is_given_back_before_the_servers_session_has_ended(postgres, postgres_url, monkeypatch):
    backend = PostgresBackend(postgres_url)
    leader: Any = backend.leadership("scheduler")
    assert await leader.acquire()
    connection = leader._seat.connection

    async def stays_open():
        pass

    with monkeypatch.context() as patched:
        patched.setattr(connection, "close", stays_open)
        await leader.release()
    assert await postgres.leadership("scheduler").acquire()
    await connection.close()
    await backend.close()
