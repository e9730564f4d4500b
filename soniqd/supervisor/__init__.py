"""The master process: a shell around the pure machine in :mod:`soniqd.policy.supervision`.

It imports no job code and no worker code. Its parts:

``master``      carries effects out, owns everything below
``driver``      events into the machine, effects out of it, its deadlines
``hearing``     what fork servers and children tell, made into events
``workforce``   which children heartbeat, and which could claim
``generation``  a generation of the jobs code: boot, fork, retire
``forkserver``  one fork server: its socket, the children it was asked for
``interpreter`` the process of a fork server: how it is started
``child``       one child: link, box, pid
``box``         a child's shared memory and black box: what is left of it when it has died
``postmortem``  why a child ended, which of its jobs really ran, its last stacks; how a hung one is ended
``oom``         whether the kernel killed it for want of memory
``stacks``      what a living child does just now
``reaper``      child subreaper, pidfds, exits
``ledger``      duties towards the database: heartbeats, releases, sweep, pruning, dead rows
``leftovers``   workers of other masters of this host: the dead ones' jobs, the living ones' end
``waker``       the host's one subscription; wakes one worker per piece of work; promotes what is due
``reloading``   reloads: which settings a generation has, how an attempt ended; rehearsals
``changes``     what each key of soniq.toml needs to take effect
``preview``     what a reload means for each group, and why
``trial``       a generation that is booted only to be looked at
``explaining``  what the master knows of why a change was taken back
``budget``      how many database connections the children may hold, and whether the server has so many
``commands``    what soniqctl may ask
``groups``      scaling groups, and restarting them
``measuring``   what children have done and what memory is their own, for canaries and recycling
``descriptors`` as many descriptors as there may be for the master, the usual number for jobs
``tap``         log lines of all processes, on their way to whoever follows them
``ring``        the last thousand events
``following``   the commands whose answer has no end
``insight``     what waits in the database, who leads, health: asked for by people, never waited for
``usage``       processor time and memory of each process
``service``     what the service manager is told (sd_notify)
``signals``     what signals mean
``upgrade``     this process goes on as the soniqd on disk: when, and step by step
``selfcheck``   whether that soniqd could, asked in a process of its own
``handover``    all that one image of the master tells the next, and how each object goes on from it
``takeover``    the next image's first steps

**Failure model.** A child may die at any instruction: the reaper learns it from the kernel within milliseconds, the
machine decides, the ledger releases exactly that incarnation's jobs, and only those that had begun count a crash. The
database may be away for any time: nothing here waits for it, what has to be written is remembered. A fork server may
die: its children are the master's and do not notice. The master may die: its children see their link end, heartbeat for
themselves, drain and leave; the next master on the host releases at once what the dead ones left and watches the living
ones until they end.

**Reload** (HUP, ``soniqctl reload``). The configuration is read again, the connections that it needs are compared with
what the server leaves, and a new generation boots; until then nothing is touched. It has a fingerprint: of its code
(:mod:`soniqd.forkserver.fingerprint`) and of the settings that every child has. Children of another fingerprint, or of
another plan for their group, are replaced as the machine decides; all others stay, and only the next child of their
place comes from the new generation. A key that needs a restart refuses the reload as a whole: a configuration that is
in force by half is what nobody has written. Every end is told: what was replaced, what was not, and by which keys or
which code; that nothing had changed, and what to do if somebody knows better; or why the old generation goes on.

**Connections.** ``[database] max_connections``, or else what the server leaves, is a budget that the machine keeps at
any instant: each child counts with the most that it may ever open, from its fork to its end. Behind a pooler such as
PgBouncer only the configured bound counts, since the server's own limits are not those of its clients.

**Upgrade** (USR2, ``soniqctl upgrade``). The master executes the soniqd on disk in place of itself: its pid, children,
fork servers, socket, clients and counters go on, only its connections to the database are new. Children and fork
servers stay those of the old release, and so do the code that they run and the settings in force, until a reload. A
release that they could not talk to refuses; one with another fork protocol lets children go on and starts the fork
servers anew. What it could not read, or a configuration that is broken, is found by the self-check, and the old image
goes on. If the new image fails in spite of that, it starts anew in the same process, as after a master's death.
Nothing is missed while neither runs: ended children wait to be reaped, signals are pending, sockets hold what is said.
"""

from soniqd.supervisor.daemon import check, check_self, go_on, run

__all__ = ["check", "check_self", "go_on", "run"]
