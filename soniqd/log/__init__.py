"""What the processes tell people and programs, one line an event.

An event is *emitted* where it happens and *worded* in one place, :mod:`soniqd.log.catalogue`:

    emit(catalogue.WORKER_READY, slot="default/2", pid=4711, ready_ms=14.2)

Each record carries ``event`` (the stable name) and its fields; the formats (text, json, journald priorities) render
the same record. ERROR means that a person has to act; WARNING that somebody should know; INFO is the story of the
process; DEBUG is for its authors. Fields with the same meaning have the same name everywhere: ``slot``, ``pid``,
``job_id``, ``job_name``, ``queue``, ``worker_id``, ``generation``, ``error``.
"""

from soniqd.log.event import Event, emit

__all__ = ["Event", "emit"]
