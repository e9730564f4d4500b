"""Every event that soniqd logs, with its level and wording, grouped by the layer that emits it."""

from __future__ import annotations

from logging import WARNING

from soniqd.log.event import Event

# jobs (worker/)
JOB_FENCED = Event(
    "job_fenced", WARNING, "job {job_id} was taken away from worker {worker_id}: its late {outcome} is refused"
)

# database (backends/)

# schedules (scheduler/)

# children (roles/, forkserver/)

# supervision (supervisor/)
