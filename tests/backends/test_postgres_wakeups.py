import asyncio
import logging

import psycopg
import pytest

from soniqd.backends import WakeUp
from soniqd.backends.postgres import PostgresBackend, wakeups
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
    monkeypatch.setattr(wakeups, "_PROOF_TIMEOUT_S", 0.2)
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
