import asyncio
import logging
import os
import socket

import psycopg
import pytest
from psycopg.pq import ConnStatus

from soniqd.backends import WakeUp
from soniqd.backends.postgres import PostgresBackend, wakeups
from soniqd.backends.postgres.wakeups import PostgresWakeUps
from tests.support.jobs import new_job
from tests.support.waiting import eventually


@pytest.fixture
async def subscription(postgres):
    wake_ups = await postgres.subscribe()
    assert await wake_ups.wait(5) == (WakeUp(),)
    yield wake_ups
    await wake_ups.close()


async def next_queue(wake_ups):
    """Return the next wake-up's queue; a reconnect in between is passed over."""
    async with asyncio.timeout(10):
        while True:
            for wake_up in await wake_ups.wait():
                if wake_up.queue is not None:
                    return wake_up.queue


async def test_it_is_live_as_soon_as_it_is_there(subscription):
    assert subscription.live


async def test_a_burst_is_merged_per_queue(postgres, subscription):
    await asyncio.gather(*(postgres.enqueue([new_job(queue=q)]) for q in ("a", "b") * 10))
    seen: set[str | None] = set()
    while len(seen) < 2:
        wake_ups = await subscription.wait(5)
        queues = [wake_up.queue for wake_up in wake_ups]
        assert len(queues) == len(set(queues))
        seen.update(queues)
    assert seen == {"a", "b"}


async def test_silence_ends_with_the_timeout(subscription):
    assert await subscription.wait(0.01) == ()


async def test_it_heals_after_a_crash_of_the_server_and_says_look_for_yourself(
    postgres, subscription, postgres_server, caplog
):
    caplog.set_level(logging.WARNING, "soniqd")
    await asyncio.to_thread(postgres_server.stop, "immediate")
    await eventually(lambda: not subscription.live)
    await asyncio.to_thread(postgres_server.start)
    assert await subscription.wait(10) == (WakeUp(),)
    assert subscription.live
    await postgres.enqueue([new_job(queue="after")])
    assert await next_queue(subscription) == "after"
    assert [record.event for record in caplog.records] == ["listener_lost"]


async def test_it_heals_after_its_connection_was_ended(postgres, subscription, postgres_server):
    ended = postgres_server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'soniqd listener'"
    )
    assert ended == [(True,)]
    assert await subscription.wait(10) == (WakeUp(),)
    await postgres.enqueue([new_job(queue="after")])
    assert await next_queue(subscription) == "after"


async def test_a_descriptor_that_somebody_else_is_given_at_once_is_left_to_him(postgres, postgres_server, monkeypatch):
    """libpq closes the socket where it reads the end of the stream, and whoever opens one next gets its number."""
    ours, theirs = socket.socketpair()
    reopened: list[socket.socket] = []
    told = asyncio.Event()
    take_all = PostgresWakeUps._take_all

    def and_open_another(self, pgconn, *arguments):
        descriptor = pgconn.socket
        take_all(self, pgconn, *arguments)
        if pgconn.status != ConnStatus.OK and not reopened:
            reopened.append(socket.socket(fileno=os.dup2(ours.fileno(), descriptor)))
            asyncio.get_running_loop().add_reader(descriptor, told.set)

    monkeypatch.setattr(PostgresWakeUps, "_take_all", and_open_another)
    wake_ups = await postgres.subscribe()
    postgres_server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'soniqd listener'"
    )
    await eventually(lambda: reopened and not wake_ups.live)
    theirs.send(b"!")
    async with asyncio.timeout(5):
        await told.wait()
    asyncio.get_running_loop().remove_reader(reopened[0])
    for end in (ours, theirs, *reopened):
        end.close()
    await wake_ups.close()


async def test_a_connection_that_is_dead_and_silent_is_found_out(postgres, postgres_server, monkeypatch):
    monkeypatch.setattr(wakeups, "_PROOF_EVERY_S", 0.05)
    monkeypatch.setattr(wakeups, "_PROOF_TIMEOUT_S", 0.3)
    import os
    import signal

    wake_ups = await postgres.subscribe()
    [(pid,)] = postgres_server.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'soniqd listener'")
    os.kill(pid, signal.SIGSTOP)
    try:
        await eventually(lambda: not wake_ups.live)
        await eventually(lambda: wake_ups.live)
    finally:
        os.kill(pid, signal.SIGCONT)
    await wake_ups.close()


async def test_without_a_database_it_is_there_and_not_live(postgres_server, postgres_url):
    postgres_server.stop()
    backend = PostgresBackend(postgres_url)
    wake_ups = await backend.subscribe()
    assert not wake_ups.live
    postgres_server.start()
    assert await wake_ups.wait(10) == (WakeUp(),)
    await eventually(lambda: wake_ups.live)
    await backend.close()


async def test_where_notifications_do_not_arrive_it_is_not_live(postgres, monkeypatch):
    """As behind a pooler in transaction mode: LISTEN succeeds, on a session that is not there afterwards."""
    monkeypatch.setattr(wakeups, "_ECHO_TIMEOUT_S", 0.2)
    subscribe = psycopg.AsyncConnection.execute

    async def without_listen(self, query, *args, **kwargs):
        harmless = "SELECT 1" if "LISTEN" in str(query) else query
        return await subscribe(self, harmless, *args, **kwargs)

    monkeypatch.setattr(psycopg.AsyncConnection, "execute", without_listen)
    wake_ups = await postgres.subscribe()
    assert not wake_ups.live
    await wake_ups.close()


async def test_a_due_time_is_told_by_the_databases_clock(postgres, subscription):
    await postgres.enqueue([new_job(delay_s=60)])
    [wake_up] = await subscription.wait(5)
    assert wake_up.due_in_s == pytest.approx(60, abs=1)


async def test_what_others_send_on_the_channels_does_no_harm(postgres, subscription, postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as stranger:
        stranger.execute("SELECT pg_notify('soniq_due', 'soon'), pg_notify('soniq_new_job', '')")
    received = set(await subscription.wait(5))
    while len(received) < 2:
        received |= set(await subscription.wait(5))
    assert received == {WakeUp(due_in_s=0.0), WakeUp()}


async def test_an_idle_listener_does_nothing(subscription, postgres_server):
    query = "SELECT query_start FROM pg_stat_activity WHERE application_name = 'soniqd listener'"
    before = postgres_server.execute(query)
    assert await subscription.wait(0.5) == ()
    assert postgres_server.execute(query) == before


async def test_closing_lets_a_waiting_caller_go(subscription):
    waiting = asyncio.create_task(subscription.wait())
    await asyncio.sleep(0)
    await subscription.close()
    async with asyncio.timeout(5):
        await waiting
    assert not subscription.live


async def test_a_job_for_later_that_a_producer_of_soniq_stored_is_told_with_its_time(subscription, postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as producer:
        for seconds in (100, 50, 100):
            producer.execute(
                "INSERT INTO soniq_jobs (id, job_name, args, scheduled_at) "
                "VALUES (gen_random_uuid(), 'mail', '{}', now() + %s * interval '1 second')",
                (seconds,),
            )
            producer.execute("SELECT pg_notify('soniq_new_job', 'default')")
    dues: list[float] = []
    async with asyncio.timeout(10):
        while not dues or min(dues) > 51:
            dues += [wake_up.due_in_s for wake_up in await subscription.wait() if wake_up.due_in_s is not None]
    assert min(dues) > 45
    while wake_ups := await subscription.wait(0.5):  # and not a second time
        assert {wake_up.due_in_s for wake_up in wake_ups} == {None}


async def test_many_new_jobs_cost_few_looks_for_due_ones(postgres, subscription, monkeypatch):
    looks = []
    look = wakeups.PostgresWakeUps._look_for_due

    async def counted(self, connection):
        looks.append(self)
        await look(self, connection)

    monkeypatch.setattr(wakeups.PostgresWakeUps, "_look_for_due", counted)
    monkeypatch.setattr(wakeups, "_LOOK_EVERY_S", 60.0)
    for _ in range(20):
        await postgres.enqueue([new_job()])
        await subscription.wait(5)
    await postgres.enqueue([new_job(queue="last")])
    assert await next_queue(subscription) == "last"
    await eventually(lambda: len(looks) == 1)
