"""Let the lines of threads be known by their job, where Python does not see to it.

``asyncio.to_thread`` runs a function in the caller's context. ``threading.Thread``, ``ThreadPoolExecutor`` and
``loop.run_in_executor`` start with an empty one (Python 3.14 can copy it: ``thread_inherit_context``). In a process
that runs jobs they are told the job, and nothing else of the context:

a thread
    belongs to the job that started it, for as long as that job runs;
a call that is given to a ThreadPoolExecutor
    belongs to the job that gave it, whoever owns the pool and whichever thread of it makes the call.

Threads made by C code, by ``_thread`` itself, and those of ``multiprocessing.pool.ThreadPool`` that another job made
belong to no job, or to that one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from functools import partial, wraps
from typing import Any

from soniqd.log.context import current_job_id, job_id_var, started_by_var


def carry_jobs_into_threads() -> None:
    """Do so from now on, in this process; what else has wrapped these two methods goes on to work."""
    threading.Thread.start = _starting_for_job(threading.Thread.start)  # type: ignore[assignment,method-assign]
    ThreadPoolExecutor.submit = _submitting_for_job(ThreadPoolExecutor.submit)  # type: ignore[method-assign]


def _starting_for_job(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(start)
    def start_for_job(thread: threading.Thread) -> None:
        job_id = current_job_id()
        if job_id is not None:
            run = thread.run

            def run_for_job() -> None:
                started_by_var.set(job_id)
                del thread.run  # else it would hold on to itself
                run()

            thread.run = run_for_job  # type: ignore[method-assign]
        start(thread)

    return start_for_job


def _submitting_for_job(submit: Callable[..., Future[Any]]) -> Any:
    @wraps(submit)
    def submit_for_job(pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        job_id = current_job_id()
        if job_id is None:
            return submit(pool, fn, *args, **kwargs)
        # In an empty context: the thread that the pool may start for this call will serve others, too.
        return Context().run(submit, pool, partial(_call_for_job, job_id, fn), *args, **kwargs)

    return submit_for_job


def _call_for_job(job_id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = job_id_var.set(job_id)
    try:
        return fn(*args, **kwargs)
    finally:
        job_id_var.reset(token)
