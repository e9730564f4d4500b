from __future__ import annotations

import gc
import logging
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from soniqd import JobContext, Soniq, task_ref
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import (
    ClosedError,
    InvalidArgumentsError,
    InvalidTaskNameError,
    UnknownTaskError,
    UnsupportedByBackendError,
)


class Recording(MemoryBackend):
    """Remembers the size of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    async def enqueue(self, jobs, *, connection=None):
        self.calls.append(len(jobs))
        return await super().enqueue(jobs, connection=connection)


class Invoice(BaseModel):
    invoice_id: int
    due: datetime | None = None


@pytest.fixture
def backend():
    return Recording()


@pytest.fixture
def app(backend):
    app = Soniq(backend=backend, producer_id="tests")

    @app.job(name="orders.send", queue="mail", priority=7, retries=4)
    async def send(order_id: int, ctx: JobContext, note: str = ""): ...

    @app.job(name="orders.sync", unique=True)
    def sync(shop: str): ...

    @app.job(name="invoices.send", args_model=Invoice)
    async def invoice(invoice_id, due): ...

    app.send, app.sync, app.invoice = send, sync, invoice  # type: ignore[attr-defined]
    return app


async def stored(app: Any, job_id: str) -> Any:
    job = await app.get_job(job_id)
    assert job is not None
    return job


async def test_a_job_gets_what_its_task_says(app):
    job = await stored(app, await app.enqueue(app.send, order_id=7))
    assert (job["job_name"], job["args"], job["status"]) == ("orders.send", {"order_id": 7}, "queued")
    assert (job["queue"], job["priority"], job["max_attempts"]) == ("mail", 7, 5)
    assert (job["unique_job"], job["dedup_key"], job["producer_id"]) == (False, None, "tests")


async def test_a_call_may_say_otherwise(app):
    job_id = await app.enqueue(app.send, order_id=7, queue="slow", priority=-1, unique=True, dedup_key="7")
    job = await stored(app, job_id)
    assert (job["queue"], job["priority"], job["unique_job"], job["dedup_key"]) == ("slow", -1, True, "7")


@pytest.mark.parametrize("form", ["function", "name", "reference"])
async def test_a_target_may_be_a_function_a_name_or_a_reference(app, form):
    target = {"function": app.send, "name": "orders.send", "reference": task_ref("orders.send")}[form]
    job = await stored(app, await app.enqueue(target, order_id=7))
    assert (job["job_name"], job["queue"]) == ("orders.send", "mail")


async def test_the_function_enqueues_itself_with_all_keywords_as_arguments(app):
    @app.job(name="queues.drain")
    def drain(queue, priority): ...

    job = await stored(app, await drain.enqueue(queue="mail", priority=1))
    assert (job["args"], job["queue"]) == ({"queue": "mail", "priority": 1}, "default")


async def test_options_of_a_function_can_be_set_and_reused(app):
    later = app.send.options(queue="slow", scheduled_at=60)
    one, two = await stored(app, await later.enqueue(order_id=1)), await stored(app, await later.enqueue(order_id=2))
    assert (one["queue"], two["queue"], one["scheduled_at"] is not None) == ("slow", "slow", True)
    with pytest.raises(TypeError, match="options\\(\\) has no colour"):
        app.send.options(colour="red")


async def test_arguments_named_like_options_travel_in_args(app):
    @app.job(name="queues.drain")
    def drain(queue): ...

    job = await stored(app, await app.enqueue(drain, args={"queue": "mail"}, queue="admin"))
    assert (job["args"], job["queue"]) == ({"queue": "mail"}, "admin")
    with pytest.raises(InvalidArgumentsError, match=r"pass it as args=\{'queue': \.\.\.\}"):
        await app.enqueue(drain, queue="mail")


async def test_arguments_come_in_one_way_only(app):
    with pytest.raises(InvalidArgumentsError, match="both in args= and as keywords"):
        await app.enqueue(app.send, args={"order_id": 1}, note="x")
    with pytest.raises(InvalidArgumentsError, match="must be a dict or a pydantic model, not \\[1\\]"):
        await app.enqueue(app.send, args=[1])


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({}, "argument 'order_id' is missing"),
        ({"order_id": 1, "nota": "x"}, "unknown argument 'nota', did you mean 'note'?"),
        ({"order_id": float("nan")}, r"cannot encode args\['order_id'\]: nan"),
        ({"order_id": 1, "ctx": 1}, "'ctx' is the JobContext"),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_stored(app, backend, args, problem):
    with pytest.raises(InvalidArgumentsError, match=problem):
        await app.enqueue(app.send, args=args)
    assert backend.calls == []


async def test_a_model_checks_arguments_and_can_be_one(app):
    with pytest.raises(InvalidArgumentsError, match="invoice_id: Input should be a valid integer"):
        await app.enqueue(app.invoice, invoice_id="x")
    due = datetime(2026, 1, 2, tzinfo=UTC)
    job = await stored(app, await app.enqueue(app.invoice, args=Invoice(invoice_id=1, due=due)))
    assert job["args"] == {"invoice_id": 1, "due": "2026-01-02T00:00:00Z"}


async def test_a_reference_needs_no_task_here(app):
    reference = task_ref("billing.send", Invoice, default_queue="billing")
    job = await stored(app, await app.enqueue(reference, invoice_id=1))
    assert (job["job_name"], job["queue"], job["max_attempts"]) == ("billing.send", "billing", 4)
    assert (await stored(app, await app.enqueue(reference, invoice_id=1, queue="slow")))["queue"] == "slow"
    with pytest.raises(InvalidArgumentsError, match="invoice_id: Field required"):
        await app.enqueue(reference)


async def test_unknown_names_are_refused_with_the_nearest_one(app):
    with pytest.raises(UnknownTaskError, match=r"'orders.sent': .*did you mean 'orders.send'\?"):
        await app.enqueue("orders.sent", order_id=1)


async def test_functions_that_nobody_declared_are_refused(app):
    def stray(): ...

    with pytest.raises(UnknownTaskError, match="stray"):
        await app.enqueue(stray)


async def test_functions_of_another_application_are_known_by_their_name():
    app, other = Soniq(backend="memory", enqueue_validation="none"), Soniq(backend="memory")

    @other.job(name="other.task")
    def task(): ...

    assert (await stored(app, await app.enqueue(task)))["job_name"] == "other.task"


async def test_unknown_names_can_be_let_through_with_a_warning(caplog):
    app = Soniq(backend="memory", enqueue_validation="warn")
    with caplog.at_level(logging.WARNING, "soniqd"):
        for _ in range(3):
            await app.enqueue("elsewhere.task", anything=1)
    assert [record.event for record in caplog.records] == ["unregistered_task"]


async def test_names_that_no_task_may_have_are_refused_even_then():
    app = Soniq(backend="memory", enqueue_validation="none")
    with pytest.raises(InvalidTaskNameError):
        await app.enqueue("No Such Name")


@pytest.mark.parametrize("target", [None, 7, ["orders.send"]])
async def test_what_is_no_target_is_refused(app, target):
    with pytest.raises(InvalidArgumentsError, match="expected a function declared with @app"):
        await app.enqueue(target)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"queue": 7}, "queue must be a str, not 7"),
        ({"queue": ""}, "queue must be text"),
        ({"priority": 1.5}, "priority must be an int, not 1.5"),
        ({"unique": "yes"}, "unique must be True or False"),
        ({"dedup_key": ""}, "dedup_key must be text"),
        ({"dedup_key": "x" * 1025}, "must not be longer than 1024 bytes"),
        ({"scheduled_at": datetime(2026, 1, 1)}, "has no timezone"),  # noqa: DTZ001
        ({"scheduled_at": "tomorrow"}, "scheduled_at must be an aware datetime"),
        ({"scheduled_at": True}, "scheduled_at must be an aware datetime"),
        ({"scheduled_at": float("nan")}, "at most 100 years away"),
        ({"scheduled_at": float("inf")}, "at most 100 years away"),
        ({"scheduled_at": timedelta(days=40_000)}, "at most 100 years away"),
    ],
)
async def test_wrong_options_are_refused(app, options, problem):
    with pytest.raises(InvalidArgumentsError, match=f"cannot enqueue: .*{problem}"):
        await app.enqueue(app.send, order_id=1, **options)


@pytest.mark.parametrize("form", ["seconds", "timedelta", "datetime"])
async def test_a_job_for_later_is_given_as_a_delay_or_an_instant(app, form):
    at = datetime.now(UTC) + timedelta(seconds=3600)
    value: Any = {"seconds": 3600, "timedelta": timedelta(hours=1), "datetime": at}[form]
    for job_id in (
        await app.enqueue(app.send, order_id=1, scheduled_at=value),
        await app.schedule(app.send, value, order_id=1),
        await app.schedule(app.send, value, args={"order_id": 1}),
    ):
        due = datetime.fromisoformat((await stored(app, job_id))["scheduled_at"])
        assert abs(due - at) < timedelta(seconds=60)


@pytest.mark.parametrize("value", [0, -5, timedelta(0), timedelta(seconds=-1)])
async def test_a_delay_that_is_over_is_no_delay(app, value):
    assert (await stored(app, await app.enqueue(app.send, order_id=1, scheduled_at=value)))["scheduled_at"] is None


async def test_scheduling_for_no_time_is_refused(app):
    with pytest.raises(InvalidArgumentsError, match="run_at is None"):
        await app.schedule(app.send, None, order_id=1)


async def test_a_unique_job_is_stored_once_while_it_is_queued(app):
    first = await app.enqueue(app.sync, shop="a")
    assert await app.enqueue(app.sync, shop="a") == first
    assert await app.enqueue(app.sync, shop="b") != first
    assert await app.enqueue(app.sync, shop="a", unique=False) != first


async def test_a_dedup_key_is_stored_once_while_it_is_queued(app):
    first = await app.enqueue(app.send, order_id=1, dedup_key="k")
    assert await app.enqueue(app.send, order_id=2, dedup_key="k") == first


async def test_forgetting_to_await_does_nothing_but_warn(app, backend):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app.enqueue(app.send, order_id=1)
        app.send.enqueue(order_id=1)
        app.send.options(queue="x").enqueue(order_id=1)
        gc.collect()
    assert [str(warning.message) for warning in caught] == ["coroutine 'Enqueueing.enqueue' was never awaited"] * 3
    assert backend.calls == []


async def test_after_closing_nothing_is_enqueued(app):
    await app.close()
    with pytest.raises(ClosedError):
        await app.enqueue(app.send, order_id=1)


async def test_a_backend_without_transactions_says_so(app):
    with pytest.raises(UnsupportedByBackendError, match="the memory backend has no such thing"):
        await app.enqueue(app.send, order_id=1, connection=object())
