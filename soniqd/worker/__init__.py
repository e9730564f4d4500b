"""The worker: takes jobs from the backend, runs them, and writes what became of them.

::

    claimer --- offers ---> executor --- runs ---> pipeline (bind, hooks, handler, encode)
       ^                        |                      |
       |   room, rate           | outcomes <-----------+
       +------------------- completer ---> backend

One claimer and one completer a process, on two connections that overlap; between them the executor with
``concurrency`` slots, a task for each running job, and threads for handlers without ``async``. All of it lives on one
event loop. :class:`Worker` ties it together; it handles no signal, writes no heartbeat, listens to nothing and sweeps
nobody: that is for its surroundings, the master, or :func:`run_standalone` where there is none.

States of a worker: starting (not registered yet) -> running <-> paused -> draining -> ended; waiting_for_database is
shown over starting, running and paused while it is away.

What holds:

* A job that was claimed leaves in exactly one of three ways: its outcome is written; it is given back; or the worker
  is gone and whoever notices that releases what it held.
* An outcome that is not in the database is never forgotten while the worker lives (completer.py), and a job taken by a
  claim whose answer was lost is found again (claimer.py).
* No job is retried while its code still runs here (pipeline.py).
* A drain ends at its deadline, whatever handlers do: async ones are cancelled, all that is left is given back without
  using an attempt, and threads that do not end are left behind as daemon threads. Under a master the jobs of those
  stay held: it gives them back when the process, and the thread with it, has ended.
* Losing the database stops nothing that runs; it is noticed by every part at once and tried again together (outage.py).
"""

from soniqd.worker.options import WorkerOptions
from soniqd.worker.standalone import StandaloneOptions, run_standalone
from soniqd.worker.worker import Worker

__all__ = ["StandaloneOptions", "Worker", "WorkerOptions", "run_standalone"]
