"""What to do with the workers of this machine that are not one's own: release, wait for their end, or leave alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from soniqd.model import ProcessIdentity, WorkerRecord, WorkerStatus

_SILENT_INTERVALS = 3
_LEAST_SILENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Leftovers:
    """``crashed`` and ``interrupted`` are dead beyond doubt, and nobody else will release them.

    Those that drained when they ended are interrupted: they count no crash, as under a living master. ``awaited`` are
    processes of this pid namespace with whose end this has to be decided again. Everybody else is left to the sweep.
    """

    crashed: tuple[WorkerRecord, ...] = ()
    interrupted: tuple[WorkerRecord, ...] = ()
    awaited: tuple[ProcessIdentity, ...] = ()


def decide_leftovers(
    workers: Sequence[WorkerRecord],
    here: ProcessIdentity,
    *,
    alive: Callable[[ProcessIdentity], bool],
    heartbeat_interval_s: float,
) -> Leftovers:
    """Judge workers; ``here`` is the master that asks, ``alive`` answers for processes of its pid namespace only.

    A dead worker whose master lives is that master's: it knows which jobs really ran, and how the worker ended. A
    process of another boot or another pid namespace of the same machine and host name (a container's previous life)
    cannot be looked up: its heartbeat has to be silent for a while, since two containers may share both.
    """
    silence_s = max(_SILENT_INTERVALS * heartbeat_interval_s, _LEAST_SILENCE_S)
    dead: list[WorkerRecord] = []
    awaited: list[ProcessIdentity] = []
    for worker in workers:
        if not _is_of_this_host(worker, here):
            continue
        if not _is_of_this_boot(worker, here):
            if worker.heartbeat_age_s is not None and worker.heartbeat_age_s > silence_s:
                dead.append(worker)
            continue
        master = master_of(worker)
        if alive(worker.process):
            awaited.append(worker.process)
        elif master is not None and master != here and alive(master):
            awaited.append(master)
        else:
            dead.append(worker)
    return Leftovers(
        crashed=tuple(worker for worker in dead if worker.status is not WorkerStatus.STOPPING),
        interrupted=tuple(worker for worker in dead if worker.status is WorkerStatus.STOPPING),
        awaited=tuple(dict.fromkeys(awaited)),
    )


def master_of(worker: WorkerRecord) -> ProcessIdentity | None:
    """Return the master that a worker registered with; None if it had none, or is too old to say."""
    match worker.metadata.get("master"):
        case {"pid": int(pid), "start_ticks": int(start_ticks)}:
            return replace(worker.process, pid=pid, start_ticks=start_ticks)
        case _:
            return None


def _is_of_this_host(worker: WorkerRecord, here: ProcessIdentity) -> bool:
    return (worker.process.machine_id, worker.process.hostname) == (here.machine_id, here.hostname)


def _is_of_this_boot(worker: WorkerRecord, here: ProcessIdentity) -> bool:
    return (worker.process.boot_id, worker.process.pid_namespace) == (here.boot_id, here.pid_namespace)
