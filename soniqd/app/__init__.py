"""The application object: ``Soniq`` declares tasks, enqueues jobs, looks at them, and can run them in this process.

It is put together from what it does: :mod:`~soniqd.app.declaring` (decorators), :mod:`~soniqd.app.enqueueing` and
:mod:`~soniqd.app.inspecting`, on the common ground of :mod:`~soniqd.app.core` (settings, backend, lifecycle). The
work behind them is in :mod:`soniqd.queue`.

States: an application is *declared* (imports and decorators; nothing is connected, so that it may be forked),
*open* from its first use (or ``ensure_initialized``, or ``async with``) and *closed* for good. What happens when it
is used in another process or event loop than it was opened in: :mod:`soniqd.queue.lifecycle`.

Any number of applications can live in one process; they share nothing.
"""

from soniqd.app.application import Soniq

__all__ = ["Soniq"]
