"""What the processes tell people and programs, one line an event.

An event is *emitted* where it happens and *worded* in one place, :mod:`soniqd.log.catalogue`:

    emit(catalogue.WORKER_READY, slot="default/2", pid=4711, ready_ms=14.2)

Each record carries ``event`` (the stable name) and its fields; the formats (text, json, journald priorities) render
the same record. ERROR means that a person has to act; WARNING that somebody should know; INFO is the story of the
process; DEBUG is for its authors. Fields with the same meaning have the same name everywhere: ``slot``, ``pid``,
``job_id``, ``job_name``, ``queue``, ``worker_id``, ``generation``, ``error``.

In processes that run jobs each line, logged or printed, is known by its job: a context variable that the worker sets
(:mod:`soniqd.log.context`), carried into threads where Python does not (:mod:`soniqd.log.threads`); what is printed is
put together line by line, for each job and thread (:mod:`soniqd.log.printed`). Each process writes its own lines to
stderr, with one write(2) each, so that nobody's log depends on the master. For those who follow them right now lines
are copied (:mod:`soniqd.log.mirror`).

What was learned: ``sys.stdout`` has to remain a real ``TextIOWrapper``, for libraries ask it for ``buffer``,
``encoding``, ``fileno()``; no lock may be held while a job can fork or be interrupted by a signal; a poll object that a
thread waits with is copied by a fork in use for ever.
"""

from soniqd.log.event import Event, emit

__all__ = ["Event", "emit"]
