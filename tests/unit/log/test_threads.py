from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from soniqd.log.context import begin_job, current_job_id, end_job
from soniqd.log.threads import carry_jobs_into_threads


@pytest.fixture(autouse=True)
def carrying(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", ThreadPoolExecutor.submit)
    carry_jobs_into_threads()
    yield
    for job_id in ("a", "b"):
        end_job(job_id)


def in_job(job_id: str, call: Any) -> Any:
    def run() -> Any:
        begin_job(job_id)
        return call()

    return contextvars.Context().run(run)


def seen_in_thread() -> str | None:
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(current_job_id()))
    thread.start()
    thread.join()
    return seen[0]


def test_a_thread_belongs_to_the_job_that_started_it() -> None:
    assert in_job("a", seen_in_thread) == "a"
    assert seen_in_thread() is None


def test_so_does_a_thread_that_a_thread_starts() -> None:
    seen: list[str | None] = []

    def start_another() -> None:
        seen.append(seen_in_thread())

    def start() -> None:
        thread = threading.Thread(target=start_another)
        thread.start()
        thread.join()

    in_job("a", start)
    assert seen == ["a"]


def test_a_subclass_and_a_timer_work_as_ever() -> None:
    seen: list[str | None] = []

    class Mine(threading.Thread):
        def run(self) -> None:
            seen.append(current_job_id())

    def start() -> None:
        for thread in (Mine(), threading.Timer(0, lambda: seen.append(current_job_id()))):
            thread.start()
            thread.join()

    in_job("a", start)
    assert seen == ["a", "a"]


def test_a_thread_that_outlives_its_job_is_nobodys() -> None:
    ended = threading.Event()
    seen: list[str | None] = []

    def look() -> None:
        ended.wait(10)
        seen.append(current_job_id())

    thread = threading.Thread(target=look)
    in_job("a", thread.start)
    end_job("a")
    ended.set()
    thread.join()
    assert seen == [None]


def test_a_pool_knows_each_call_by_who_gave_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert in_job("a", lambda: pool.submit(current_job_id).result()) == "a"
        assert in_job("b", lambda: pool.submit(current_job_id).result()) == "b"
        assert pool.submit(current_job_id).result() is None
        assert in_job("b", lambda: list(pool.map(lambda _: current_job_id(), range(2)))) == ["b", "b"]


def test_a_call_keeps_its_arguments_its_result_and_its_error() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert in_job("a", lambda: pool.submit(dict, [("x", 1)], fn=2).result()) == {"x": 1, "fn": 2}
        with pytest.raises(ValueError, match="invalid literal"):
            in_job("a", lambda: pool.submit(int, "x").result())


async def test_run_in_executor_knows_its_job() -> None:
    async def job(job_id: str) -> str | None:
        begin_job(job_id)
        return await asyncio.get_running_loop().run_in_executor(None, current_job_id)

    seen = await asyncio.gather(asyncio.create_task(job("a")), asyncio.create_task(job("b")))
    assert list(seen) == ["a", "b"]


def test_an_ended_thread_is_freed_at_once() -> None:
    def start() -> weakref.ref[threading.Thread]:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        return weakref.ref(thread)

    gc.disable()
    try:
        assert in_job("a", start)() is None
    finally:
        gc.enable()
