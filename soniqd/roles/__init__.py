"""What a child does after the fork: a worker or a scheduler, in the care of the master at the other end of its link.

States::

    starting -> (waiting_for_database ->) running | leading | following -> draining -> gone

A role is a :class:`~soniqd.roles.work.Work`; :class:`~soniqd.roles.child.Child` is its surroundings: link, tick,
signals, deadlines, titles. The master heartbeats, listens, promotes and sweeps for all its children; a child does none
of that while the master lives.

Leaving, and who may ask for it:

=====================  =========================================================================================
Drain, SIGTERM         finish what runs within the drain timeout, give back the rest, leave with exit code 0
a second SIGTERM,      now: cancel, give back what can be given back within two seconds, leave
SIGQUIT
end of the link        the master is gone: drain, and heartbeat meanwhile, for nobody else does
the deadline           a drain that overruns it is cut short with exit code 75: its jobs are the master's to release;
                       a loop that stands still is ended by :class:`~soniqd.roles.guard.Guard`
SIGINT, SIGHUP         nothing: they are the master's
=====================  =========================================================================================

What others may know of it is written where they find it without its help: the jobs that run in shared memory, by the
worker (:mod:`soniqd.control.memory`); what blocks the event loop in the log, and all stacks in the black box, by the
thread of :mod:`soniqd.roles.monitor`; the last stacks of a fatal signal by faulthandler.

Exit codes: 0 left in good order, 70 internal error, 75 left with jobs still held, 78 the configuration cannot work.

Failure model: a database that is away or not set up yet is waited for, never a reason to exit. A master that reads
nothing cannot stall a child (:mod:`soniqd.roles.link`). A handler thread that never ends does not keep the process:
its job stays held until the process has ended, in ``os._exit`` with code 75, and the master gives it back only then:
before, it would run twice at once. An orphan's is given back by the next master of the host, or another one there.
"""

from soniqd.roles.child import preload, run_child
from soniqd.roles.jobs import LoadedJobs

__all__ = ["LoadedJobs", "preload", "run_child"]
