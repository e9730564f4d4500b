"""The scheduler: writes due recurring jobs into the queue, once each, however many schedulers run.

::

    starting -> following <-> leading -> (draining) gone
                    ^            |
                    +-- waiting_for_database <--- any of them

One scheduler leads, by a lock that its death releases; the others try to get it every half a second. The leader knows
the time by the database's clock (clock.py), sleeps until shortly before the next tick, checks there that it still
leads, rereads the schedules (another process may have paused one), sleeps out the rest, and fires (ticker.py). What is
due, and what becomes of missed ticks, is decided in :mod:`soniqd.policy.cron`.

What makes it exact is the database, not the lock: ``fire`` stores the job of a tick, the tick's unique row and the next
tick's time in one transaction. Two schedulers that both believe to lead fire each tick once; one that dies or loses the
connection in the middle has fired it or not, and its successor goes on at the stored ``next_run``. Nothing is computed
anew at a restart.

Failure model: a database that is away is waited for; a schedule that cannot be understood is reported once and passed
over until it is changed.
"""

from soniqd.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
