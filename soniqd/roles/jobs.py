"""What the jobs modules declare, as one: several applications' tasks, hooks, metrics and retry policies."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soniqd.app import Soniq
from soniqd.errors import JobsModuleError
from soniqd.model import ScheduleSpec
from soniqd.queue.context import JobContext
from soniqd.queue.hooks import Handler, Hooks
from soniqd.queue.metrics import MetricsSink
from soniqd.queue.registry import Task, TaskRegistry
from soniqd.queue.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class LoadedJobs:
    """One worker's view of one or more applications; each job meets the hooks of the application that declared it."""

    apps: tuple[Soniq, ...]
    tasks: TaskRegistry
    schedules: tuple[ScheduleSpec, ...]
    hooks: Hooks
    metrics_sink: MetricsSink
    retry_policy: RetryPolicy

    @classmethod
    def merge(cls, apps: Sequence[Soniq]) -> LoadedJobs:
        """Put applications together; raises JobsModuleError with every name that two of them use."""
        owners = {task.name: app for app in apps for task in app.tasks}
        if problems := [*_task_clashes(apps), *_schedule_clashes(apps)]:
            raise JobsModuleError("\n".join(problems), problems=tuple(problems))
        only = apps[0] if len(apps) == 1 else None
        return cls(
            apps=tuple(apps),
            tasks=only.tasks if only else _merged_tasks(apps),
            schedules=tuple(spec for app in apps for spec in app.schedules),
            hooks=only.hooks if only else _HooksByOwner({name: app.hooks for name, app in owners.items()}),
            metrics_sink=only.metrics_sink if only else _MetricsByOwner(owners),
            retry_policy=only.retry_policy if only else _RetryByOwner(owners),
        )


def _merged_tasks(apps: Sequence[Soniq]) -> TaskRegistry:
    merged = TaskRegistry()
    for app in apps:
        for task in app.tasks:
            merged.add(task)
    return merged


def _task_clashes(apps: Sequence[Soniq]) -> list[str]:
    sources: dict[str, str] = {}
    problems = []
    for app in apps:
        for task in app.tasks:
            if task.name in sources:
                problems.append(
                    f"two applications declare the task {task.name!r}: at {sources[task.name]} and at {task.source}"
                )
            sources[task.name] = task.source
    return problems


def _schedule_clashes(apps: Sequence[Soniq]) -> list[str]:
    seen: set[str] = set()
    problems = []
    for app in apps:
        for spec in app.schedules:
            if spec.name in seen:
                problems.append(f"two applications declare the schedule {spec.name!r}")
            seen.add(spec.name)
    return problems


class _HooksByOwner(Hooks):
    """Each job's own application's hooks. The lists stay what a worker may test for being empty."""

    def __init__(self, by_task: Mapping[str, Hooks]) -> None:
        super().__init__()
        self._by_task = by_task
        for hooks in {id(hooks): hooks for hooks in by_task.values()}.values():
            self.before += hooks.before
            self.after += hooks.after
            self.error += hooks.error
            self.middleware += hooks.middleware

    def run_before(self, job_name: str, job_id: str, args: dict[str, Any]) -> Awaitable[None] | None:
        return self._by_task[job_name].run_before(job_name, job_id, args)

    def run_after(self, job_name: str, job_id: str, result: Any) -> Awaitable[None] | None:
        return self._by_task[job_name].run_after(job_name, job_id, result)

    def run_error(self, job_name: str, job_id: str, error: BaseException | str) -> Awaitable[None] | None:
        return self._by_task[job_name].run_error(job_name, job_id, error)

    def wrap(self, handler: Handler) -> Handler:
        async def wrapped(context: JobContext) -> Any:
            return await self._by_task[context.job_name].wrap(handler)(context)

        return wrapped


class _MetricsByOwner:
    """Hands each call on, with whatever it answers: a sink's methods may be plain functions."""

    def __init__(self, owners: Mapping[str, Soniq]) -> None:
        self._owners = owners

    def record_job_start(self, *, job_name: str, **fields: Any) -> Any:
        return self._owners[job_name].metrics_sink.record_job_start(job_name=job_name, **fields)

    def record_job_end(self, *, job_name: str, **fields: Any) -> Any:
        return self._owners[job_name].metrics_sink.record_job_end(job_name=job_name, **fields)


class _RetryByOwner:
    def __init__(self, owners: Mapping[str, Soniq]) -> None:
        self._owners = owners

    def delay_s(self, *, task: Task, attempt: int, error: BaseException) -> float | None:
        return self._owners[task.name].retry_policy.delay_s(task=task, attempt=attempt, error=error)
