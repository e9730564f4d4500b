"""Which worker incarnations of this machine are dead for certain, so that a new master may release their jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from soniqd.model import ProcessIdentity, WorkerId, WorkerRecord

_SILENT_INTERVALS = 3
_LEAST_SILENCE_S = 15.0


def decide_leftovers(
    workers: Sequence[WorkerRecord],
    here: ProcessIdentity,
    *,
    alive: Callable[[ProcessIdentity], bool],
    heartbeat_interval_s: float,
) -> tuple[WorkerId, ...]:
    """Return the incarnations that are dead beyond doubt; whoever is not among them is left to the sweep.

    ``alive`` answers for processes of this pid namespace only. A process of another boot or another pid namespace of
    the same machine and host name (a container's previous life) cannot be looked up: its heartbeat has to be silent
    for a while, since two containers may share a machine id and a host name.
    """
    silence_s = max(_SILENT_INTERVALS * heartbeat_interval_s, _LEAST_SILENCE_S)
    return tuple(w.id for w in workers if _is_dead(w, here, alive=alive, silence_s=silence_s))


def _is_dead(
    worker: WorkerRecord, here: ProcessIdentity, *, alive: Callable[[ProcessIdentity], bool], silence_s: float
) -> bool:
    process = worker.process
    if (process.machine_id, process.hostname) != (here.machine_id, here.hostname):
        return False
    if (process.boot_id, process.pid_namespace) == (here.boot_id, here.pid_namespace):
        return not alive(process)
    return worker.heartbeat_age_s is not None and worker.heartbeat_age_s > silence_s
