"""The parts of a worker, made and tied together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from soniqd.backends import StorageBackend
from soniqd.model import WorkerRecord
from soniqd.queue.hooks import Hooks
from soniqd.queue.metrics import GuardedMetrics, MetricsSink, NullMetricsSink
from soniqd.queue.registry import TaskRegistry
from soniqd.queue.retry_policy import RetryPolicy, TaskRetryPolicy
from soniqd.worker.board import Board, NoBoard
from soniqd.worker.claimer import Claimer
from soniqd.worker.completer import Completer, Entry
from soniqd.worker.executor import Executor
from soniqd.worker.options import WorkerOptions
from soniqd.worker.outage import Outage
from soniqd.worker.pipeline import Pipeline
from soniqd.worker.registration import Registration
from soniqd.worker.reports import Reports
from soniqd.worker.threads import HandlerThreads


@dataclass(frozen=True, slots=True)
class Materials:
    """What the parts are made of."""

    backend: StorageBackend
    tasks: TaskRegistry
    hooks: Hooks
    record: WorkerRecord
    options: WorkerOptions
    metrics_sink: MetricsSink | None = None
    retry_policy: RetryPolicy | None = None
    until_empty: bool = False
    board: Board | None = None


class Parts:
    """``on_change`` is called when something about them may differ, ``on_more`` as :class:`Worker` has it."""

    def __init__(self, of: Materials, *, on_change: Callable[[], None], on_more: Callable[[], None]) -> None:
        self._on_change = on_change
        metrics = GuardedMetrics(of.metrics_sink or NullMetricsSink(), limit_s=of.options.hook_timeout_s)
        self.reports = Reports(metrics)
        self.outage = Outage(worker_id=of.record.id, on_change=on_change, longest_s=of.options.error_retry_s)
        self.registration = Registration(
            of.record, backend=of.backend, tasks=of.tasks, options=of.options, outage=self.outage
        )
        self.threads = HandlerThreads(of.options.sync_threads)
        self.pipeline = Pipeline(
            hooks=of.hooks,
            metrics=metrics,
            retry_policy=of.retry_policy or TaskRetryPolicy(),
            threads=self.threads,
            hook_timeout_s=of.options.hook_timeout_s,
            snooze_max_s=of.options.snooze_max_s,
        )
        self.completer = Completer(
            backend=of.backend,
            outage=self.outage,
            options=of.options,
            on_written=self._written,
            on_room=self._writer_has_room,
        )
        board = of.board or NoBoard()
        self.executor = self._make_executor(of, board)
        self.claimer = self._make_claimer(of, board, on_more)

    def close(self) -> None:
        """Leave threads and timers behind."""
        self.pipeline.close()
        self.threads.close()

    def _make_executor(self, of: Materials, board: Board) -> Executor:
        return Executor(
            tasks=of.tasks,
            pipeline=self.pipeline,
            options=of.options,
            submit=self.completer.add,
            board=board,
            unwritten=lambda: self.completer.backlog,
            on_room=lambda: self.claimer.room(),  # noqa: PLW0108  the claimer is made after the executor
            on_change=self._on_change,
        )

    def _make_claimer(self, of: Materials, board: Board, on_more: Callable[[], None]) -> Claimer:
        return Claimer(
            backend=of.backend,
            worker_id=of.record.id,
            tasks=of.tasks,
            options=of.options,
            executor=self.executor,
            completer=self.completer,
            board=board,
            outage=self.outage,
            supervised=of.record.supervised,
            until_empty=of.until_empty,
            on_more=on_more,
            on_looked=self._on_change,
        )

    def _writer_has_room(self) -> None:
        self.executor.start_suspect()
        self.claimer.room()

    def _written(self, entries: Sequence[Entry]) -> None:
        due_in_s = self.reports.written(entries)
        if due_in_s is not None:
            self.claimer.wake(due_in_s=due_in_s)
            if due_in_s <= 0:
                self.claimer.wake()
        self._on_change()
