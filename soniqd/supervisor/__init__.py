"""The master process: a shell around the pure machine in :mod:`soniqd.policy.supervision`.

It imports no job code and no worker code. Its parts:

``master``      carries effects out, turns what happens into events; owns everything below
``generation``  a fork server: boot, fork, retire
``child``       one child: link, box, pid
``box``         a child's shared memory and black box: what is left of it when it has died
``postmortem``  why a child ended, which of its jobs really ran, its last stacks; how a hung one is ended
``oom``         whether the kernel killed it for want of memory
``stacks``      what a living child does just now
``reaper``      child subreaper, pidfds, exits
``ledger``      duties towards the database: heartbeats, releases, sweep, pruning
``leftovers``   workers of other masters of this host: the dead ones' jobs, the living ones' end
``waker``       the host's one subscription; wakes one worker per piece of work; promotes what is due
``reloading``   reloads: which settings a generation has, how an attempt ended
``commands``    what soniqctl may ask
``tap``         log lines of all processes, on their way to whoever follows them
``ring``        the last thousand events
``following``   the commands whose answer has no end
``insight``     what waits in the database, who leads, health: asked for by people, never waited for
``usage``       processor time and memory of each process
``signals``     what signals mean

**Failure model.** A child may die at any instruction: the reaper learns it from the kernel within milliseconds, the
machine decides, the ledger releases exactly that incarnation's jobs, and only those that had begun count a crash. The
database may be away for any time: nothing here waits for it, what has to be written is remembered. A fork server may
die: its children are the master's and do not notice. The master may die: its children see their link end, heartbeat for
themselves, drain and leave; the next master on the host releases at once what the dead ones left and watches the living
ones until they end.
"""

from soniqd.supervisor.daemon import check, check_self, go_on, run

__all__ = ["check", "check_self", "go_on", "run"]
