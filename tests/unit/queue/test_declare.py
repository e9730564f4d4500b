from __future__ import annotations

import asyncio
import functools
import sys
import types
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from soniqd.errors import ConfigurationError, InvalidTaskNameError
from soniqd.policy.retry import RetryRule
from soniqd.queue.context import JobContext
from soniqd.queue.declare import Defaults, declare, default_task_name

DEFAULTS = Defaults(max_retries=3, priority=100, task_name_pattern=r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
CONTEXT = JobContext(job_id="id", job_name="task", attempt=1, max_attempts=3, queue="default")


def plain(order_id): ...
async def coroutine(order_id): ...
def generator():
    yield 1


async def async_generator():
    yield 1


class Args(BaseModel):
    order_id: int
    note: str = "none"


def make(handler: Any = plain, **options: Any):
    return declare(handler, DEFAULTS, options)  # type: ignore[arg-type]


def test_a_task_is_named_for_its_module_and_qualname():
    assert make(plain).name == f"{__name__}.plain"


def test_nested_functions_keep_their_whole_qualname():
    def inner(): ...

    assert make(inner).name.endswith("test_nested_functions_keep_their_whole_qualname.<locals>.inner")


@pytest.mark.parametrize(
    ("main", "name"),
    [
        (types.SimpleNamespace(__spec__=types.SimpleNamespace(name="shop.jobs")), "shop.jobs.send"),
        (types.SimpleNamespace(__spec__=None, __file__="/srv/jobs.py"), "jobs.send"),
        (types.SimpleNamespace(__spec__=None, __file__="/srv/my-script.py"), "__main__.send"),
        (types.SimpleNamespace(__spec__=None), "__main__.send"),
    ],
)
def test_a_function_of_the_main_program_is_named_as_if_imported(monkeypatch, main, name):
    def send(): ...

    send.__module__, send.__qualname__ = "__main__", "send"
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert default_task_name(send) == name


def test_what_is_not_said_is_the_default():
    task = make(plain)
    assert (task.queue, task.priority, task.max_retries, task.unique) == ("default", 100, 3, False)
    assert (task.timeout_s, task.args_model, task.retry) == (None, None, RetryRule())
    assert task.defaulted == {"max_retries", "priority"}


def test_what_is_said_counts():
    task = make(plain, name="a.b", retries=0, queue="mail", priority=5, timeout="5m", unique=True, args_model=Args)
    assert (task.name, task.max_retries, task.queue, task.priority) == ("a.b", 0, "mail", 5)
    assert (task.timeout_s, task.unique, task.args_model) == (300.0, True, Args)
    assert task.defaulted == frozenset()


@pytest.mark.parametrize(("timeout", "seconds"), [(0, 0.0), (1.5, 1.5), (timedelta(minutes=1), 60.0), ("2m", 120.0)])
def test_a_timeout_may_be_any_duration_and_zero_disables_it(timeout, seconds):
    assert make(timeout=timeout).timeout_s == seconds


@pytest.mark.parametrize(
    ("delay", "stated"),
    [
        (5, 5.0),
        (timedelta(seconds=2), 2.0),
        ("1m", 60.0),
        ([1, "5s", timedelta(minutes=1)], (1.0, 5.0, 60.0)),
        (None, 0.0),
    ],
)
def test_a_retry_delay_may_be_a_duration_or_several(delay, stated):
    assert make(retry_delay=delay).retry.delay_s == stated


def test_the_retry_rule_takes_all_its_options():
    task = make(retry_delay=2, retry_backoff=True, retry_max_delay="1h", retry_jitter=False)
    assert task.retry == RetryRule(delay_s=2.0, backoff=True, max_delay_s=3600.0, jitter=False)


def test_other_names_of_options_mean_the_same():
    task = make(max_retries=7, validate=Args)
    assert (task.max_retries, task.args_model) == (7, Args)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"retries": -1}, "retries must be a whole number from 0, not -1"),
        ({"retries": True}, "retries must be a whole number"),
        ({"retries": 2**31 - 1}, "retries must be a whole number"),
        ({"retries": 1, "max_retries": 2}, "retries and max_retries say different things: 1 and 2"),
        ({"queue": 7}, "queue must be a str, not 7"),
        ({"queue": ""}, "queue must be text"),
        ({"queue": "a\x00"}, "queue must be text without NUL"),
        ({"queue": "a\ud800"}, "queue must be Unicode text"),
        ({"queue": "x" * 256}, "must not be longer than 255 bytes"),
        ({"priority": "high"}, "priority must be an int, not 'high'"),
        ({"priority": 2**31}, "priority must fit 32 bits"),
        ({"unique": 1}, "unique must be True or False, not 1"),
        ({"timeout": -1}, "timeout: expected a duration"),
        ({"timeout": "soon"}, "timeout: expected a duration"),
        ({"retry_delay": "x"}, "retry_delay: expected a duration"),
        ({"retry_delay": []}, "retry_delay is an empty sequence"),
        ({"retry_delay": [1, -1]}, "retry_delay: expected a duration"),
        ({"retry_delay": "9999d"}, "retry_delay must be at most 365 days"),
        ({"retry_max_delay": float("nan")}, "retry_max_delay: expected a duration"),
        ({"retry_backoff": "yes"}, "retry_backoff must be True or False"),
        ({"retry_jitter": None}, "retry_jitter must be True or False"),
        ({"args_model": dict}, "args_model must be a pydantic model class"),
        ({"args_model": Args(order_id=1)}, "args_model must be a pydantic model class"),
        ({"retry": 3}, "unknown option 'retry', did you mean 'retries'?"),
    ],
)
def test_wrong_values_are_refused_when_the_task_is_declared(options, reason):
    with pytest.raises(ConfigurationError) as caught:
        make(plain, name="a.b", **options)
    assert str(caught.value).startswith("cannot declare 'a.b' at ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["", "Send", "a b", "a.", ".a", 7, "a" * 256])
def test_explicit_names_must_match_the_pattern(name):
    with pytest.raises(InvalidTaskNameError, match="as a task name"):
        make(plain, name=name)


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (generator, "a generator function does not run to an end"),
        (async_generator, "a generator function does not run to an end"),
        (Args, "it is a class"),
        (staticmethod(plain), "put @staticmethod outside"),
        (classmethod(plain), "put @classmethod outside"),
        (42, "it is not a function"),
    ],
)
def test_what_cannot_be_a_handler_is_refused(handler, reason):
    with pytest.raises(ConfigurationError, match=reason):
        make(handler, name="a.b")


def test_a_method_without_its_object_is_refused():
    class Mailer:
        def send(self, order_id): ...

    with pytest.raises(ConfigurationError, match="a method needs its object"):
        make(Mailer.send)
    assert make(Mailer().send, name="mailer.send").signature.accepted == {"order_id"}


@pytest.mark.parametrize("handler", [lambda order_id: None, functools.partial(plain)])
def test_a_handler_without_a_name_of_its_own_needs_one(handler):
    with pytest.raises(ConfigurationError, match="pass name="):
        make(handler)
    assert make(handler, name="a.b").name == "a.b"


def test_async_handlers_are_told_from_plain_ones():
    class WithAsyncCall:
        async def __call__(self): ...

    class WithCall:
        def __call__(self): ...

    assert not make(plain).is_async
    assert make(coroutine).is_async
    assert make(functools.partial(coroutine), name="a.b").is_async
    assert make(WithAsyncCall(), name="a.b").is_async
    assert not make(WithCall(), name="a.b").is_async


def test_a_plain_wrapper_around_a_coroutine_function_is_async():
    @functools.wraps(coroutine)
    def wrapper(*args, **kwargs):
        return coroutine(*args, **kwargs)

    task = make(wrapper)
    assert task.is_async
    assert task.signature is not None
    assert task.signature.accepted == {"order_id"}


def test_a_plain_wrapper_that_runs_a_coroutine_to_its_end_works_all_the_same():
    async def answer():
        return 42

    @functools.wraps(answer)
    def wrapper():
        return 42

    task = make(wrapper)
    assert asyncio.run(task.handler()) == 42


def test_a_model_converts_and_completes_what_the_handler_gets():
    task = make(lambda order_id, note: None, name="a.b", args_model=Args)
    assert task.call_arguments({"order_id": "7"}, CONTEXT) == {"order_id": 7, "note": "none"}


def test_the_context_is_handed_in_beside_the_arguments():
    def handler(order_id, ctx: JobContext): ...

    args = {"order_id": 7}
    assert make(handler).call_arguments(args, CONTEXT) == {"order_id": 7, "ctx": CONTEXT}
    assert args == {"order_id": 7}
