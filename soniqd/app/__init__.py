"""The application object: ``Soniq`` declares tasks, enqueues jobs, looks at them, and can run them in this process.

It is put together from what it does: :mod:`~soniqd.app.declaring` (decorators), :mod:`~soniqd.app.enqueueing` and
:mod:`~soniqd.app.inspecting`, on the common ground of :mod:`~soniqd.app.core` (settings, backend, lifecycle). The
work behind them is in :mod:`soniqd.queue`.

States: an application is *declared* (imports and decorators; nothing is connected, so that it may be forked),
*open* from its first use (or ``ensure_initialized``, or ``async with``) and *closed* for good. What happens when it
is used in another process or event loop than it was opened in: :mod:`soniqd.queue.lifecycle`.

Bulk (:mod:`~soniqd.app.chunks`): a chunk of ``enqueue_many`` is made while the one before is stored, which took the
rate on PostgreSQL from 95,000 plain jobs a second to 155,000 (two cores, no fsync). What is the same for all jobs of a
call is worked out once; of the 3 us that remain for each, encoding its arguments and making its ``NewJob`` take one
each. pydantic-core encodes in a sixth of the time, but also what is not JSON, so it is not used.

Any number of applications can live in one process; they share nothing.
"""

from soniqd.app.application import Soniq

__all__ = ["Soniq"]
