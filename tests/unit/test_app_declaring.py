from __future__ import annotations

import inspect
from typing import Any

import pytest

from soniqd import JobContext, Soniq
from soniqd.backends.memory import MemoryBackend
from soniqd.errors import ConfigurationError, InvalidArgumentsError


@pytest.fixture
def app():
    return Soniq(backend=MemoryBackend())


def test_a_declared_function_stays_what_it_was(app):
    async def send(order_id: int) -> str:
        """Send it."""
        return f"sent {order_id}"

    declared = app.job(send)
    assert declared is send
    assert inspect.iscoroutinefunction(declared)
    assert declared.__doc__ == "Send it."
    assert app.job(name="plain")(len_of)("abc") == 3


def name_of(app, function):
    task = app.tasks.of_callable(function)
    return task and task.name


def len_of(text):
    return len(text)


def test_the_decorator_works_with_and_without_parentheses(app):
    @app.job
    def bare(): ...

    @app.job()
    def empty(): ...

    @app.job(name="with.options", queue="mail")
    def full(): ...

    assert app.tasks.names() == (bare.task_name, empty.task_name, "with.options")
    assert app.tasks.get("with.options").queue == "mail"


def test_settings_are_the_defaults_of_a_task():
    app = Soniq(backend=MemoryBackend(), max_retries=9, priority=7)

    @app.job
    def send(): ...

    task = app.tasks.of_callable(send)
    assert task is not None
    assert (task.max_retries, task.priority) == (9, 7)


def test_the_pattern_for_names_is_a_setting():
    app = Soniq(backend=MemoryBackend(), task_name_pattern="[A-Z]+")
    app.job(name="SEND")(len_of)
    assert "SEND" in app.tasks


def test_the_same_name_twice_names_both_places(app):
    @app.job(name="a.b")
    def one(): ...

    with pytest.raises(ConfigurationError, match=r"the name is taken by .*test_app_declaring\.py:\d+") as caught:

        @app.job(name="a.b")
        def two(): ...

    assert str(caught.value).count(__file__) == 2


def test_two_applications_may_declare_the_same_function(app):
    other = Soniq(backend=MemoryBackend())

    def send(): ...

    first, second = app.job(name="first.send")(send), other.job(name="second.send")(send)
    assert (first.task_name, second.task_name) == ("first.send", "second.send")
    assert name_of(other, second) == "second.send"
    assert name_of(app, first) == "first.send"


def test_one_function_may_have_two_names(app):
    def send(): ...

    one = app.job(name="one.send")(send)
    two = app.job(name="two.send")(send)
    assert (one.task_name, two.task_name) == ("one.send", "two.send")
    assert (name_of(app, one), name_of(app, two)) == ("one.send", "two.send")


def test_attributes_of_the_function_itself_are_not_overwritten(app):
    def send(): ...

    send.options = {}  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="the function has its own options"):
        app.job(send)


async def test_a_bound_method_can_be_declared(app):
    class Mailer:
        async def send(self, order_id: int, ctx: JobContext) -> int:
            return order_id

    declared = app.job(name="mailer.send")(Mailer().send)
    assert await declared(7, None) == 7
    assert await declared.enqueue(order_id=7)


def test_unknown_options_are_refused(app):
    with pytest.raises(ConfigurationError, match="unknown option 'colour'"):
        app.job(colour="red")(len_of)


def test_hooks_and_middleware_are_registered_and_returned(app):
    def before(job_id): ...
    def after(result): ...
    def failed(error): ...
    async def around(context, call_next): ...

    assert app.before_job(before) is before
    assert app.after_job(after) is after
    assert app.on_error(failed) is failed
    assert app.middleware(around) is around
    assert [hook for hook, _ in (*app.hooks.before, *app.hooks.after, *app.hooks.error)] == [before, after, failed]
    assert app.hooks.middleware == [around]


def test_a_periodic_function_is_a_task_with_a_schedule(app):
    @app.periodic(
        every="5m", name="stats.refresh", args={"day": 1}, queue="slow", priority=3, retries=1, missed="latest"
    )
    def refresh(day): ...

    (spec,) = app.schedules
    assert refresh.task_name == "stats.refresh"
    assert (spec.name, spec.job_name, spec.type, spec.value) == ("stats.refresh", "stats.refresh", "interval", "300")
    assert (spec.args_json, spec.queue, spec.priority, spec.max_attempts) == ('{"day":1}', "slow", 3, 2)
    assert (spec.timezone, spec.missed) == ("UTC", "latest")


def test_a_task_can_get_schedules_of_several_names(app):
    @app.periodic(cron="0 9 * * *", timezone="Europe/Berlin", schedule_name="morning")
    @app.periodic(cron="0 17 * * *", schedule_name="evening")
    @app.job(name="report.send")
    def report(): ...

    assert {(spec.name, spec.value, spec.timezone) for spec in app.schedules} == {
        ("morning", "0 9 * * *", "Europe/Berlin"),
        ("evening", "0 17 * * *", "UTC"),
    }
    assert app.tasks.names() == ("report.send",)


def test_two_schedules_of_one_name_are_refused(app):
    @app.job(name="report.send")
    def report(): ...

    app.periodic(every=60)(report)
    with pytest.raises(ConfigurationError, match="has another schedule of this name; pass schedule_name="):
        app.periodic(every=61)(report)


@pytest.mark.parametrize("args", [{}, {"day": 1, "hour": 2}])
def test_a_schedule_whose_arguments_do_not_fit_is_refused_at_import(app, args: dict[str, Any]):
    with pytest.raises(ConfigurationError, match=r"cannot declare schedule 'a\.b': cannot run 'a\.b'"):

        @app.periodic(every=60, name="a.b", args=args)
        def refresh(day): ...


def test_a_schedule_with_arguments_that_are_no_json_is_refused_at_import(app):
    with pytest.raises(InvalidArgumentsError, match=r"args\['day'\]"):
        app.periodic(every=60, args={"day": object()})
