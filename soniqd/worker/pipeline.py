"""One job's run: the steps from claimed arguments to how it ended.

bind -> before hooks -> handler, inside middleware and under its timeout -> encode the result -> after or error hooks

Every way to end is an :data:`~soniqd.policy.outcome.Ending`; nothing that the application's code raises leaves here.
SystemExit, KeyboardInterrupt and a CancelledError of the handler's own making fail the attempt like any other error:
a job does not end its worker.

A timeout cancels an ``async`` handler. If it returns a value all the same, that value counts, as in
``asyncio.timeout``; what it raises is the attempt's failure. A handler in a thread cannot be cancelled: it keeps its
slot and its row until it ends, so that the job is never retried while it runs, and what it ends with counts.

A result that is not JSON, or too large, is dropped with a warning and the job is done: the work was done, and a
retry would do it twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any

from soniqd.errors import InvalidArgumentsError
from soniqd.log import catalogue, emit, printed
from soniqd.log.context import begin_job, end_job
from soniqd.policy.outcome import Deferred, Ending, Failed, Interrupted, Returned, Unrunnable, Unstarted
from soniqd.policy.retry import next_retry_delay_s
from soniqd.queue.context import JobContext, Snooze
from soniqd.queue.hooks import Hooks
from soniqd.queue.metrics import GuardedMetrics
from soniqd.queue.payload import decode_args, encode_result
from soniqd.queue.retry_policy import RetryPolicy
from soniqd.worker.copies import Original
from soniqd.worker.deadlines import Deadlines
from soniqd.worker.failure import JobTimeoutError, describe_error, summarize_error
from soniqd.worker.run import Run
from soniqd.worker.threads import HandlerThreads

_NOTHING = Returned(None)
_SUPPRESSED_AFTER_S = 10.0  # a cancelled handler that still runs then is reported, once


class Pipeline:
    """Takes runs through the steps."""

    def __init__(
        self,
        *,
        hooks: Hooks,
        metrics: GuardedMetrics,
        retry_policy: RetryPolicy,
        threads: HandlerThreads,
        hook_timeout_s: float,
        snooze_max_s: float,
    ) -> None:
        self._snooze_max_s = snooze_max_s
        self._hooks = hooks
        self._metrics = metrics
        self._retry_policy = retry_policy
        self._threads = threads
        self._hook_timeout_s = hook_timeout_s
        self._deadlines: Deadlines[Run] = Deadlines(self._expired)
        self._original = Original()

    def close(self) -> None:
        self._deadlines.close()

    async def take(self, run: Run) -> Ending:
        """Run a job; return how it ended."""
        job_id = run.job.fence.job_id
        begin_job(job_id)
        try:
            run.begun = True
            if run.interrupted:
                return Unstarted()
            ending, result = await self._attempt(run)
            run.ending = ending
            if (self._hooks.after or self._hooks.error) and (left := self._observed(run, ending, result)) is not None:
                await left
            return ending
        finally:
            run.error = None  # whose traceback leads back to the run: neither would go before the collector comes
            printed.end_job(job_id)
            end_job(job_id)

    async def _attempt(self, run: Run) -> tuple[Ending, Any]:
        try:
            args, keywords = self._bind(run)
        except InvalidArgumentsError as error:
            run.error = error
            return Unrunnable(summarize_error(error)), None
        except Exception as error:  # noqa: BLE001  a validator is the application's code
            return self._failed(run, error), None
        if run.plan.timeout_s:
            self._deadlines.set(run, run.plan.timeout_s)
        try:
            result = await self._called(run, args, keywords)
        except BaseException as error:  # this is the boundary of the application's code
            if _is_closing(run, error):
                raise
            return self._failed(run, error), None
        finally:
            self._original.insist()
            self._deadlines.clear(run)
        return self._returned(run, result), result

    def _bind(self, run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
        job, plan = run.job, run.plan
        if plan.wants_nothing and job.args_json == "{}":
            return {}, {}
        args = decode_args(job.args_json)
        context = self._context(run) if plan.wants_context else _NO_CONTEXT
        return args, plan.task.call_arguments(args, context)

    def _context(self, run: Run) -> JobContext:
        if run.context is None:
            job = run.job
            fence = job.fence
            run.context = JobContext(
                fence.job_id,
                job.name,
                job.attempts + 1,
                job.max_attempts,
                job.queue,
                fence.worker_id,
                job.scheduled_at,
                job.created_at,
            )
        return run.context

    def _called(self, run: Run, args: dict[str, Any], keywords: dict[str, Any]) -> Awaitable[Any]:
        """Call the handler, or what leads to it; where nothing waits, without a coroutine of our own in between."""
        if self._metrics.active:
            job = run.job
            left = self._metrics.job_started(job.fence.job_id, job.name, job.queue, job.attempts + 1)
            if left is not None:
                return self._call_after(left, run, args, keywords)
        return self._call_hooked(run, args, keywords)

    async def _call_after(self, sink: Awaitable[None], run: Run, args: dict[str, Any], keywords: dict[str, Any]) -> Any:
        await sink
        return await self._call_hooked(run, args, keywords)

    def _call_hooked(self, run: Run, args: dict[str, Any], keywords: dict[str, Any]) -> Awaitable[Any]:
        hooks = self._hooks
        if hooks.before and (left := hooks.run_before(run.job.name, run.job.fence.job_id, args)) is not None:
            return self._call_behind(left, run, keywords)
        return self._call(run, keywords)

    async def _call_behind(self, hooks: Awaitable[None], run: Run, keywords: dict[str, Any]) -> Any:
        await hooks
        return await self._call(run, keywords)

    def _call(self, run: Run, keywords: dict[str, Any]) -> Awaitable[Any]:
        if self._hooks.middleware:
            return self._call_wrapped(run, keywords)
        return self._call_alone(run, keywords)

    def _call_wrapped(self, run: Run, keywords: dict[str, Any]) -> Awaitable[Any]:
        def call(_context: JobContext) -> Awaitable[Any]:
            return self._call_alone(run, keywords)

        return self._hooks.wrap(call)(self._context(run))

    def _call_alone(self, run: Run, keywords: dict[str, Any]) -> Awaitable[Any]:
        if run.plan.is_async:
            called: Awaitable[Any] = run.plan.handler(**keywords)
            return called
        return self._call_in_thread(run, keywords)

    async def _call_in_thread(self, run: Run, keywords: dict[str, Any]) -> Any:
        run.in_thread = True
        try:
            return await self._threads.run(partial(run.plan.handler, **keywords))
        finally:
            run.in_thread = False

    def _returned(self, run: Run, result: Any) -> Ending:
        if run.timed_out or run.interrupted:
            _forget_cancellation(run)
            if run.interrupted and run.plan.is_async:
                return Interrupted()  # it swallowed the cancellation: whether its work is complete, nobody knows
            if run.timed_out:
                self._report_overrun(run, "finished")
        if result is None:
            return _NOTHING
        if isinstance(result, Snooze):
            return Deferred(min(result.seconds, self._snooze_max_s), result.reason)
        try:
            return Returned(encode_result(result))
        except Exception as error:  # noqa: BLE001  the value is the application's, and so is what iterating it raises
            emit(
                catalogue.JOB_RESULT_DROPPED,
                job_id=run.job.fence.job_id,
                job_name=run.job.name,
                error=summarize_error(error),
            )
            return _NOTHING

    def _failed(self, run: Run, error: BaseException) -> Ending:
        _forget_cancellation(run)
        if run.interrupted and (run.plan.is_async or isinstance(error, asyncio.CancelledError)):
            return Interrupted()  # what a thread raises is its own; what a cancelled coroutine raises is ours
        timed_out = run.timed_out and isinstance(error, asyncio.CancelledError)
        if timed_out:
            late = JobTimeoutError(f"the job ran longer than its timeout of {run.plan.timeout_s:g} s")
            late.__cause__ = error
            error = late
        run.error = error
        return Failed(describe_error(error), self._retry_delay_s(run, error), timed_out=timed_out)

    def _retry_delay_s(self, run: Run, error: BaseException) -> float | None:
        attempt = run.job.attempts + 1
        if attempt >= run.job.max_attempts:
            return None
        try:
            return self._retry_policy.delay_s(task=run.plan.task, attempt=attempt, error=error)
        except Exception as broken:  # noqa: BLE001  the policy is the application's
            emit(
                catalogue.RETRY_POLICY_FAILED,
                exc_info=broken,
                job_id=run.job.fence.job_id,
                job_name=run.job.name,
                error=summarize_error(broken),
            )
            return next_retry_delay_s(run.plan.task.retry, attempt=attempt, random=0.5)

    def _observed(self, run: Run, ending: Ending, result: Any) -> Awaitable[None] | None:
        """Run the hooks behind the handler as far as they get without waiting; return what is left, if anything."""
        run.timed_out = False
        hooks, name, job_id = self._hooks, run.job.name, run.job.fence.job_id
        left = None
        try:
            if isinstance(ending, Returned):
                left = hooks.run_after(name, job_id, result) if hooks.after else None
            elif run.error is not None and hooks.error:
                left = hooks.run_error(name, job_id, run.error)
        except BaseException as error:  # noqa: BLE001  what a hook raises changes nothing about the job
            self._report_hooks(run, error)
        return None if left is None else self._observe(run, left)

    async def _observe(self, run: Run, hooks: Awaitable[None]) -> None:
        self._deadlines.set(run, self._hook_timeout_s)
        try:
            await hooks
        except BaseException as error:
            if _is_closing(run, error):
                raise
            self._report_hooks(run, error)
        finally:
            self._deadlines.clear(run)
            _forget_cancellation(run)

    def _report_hooks(self, run: Run, error: BaseException) -> None:
        emit(
            catalogue.HOOKS_CUT_SHORT,
            job_id=run.job.fence.job_id,
            job_name=run.job.name,
            error=f"longer than {self._hook_timeout_s:g} s" if run.timed_out else summarize_error(error),
        )

    def _expired(self, run: Run) -> None:
        """Act on a deadline: cancel what can be cancelled; report, once, what cannot."""
        if run.timed_out or run.in_thread:
            run.timed_out = True
            self._report_overrun(run, "still runs and keeps its slot")
            return
        run.timed_out = True
        assert run.handle is not None
        run.handle.cancel()
        self._deadlines.set(run, _SUPPRESSED_AFTER_S)

    def _report_overrun(self, run: Run, what: str) -> None:
        emit(
            catalogue.JOB_OVERRUN,
            job_id=run.job.fence.job_id,
            job_name=run.job.name,
            timeout_s=run.plan.timeout_s,
            ran_s=time.monotonic() - run.started_at,
            what=what,
        )


_NO_CONTEXT = JobContext(job_id="", job_name="", attempt=0, max_attempts=0, queue="")


def _is_closing(run: Run, error: BaseException) -> bool:
    """Tell a coroutine that is closed from outside, with its loop, from a handler that raises GeneratorExit."""
    if not isinstance(error, GeneratorExit):
        return False
    try:
        return asyncio.current_task() is not run.handle
    except RuntimeError:
        return True


def _forget_cancellation(run: Run) -> None:
    """Clear requests to cancel that have been acted on, so that timeouts inside hooks are not misled by them."""
    if run.handle is not None:
        while run.handle.cancelling():
            run.handle.uncancel()
