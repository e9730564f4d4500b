"""The decorators of an application: tasks, recurring jobs, hooks and middleware."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

from soniqd.app.enqueueing import Enqueueing
from soniqd.app.job_function import JobFunction, attach, carrier
from soniqd.errors import ConfigurationError, InvalidArgumentsError
from soniqd.model import ScheduleSpec
from soniqd.model.schedule import MissedPolicy
from soniqd.queue.declare import Defaults, JobOptions, declare
from soniqd.queue.hooks import Middleware
from soniqd.queue.new_jobs import Options
from soniqd.queue.periodic import DeclaredSchedule
from soniqd.queue.values import Seconds

P = ParamSpec("P")
R = TypeVar("R")
Hook = TypeVar("Hook", bound=Callable[..., Any])
AnyMiddleware = TypeVar("AnyMiddleware", bound=Middleware)


class Declaring(Enqueueing):
    """Decorators, for import time. What is wrong with a declaration is a ConfigurationError there and then."""

    @overload
    def job(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...

    @overload
    def job(self, /, **options: Unpack[JobOptions]) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...

    def job(self, function: Callable[P, R] | None = None, /, **options: Unpack[JobOptions]) -> Any:
        """Declare a function as a task, with or without options.

        The function stays what it was and gains ``task_name``, ``enqueue(**arguments)`` and ``options(...)``.
        """
        if function is None:
            return lambda function: self._declare(function, options)
        return self._declare(function, options)

    def periodic(
        self,
        *,
        cron: str | None = None,
        every: Seconds | None = None,
        args: Mapping[str, Any] | None = None,
        timezone: str = "UTC",
        missed: MissedPolicy = "all",
        schedule_name: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Callable[[Callable[P, R]], JobFunction[P, R]]:
        """Declare a function as a task that is enqueued at every tick of a cron expression or interval.

        ``options`` are those of ``job``; a function that is a task already gets only the schedule. The schedule is
        named like the task unless it has a name of its own. ``missed`` says what becomes of ticks that no scheduler
        was there to fire. A scheduler process has to run: the daemon has one, ``run_worker`` has not.
        """
        schedule = DeclaredSchedule.checked(
            schedule_name, cron=cron, every=every, args=args, timezone=timezone, missed=missed
        )

        def decorate(function: Callable[P, R]) -> JobFunction[P, R]:
            task = self.tasks.of_callable(function)
            declared: Any = function if task is not None and not options else self._declare(function, options)
            self._add_schedule(declared.task_name, schedule)
            return cast("JobFunction[P, R]", declared)

        return decorate

    @property
    def schedules(self) -> tuple[ScheduleSpec, ...]:
        """What ``periodic`` declared."""
        return tuple(
            schedule.spec(self._maker.recipe(job_name, Options())) for job_name, schedule in self._schedules.values()
        )

    def before_job(self, hook: Hook) -> Hook:
        """Call a function before each run; it may take ``job_name``, ``job_id`` and ``args``."""
        self.hooks.add_before(hook)
        return hook

    def after_job(self, hook: Hook) -> Hook:
        """Call a function when a handler returned; it may take ``job_name``, ``job_id`` and ``result``."""
        self.hooks.add_after(hook)
        return hook

    def on_error(self, hook: Hook) -> Hook:
        """Call a function when an attempt failed; it may take ``job_name``, ``job_id`` and ``error``."""
        self.hooks.add_error(hook)
        return hook

    def middleware(self, middleware: AnyMiddleware) -> AnyMiddleware:
        """Wrap each handler call in an async function of ``(context, call_next)``, awaiting ``call_next(context)``."""
        self.hooks.add_middleware(middleware)
        return middleware

    def _declare(self, function: Callable[..., Any], options: JobOptions) -> Any:
        settings = self.settings
        task = declare(function, Defaults(settings.max_retries, settings.priority, settings.task_name_pattern), options)
        declared = carrier(function)
        attach(self, declared, task.name)
        self.tasks.add(task, aliases=(function, declared))
        return declared

    def _add_schedule(self, job_name: str, schedule: DeclaredSchedule) -> None:
        name = schedule.name or job_name
        known = self._schedules.get(name)
        if known is not None and known != (job_name, schedule):
            raise ConfigurationError(
                f"cannot declare schedule {name!r} for {job_name!r}: {known[0]!r} has another schedule of this name; "
                "pass schedule_name="
            )
        try:
            self._maker.recipe(job_name, Options()).check(schedule.args)
        except InvalidArgumentsError as error:
            raise ConfigurationError(f"cannot declare schedule {name!r}: {error}") from error
        self._schedules[name] = (job_name, schedule)
