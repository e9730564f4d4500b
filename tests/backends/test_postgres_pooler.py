"""Behind a real PgBouncer: nothing has to be configured, and no promise is given up."""

from __future__ import annotations

import asyncio
import logging
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from soniqd.backends.postgres import PostgresBackend, wakeups
from soniqd.errors import ConfigurationError
from soniqd.policy.doctor import examine
from tests.backends.conformance.builders import claim, done, worker
from tests.support.jobs import new_job
from tests.support.pgbouncer import PgBouncer, find_pgbouncer
from tests.support.waiting import eventually

pytestmark = pytest.mark.skipif(find_pgbouncer() is None, reason="pgbouncer is not installed")


@pytest.fixture(params=[1, 5], ids=["one session", "five sessions"])
def pooler(request, postgres_server):
    with PgBouncer(postgres_server, mode="transaction", pool_size=request.param) as pooler:
        yield pooler


@pytest.fixture
def wide_pooler(postgres_server):
    with PgBouncer(postgres_server, mode="transaction", pool_size=5) as pooler:
        yield pooler


@pytest.fixture
async def connect(postgres_url):
    opened: list[PostgresBackend] = []

    def connect(pooler, **options) -> PostgresBackend:
        opened.append(PostgresBackend(pooler.url(postgres_url), **options))
        return opened[-1]

    yield connect
    for backend in opened:
        await backend.close()


@pytest.fixture(autouse=True)
def short_proof(monkeypatch):
    monkeypatch.setattr(wakeups, "_ECHO_TIMEOUT_S", 0.5)


async def test_jobs_are_stored_claimed_and_finished_by_many_at_once(pooler, connect):
    one, two = connect(pooler), connect(pooler)
    await asyncio.gather(
        *(backend.enqueue([new_job(), new_job(dedup_key=str(n))]) for n in range(50) for backend in (one, two))
    )
    ended = 0
    for _ in range(4):
        for backend in (one, two):
            claimed = await claim(backend, await worker(backend, names=["job"]), limit=20)
            ended += len(await backend.complete([done(job) for job in claimed]))
    assert ended == 150


async def test_no_session_state_is_left_in_the_servers_sessions(pooler, connect, postgres_url):
    backend = connect(pooler)
    for _ in range(5):
        await backend.enqueue([new_job()])
        await claim(backend, await worker(backend), limit=1)
    async with backend.acquire() as connection:
        await connection.execute("SELECT 1")
    with psycopg.connect(pooler.url(postgres_url), autocommit=True, prepare_threshold=None) as onlooker:
        row = onlooker.execute(
            "SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('enable_seqscan'), "
            "current_setting('statement_timeout')"
        ).fetchone()
    assert row == (0, "on", "0")


async def test_deafness_is_noticed_and_jobs_are_found_by_looking(pooler, connect, caplog):
    caplog.set_level(logging.WARNING, "soniqd")
    backend = connect(pooler)
    wake_ups = await backend.subscribe()
    assert not wake_ups.live
    assert [record.event for record in caplog.records] == ["listener_deaf"]
    await backend.enqueue([new_job(queue="a")])
    assert await heard(wake_ups, "a")
    await backend.enqueue([new_job(queue="b")])
    assert await heard(wake_ups, "b")


async def heard(wake_ups, queue: str) -> bool:
    async with asyncio.timeout(10):
        while all(wake_up.queue != queue for wake_up in await wake_ups.wait()):
            pass
    return True


async def test_a_due_time_is_found_by_looking(wide_pooler, connect):
    backend = connect(wide_pooler)
    wake_ups = await backend.subscribe()
    await backend.enqueue([new_job(delay_s=60.0)])
    async with asyncio.timeout(10):
        while not (dues := [one.due_in_s for one in await wake_ups.wait() if one.due_in_s is not None]):
            pass
    assert dues[0] == pytest.approx(60, abs=15)


async def test_paused_queues_wake_nobody(wide_pooler, connect):
    backend = connect(wide_pooler)
    await backend.set_queue_paused("a", paused=True)
    await backend.enqueue([new_job(queue="a")])
    wake_ups = await backend.subscribe()
    assert await wake_ups.wait(1.5) == ()


async def test_it_listens_again_once_the_pooler_lets_it(wide_pooler, connect, monkeypatch):
    """As when the pooler's mode was changed: it tries again by itself, and stops looking."""
    monkeypatch.setattr(wakeups, "_LISTEN_AGAIN_S", 0.1)
    backend = connect(wide_pooler)
    wake_ups = await backend.subscribe()
    assert not wake_ups.live

    async def echo_is_heard(self, connection):
        self._echoed = True

    monkeypatch.setattr(wakeups.PostgresWakeUps, "_subscribe", echo_is_heard)
    await eventually(lambda: wake_ups.live)
    assert wake_ups._poller is None


async def test_one_leads_although_sessions_are_shared(wide_pooler, connect, postgres_server):
    one, two = connect(wide_pooler), connect(wide_pooler)
    first, second = one.leadership("scheduler"), two.leadership("scheduler")
    assert await first.acquire()
    assert await first.acquire()
    for _ in range(5):
        assert not await second.acquire()
        assert second._seat.connection.info.transaction_status == TransactionStatus.IDLE  # it keeps nothing busy
        assert await first.held()
        assert not await second.held()
    await first.release()
    assert await second.acquire()
    await second.release()


async def test_a_leader_whose_connection_ends_leads_no_more(wide_pooler, connect):
    one, two = connect(wide_pooler), connect(wide_pooler)
    first, second = one.leadership("scheduler"), two.leadership("scheduler")
    assert await first.acquire()
    first._seat.connection.pgconn.finish()

    async def succeeds() -> bool:
        return await second.acquire()

    await eventually(succeeds)
    assert not await first.held()


async def test_a_leader_whose_transaction_was_broken_off_leads_no_more_and_may_again(wide_pooler, connect):
    """As by a statement that was cancelled: the server frees the lock with the error."""
    one, two = connect(wide_pooler), connect(wide_pooler)
    first, second = one.leadership("scheduler"), two.leadership("scheduler")
    assert await first.acquire()
    with pytest.raises(psycopg.DataError):
        await first._seat.connection.execute("SELECT 1 / 0")
    assert await second.acquire()
    assert not await first.held()
    await second.release()
    assert await first.acquire()
    assert await first.held()
    await first.release()


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
async def test_a_leader_keeps_no_dead_row(postgres_server, wide_pooler, connect, postgres_url, isolation):
    """Whatever the database's default is."""
    name = urlsplit(postgres_url).path.removeprefix("/")
    postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    backend = connect(wide_pooler)
    leadership = backend.leadership("scheduler")
    assert await leadership.acquire()
    direct = PostgresBackend(postgres_url)
    checkup = await direct.checkup()
    await direct.close()
    assert checkup.server is not None
    assert checkup.server.horizon == ()


async def test_direct_and_pooled_schedulers_exclude_each_other(wide_pooler, connect, postgres_url):
    direct, pooled = PostgresBackend(postgres_url), connect(wide_pooler)
    first, second = direct.leadership("scheduler"), pooled.leadership("scheduler")
    assert await first.acquire()
    assert not await second.acquire()
    await first.release()
    assert await second.acquire()
    assert not await first.acquire()
    await direct.close()


async def test_setup_works(pooler, empty_postgres_url):
    backend = PostgresBackend(pooler.url(empty_postgres_url))
    assert (await backend.setup()).pending
    assert not (await backend.setup()).pending
    await backend.close()


async def test_the_doctor_says_so(wide_pooler, connect):
    checkup = await connect(wide_pooler).checkup()
    assert checkup.server is not None
    assert checkup.server.pooled
    assert {finding.code for finding in examine(checkup)} == {"not_listening", "not_durable"}


async def test_a_pooler_in_session_mode_lets_it_listen(postgres_server, connect):
    with PgBouncer(postgres_server, mode="session") as pooler:
        backend = connect(pooler)
        wake_ups = await backend.subscribe()
        assert wake_ups.live
        await backend.enqueue([new_job(queue="a")])
        assert await heard(wake_ups, "a")
        await wake_ups.close()
        await backend.close()


def test_the_url_may_say_that_sessions_are_whole():
    from soniqd.backends.postgres.target import parse_target

    said = {
        text: parse_target(f"postgresql://h/d{text}", connect_timeout_s=5).keeps_sessions
        for text in ("", "?prepare_threshold=2", "?prepare_threshold=none")
    }
    assert said == {"": None, "?prepare_threshold=2": True, "?prepare_threshold=none": False}
    with pytest.raises(ConfigurationError):
        parse_target("postgresql://h/d?prepare_threshold=maybe", connect_timeout_s=5)
