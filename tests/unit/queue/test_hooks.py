from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import pytest

from soniqd.errors import ConfigurationError
from soniqd.queue.context import JobContext
from soniqd.queue.hooks import Hooks

ARGS = {"a": 1}
CONTEXT = JobContext(job_id="id", job_name="task", attempt=1, max_attempts=3, queue="default")


async def ended(left: Awaitable[None] | None) -> None:
    if left is not None:
        await left


async def test_hooks_get_what_the_parameters_name():
    seen: list[Any] = []
    hooks = Hooks()
    hooks.add_before(lambda job_name, job_id, args: seen.append((job_name, job_id, args)))
    hooks.add_after(lambda result, job_id: seen.append((job_id, result)))
    hooks.add_error(lambda error: seen.append(str(error)))
    hooks.add_before(lambda: seen.append("nothing"))

    await ended(hooks.run_before("task", "id", {"a": 1}))
    await ended(hooks.run_after("task", "id", 42))
    await ended(hooks.run_error("task", "id", RuntimeError("broken")))

    assert seen == [("task", "id", {"a": 1}), "nothing", ("id", 42), "broken"]


async def test_hooks_may_be_coroutine_functions():
    seen: list[Any] = []
    hooks = Hooks()

    async def hook(job_name):
        seen.append(job_name)

    hooks.add_before(hook)
    await ended(hooks.run_before("task", "id", {}))
    assert seen == ["task"]


async def test_hooks_with_open_parameters_get_everything():
    seen: list[Any] = []
    hooks = Hooks()
    hooks.add_before(lambda *values: seen.append(values))
    hooks.add_before(lambda **values: seen.append(values))
    await ended(hooks.run_before("task", "id", {"a": 1}))
    assert seen == [("task", "id", {"a": 1}), {"job_name": "task", "job_id": "id", "args": {"a": 1}}]


async def test_parameters_with_defaults_of_their_own_are_left_alone():
    seen: list[Any] = []
    hooks = Hooks()
    hooks.add_after(lambda result, level="info": seen.append((result, level)))
    await ended(hooks.run_after("task", "id", 1))
    assert seen == [(1, "info")]


def test_a_parameter_that_the_event_does_not_have_is_refused_at_once():
    with pytest.raises(ConfigurationError, match="parameter 'result' is none of job_name, job_id, args"):
        Hooks().add_before(lambda job_name, result: None)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(ConfigurationError, match="not callable"):
        Hooks().add_error("print")  # type: ignore[arg-type]


async def test_a_raising_hook_is_logged_and_the_next_one_runs(caplog):
    seen: list[Any] = []
    hooks = Hooks()

    def broken(job_id):
        raise RuntimeError("no disk")

    hooks.add_after(broken)
    hooks.add_after(lambda result: seen.append(result + 1))
    with caplog.at_level(logging.WARNING, "soniqd"):
        await ended(hooks.run_after("task", "id", 1))
    assert seen == [2]
    (record,) = caplog.records
    assert record.event == "hook_failed"
    assert "no disk" in record.getMessage()


async def test_middleware_wraps_the_handler_first_one_outermost():
    order: list[str] = []
    hooks = Hooks()

    def middleware(name):
        async def around(context, call_next):
            order.append(f"{name} in")
            result = await call_next(context)
            order.append(f"{name} out")
            return result + 1

        return around

    hooks.add_middleware(middleware("outer"))
    hooks.add_middleware(middleware("inner"))

    async def handler(context):
        order.append(context.job_name)
        return 40

    assert await hooks.wrap(handler)(CONTEXT) == 42
    assert order == ["outer in", "inner in", "task", "inner out", "outer out"]


async def test_without_middleware_the_handler_is_called_as_it_is():
    async def handler(context): ...

    assert Hooks().wrap(handler) is handler


async def test_middleware_may_be_an_object():
    class Around:
        async def __call__(self, context, call_next):
            return [await call_next(context)]

    hooks = Hooks()
    hooks.add_middleware(Around())

    async def handler(context):
        return 1

    assert await hooks.wrap(handler)(CONTEXT) == [1]


@pytest.mark.parametrize("middleware", [lambda context, call_next: None, print, 7])
def test_middleware_that_is_not_async_is_refused(middleware):
    with pytest.raises(ConfigurationError, match="not an async function"):
        Hooks().add_middleware(middleware)


@pytest.mark.parametrize(
    "hook",
    [
        "lambda job_name, job_id, args: heard(job_name, job_id, args)",
        "lambda job_name, job_id: heard(job_name, job_id, ARGS)",
        "lambda args, job_id, job_name: heard(job_name, job_id, args)",
        "lambda args, job_name='other': heard(job_name, 'id', args)",
        "lambda *, job_id, args: heard('task', job_id, args)",
        "lambda job_name, *, args: heard(job_name, 'id', args)",
        "lambda mine=1, args=None: heard('task', 'id', args)",
        "lambda args: heard('task', 'id', args)",
        "lambda: heard('task', 'id', ARGS)",
        "lambda *values: heard(*values)",
        "lambda **values: heard(**values)",
    ],
)
async def test_each_form_of_hook_gets_what_it_asks_for(hook: str):
    calls = []

    def heard(job_name, job_id, args):
        calls.append((job_name, job_id, args))

    hooks = Hooks()
    hooks.add_before(eval(hook, {"heard": heard, "ARGS": ARGS}))
    await ended(hooks.run_before("task", "id", ARGS))
    assert calls == [("task", "id", ARGS)]


async def test_hooks_run_in_order_whether_they_wait_or_not():
    calls = []

    async def waits(job_name: str):
        await asyncio.sleep(0)
        calls.append(f"waits {job_name}")

    async def fails():
        raise RuntimeError("broken")

    hooks = Hooks()
    for hook in (lambda: calls.append("first"), waits, fails, lambda: calls.append("last")):
        hooks.add_before(hook)
    await ended(hooks.run_before("task", "id", {}))
    assert calls == ["first", "waits task", "last"]
