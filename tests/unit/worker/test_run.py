"""How a run can end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from soniqd.log.context import job_id_var
from soniqd.policy.retry import RetryRule
from soniqd.queue.context import JobContext, Snooze
from tests.unit.worker.rig import Rig


async def test_an_async_handler_gets_its_arguments_and_its_result_is_kept(rig: Rig):
    async def add(a, b=1):
        return {"sum": a + b}

    rig.task(add)
    job_id = await rig.enqueue("add", {"a": 2, "b": 3})
    await rig.run_once()
    job = await rig.job(job_id)
    assert (job["status"], job["result"], job["attempts"]) == ("done", {"sum": 5}, 1)


async def test_a_sync_handler_runs_in_a_thread_of_the_worker(rig: Rig):
    def where():
        return threading.current_thread().name

    rig.task(where)
    job_id = await rig.enqueue("where")
    await rig.run_once()
    assert (await rig.job(job_id))["result"].startswith("soniqd-handler-")


async def test_a_handler_can_ask_for_its_context(rig: Rig):
    async def tell(context: JobContext):
        return [context.job_id, context.attempt, context.max_attempts, context.queue]

    rig.task(tell)
    job_id = await rig.enqueue("tell", queue="q", max_attempts=3)
    await rig.run_once()
    assert (await rig.job(job_id))["result"] == [job_id, 1, 3, "q"]


@pytest.mark.parametrize("sync", [True, False])
async def test_log_lines_of_a_handler_can_be_told_apart_by_job(rig: Rig, sync: bool):
    async def on_loop():
        return job_id_var.get()

    def in_thread():
        return job_id_var.get()

    rig.task(in_thread if sync else on_loop, name="tell")
    ids = [await rig.enqueue("tell") for _ in range(3)]
    await rig.run_once()
    assert [(await rig.job(job_id))["result"] for job_id in ids] == ids
    assert job_id_var.get() is None


async def test_a_context_variable_set_by_a_handler_does_not_reach_the_next_job(rig: Rig):
    from contextvars import ContextVar

    variable: ContextVar[int] = ContextVar("variable", default=0)

    async def count():
        variable.set(variable.get() + 1)
        return variable.get()

    rig.task(count)
    ids = [await rig.enqueue("count") for _ in range(3)]
    await rig.run_once(concurrency=1)
    assert [(await rig.job(job_id))["result"] for job_id in ids] == [1, 1, 1]


async def test_nor_one_that_was_set_after_a_wait_when_the_next_job_takes_the_slot(rig: Rig):
    from contextvars import ContextVar

    variable: ContextVar[int] = ContextVar("variable", default=0)
    seen = []

    async def count():
        await asyncio.sleep(0)
        seen.append(variable.get())
        variable.set(1)

    rig.task(count)
    for _ in range(300):
        await rig.enqueue("count")
    await rig.run_once(concurrency=1)
    assert seen == [0] * 300


async def test_a_failed_attempt_is_retried_until_none_is_left(rig: Rig):
    attempts = []

    async def fail(context: JobContext):
        attempts.append(context.attempt)
        raise ValueError("broken")

    rig.task(fail)
    job_id = await rig.enqueue("fail", max_attempts=3)
    await rig.run_once()
    assert attempts == [1, 2, 3]
    letter = await rig.dead_letter(job_id)
    assert letter["dead_letter_reason"] == "max_retries_exceeded"
    assert letter["last_error"].startswith("ValueError: broken")
    assert "in fail" in letter["last_error"]


async def test_a_retry_comes_after_its_delay_without_a_poll(rig: Rig):
    """Defect 8: nobody announces a retry to its own worker, which polls every 30 s here."""
    started: list[float] = []

    async def once_more():
        started.append(time.monotonic())
        if len(started) == 1:
            raise ValueError

    rig.task(once_more, retry=RetryRule(delay_s=0.2))
    job_id = await rig.enqueue("once_more")
    async with rig.running():
        await rig.until(job_id, "done")
    assert 0.2 <= started[1] - started[0] < 1.0


async def test_wrong_arguments_are_a_dead_letter_at_once(rig: Rig):
    async def pay(amount):
        raise AssertionError

    rig.task(pay)
    job_id = await rig.enqueue("pay", {"amuont": 1}, max_attempts=5)
    await rig.run_once()
    letter = await rig.dead_letter(job_id)
    assert letter["dead_letter_reason"] == "invalid_arguments"
    assert "did you mean 'amount'" in letter["last_error"]


async def test_arguments_that_are_no_object_are_a_dead_letter_at_once(rig: Rig):
    async def noop():
        pass

    rig.task(noop)
    from soniqd.model import NewJob
    from soniqd.queue.ids import new_job_id

    [job_id] = await rig.memory.enqueue([NewJob(id=new_job_id(), name="noop", args_json="[1]")])
    await rig.run_once()
    assert (await rig.dead_letter(job_id))["dead_letter_reason"] == "invalid_arguments"


async def test_an_invalid_arguments_error_raised_by_the_handler_is_an_ordinary_failure(rig: Rig):
    from soniqd.errors import InvalidArgumentsError

    async def enqueue_badly():
        raise InvalidArgumentsError("cannot encode args: of another job")

    rig.task(enqueue_badly)
    job_id = await rig.enqueue("enqueue_badly", max_attempts=2)
    await rig.run_once()
    assert (await rig.dead_letter(job_id))["dead_letter_reason"] == "max_retries_exceeded"


@pytest.mark.parametrize(
    "result",
    [float("nan"), object(), {1: 2}, "nul \x00", "\ud800", {"deep": [b"bytes"]}, "x" * (17 * 1024 * 1024)],
    ids=["nan", "object", "key", "nul", "surrogate", "bytes", "17 MB"],
)
async def test_a_result_that_cannot_be_stored_is_dropped_and_the_work_is_not_done_twice(rig: Rig, result, caplog):
    runs = []

    async def work():
        runs.append(1)
        return result

    rig.task(work)
    job_id = await rig.enqueue("work", max_attempts=5)
    with caplog.at_level(logging.WARNING, "soniqd"):
        await rig.run_once()
    job = await rig.job(job_id)
    assert (job["status"], job["result"], len(runs)) == ("done", None, 1)
    assert "job_result_dropped" in {getattr(entry, "event", "") for entry in caplog.records}


async def test_snoozing_uses_no_attempt(rig: Rig):
    runs = []

    async def not_yet():
        runs.append(1)
        return Snooze(0.0, "later") if len(runs) < 3 else "now"

    rig.task(not_yet)
    job_id = await rig.enqueue("not_yet", max_attempts=1)
    await rig.run_once()
    job = await rig.job(job_id)
    assert (job["status"], job["result"], job["attempts"], len(runs)) == ("done", "now", 1, 3)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("sync", [True, False])
async def test_whatever_a_handler_raises_fails_its_attempt_and_nothing_else(rig: Rig, error, sync):
    async def on_loop():
        raise error

    def in_thread():
        raise error

    rig.task(in_thread if sync else on_loop, name="leave")

    async def fine():
        return 1

    rig.task(fine)
    bad = await rig.enqueue("leave", max_attempts=1)
    good = await rig.enqueue("fine")
    await rig.run_once()
    assert type(error).__name__ in (await rig.dead_letter(bad))["last_error"]
    assert (await rig.job(good))["status"] == "done"


async def test_a_sync_handler_may_raise_stop_iteration(rig: Rig):
    def step():
        raise StopIteration

    rig.task(step)
    job_id = await rig.enqueue("step", max_attempts=1)
    await rig.run_once()
    assert "StopIteration" in (await rig.dead_letter(job_id))["last_error"]


async def test_a_handler_that_cancels_itself_fails_its_attempt(rig: Rig):
    async def cancel_me():
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)

    rig.task(cancel_me)
    job_id = await rig.enqueue("cancel_me", max_attempts=1)
    await rig.run_once()
    assert "CancelledError" in (await rig.dead_letter(job_id))["last_error"]


async def test_an_error_text_is_bounded_storable_and_without_passwords(rig: Rig):
    async def leak():
        raise ValueError("nul \x00 half \ud800 postgresql://me:s3cret@db/x " + "y" * 100_000)

    rig.task(leak)
    job_id = await rig.enqueue("leak", max_attempts=1)
    await rig.run_once()
    text = (await rig.dead_letter(job_id))["last_error"]
    assert len(text) <= 8_000
    assert "\x00" not in text
    assert "s3cret" not in text
    text.encode()


async def test_an_error_whose_message_cannot_be_read_is_still_an_error(rig: Rig):
    class BrokenError(Exception):
        def __str__(self):
            raise RuntimeError("no")

    async def fail():
        raise BrokenError

    rig.task(fail)
    job_id = await rig.enqueue("fail", max_attempts=1)
    await rig.run_once()
    assert "BrokenError" in (await rig.dead_letter(job_id))["last_error"]


async def test_a_cause_is_part_of_the_error_text(rig: Rig):
    async def fail():
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    rig.task(fail)
    job_id = await rig.enqueue("fail", max_attempts=1)
    await rig.run_once()
    text = (await rig.dead_letter(job_id))["last_error"]
    assert text.index("ValueError: outer") < text.index("caused by KeyError: 'inner'")


async def test_a_retry_policy_may_give_up_early(rig: Rig):
    class Never:
        def delay_s(self, *, task, attempt, error):
            return None

    async def fail():
        raise ValueError

    rig.extra["retry_policy"] = Never()
    rig.task(fail)
    job_id = await rig.enqueue("fail", max_attempts=9)
    await rig.run_once()
    letter = await rig.dead_letter(job_id)
    assert (letter["dead_letter_reason"], letter["attempts"]) == ("permanent_failure", 1)


async def test_a_retry_policy_that_fails_falls_back_on_the_tasks_rule(rig: Rig):
    class Broken:
        def delay_s(self, *, task, attempt, error):
            raise RuntimeError("policy")

    runs = []

    async def fail():
        runs.append(1)
        raise ValueError

    rig.extra["retry_policy"] = Broken()
    rig.task(fail)
    job_id = await rig.enqueue("fail", max_attempts=2)
    await rig.run_once()
    assert (await rig.dead_letter(job_id))["dead_letter_reason"] == "max_retries_exceeded"
    assert len(runs) == 2
