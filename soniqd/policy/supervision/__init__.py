"""The supervisor's decisions, as a machine of events in and effects out.

Nothing here has a clock, a process or a socket: :class:`Supervision` is told what happened and when, and answers with
what is to be done. The master (soniqd.supervisor) carries the effects out and reports what came of them.

**Places and children.** The plan asks for *places* (``default/1``, ``default/2``, ``scheduler/1``). A place has at most
one *current* child, and beside it at most one *successor* that is to take over. Children that were replaced or told to
leave are *retiring*. Every child is an incarnation with an id of its own, chosen before it exists.

    forking --Forked--> starting --Ready--> running --Drain--> leaving --Exited--> gone
                                               |--tick stands still--> hung --Exited--> gone

**Facts and steps.** All facts are plain data in a :class:`~soniqd.policy.supervision.roster.Roster`, so that another
image of the master can go on with them. Events only change facts. After each one the machine compares facts with the
plan and does what is missing, until nothing is: an empty place whose time has come gets a child, a rollout takes its
next step, a child over its deadline is killed. So an effect that was lost is made good by the next pass.

**Restarts of what died** (life.py, restarts.py, fork_servers.py). The first crash is answered at once, further ones
with exponential backoff and jitter; a child that ran long enough resets the count. A crash loop is reported once as an
error and slowed down, and never given up. Exit code 78 (configuration) is not answered at all: only a reload or a
restart of the group can help. Exit codes count only from a child that said goodbye first: job code can end the process
with any code, and that is a crash like any other. Each place has its own count, so a crash loop holds nobody else up.

**Successors** (starts.py). Whatever replaces a healthy child does it in one way: a successor is started beside it, and
only when that is ready is the old one drained. A successor that ends, hangs, or talks for a minute without getting
ready has failed, and the old child never noticed. One that is sent away for what is not its fault (another host
declared it lost, something more important came) is started again.

**Rollouts** (rollouts.py, canaries.py, rollback.py).

    booting --Booted--> proving --probation--> rolling --> in force
       |                   |                      |
       +---- BootFailed, any failure -------------+--> going back --> the old generation in force

The new generation must boot. Then each place is sorted: it stays if its child runs the same code (fingerprints are kept
by child, since a fork server that had to be booted again may have read newer code than its children run) under the same
plan; a changed number of processes only adds or removes places. The first affected place of each group gets a
*canary*, which works beside the old child until it has been ready for the whole probation; when all canaries have
passed they take over, and the other places follow one by one. Where the budget has no room for all canaries at once,
those that have passed make room for the others.

Until the end the new generation is on trial: a child of it that ends without having been told to, hangs, or fails a
larger part of its jobs than the old ones of its group (failure_jump.py) takes everything back. Vacancies are filled
from the old generation all the while; plan, scaled numbers and generation change in one step at the end. Going back is
a rolling replacement too, from the old fork server, which is kept until then. It ends in any case: a place that cannot
be taken back after a few tries keeps its new child.

A group of which nothing ran before proves nothing: if its canary dies it is left as it was, with an error in the log,
so that it cannot keep the other groups from their new code; unless no other group of workers runs either, for then
nothing speaks for the new generation. A newer reload takes the place of one that is under way. What that had replaced
stays for the time being, and what goes wrong then goes back to the generation in force before both.

**Rolling restarts** (rolling.py) concern the children that are older than the request, one place after another, and
requests one after another. They go on while a reload imports; once that has booted they wait for its end, and find
what it has replaced done. A failed replacement, or a generation that cannot boot again, ends the restart with an error.

**Scaling** (scaling.py) holds at once, or, once a reload has booted, with that reload's end, whichever end that is. It
lasts until a reload whose configured number differs from the one before, or that is told to unscale.

**Recycling** (recycling.py, limits.py). A child that has run, lived or grown to its limit is replaced: one at a time in
a group, the next when the last has left. Each child has its own limits, spread around the group's, so that children
that started together do not end together. It gives way to rollouts and restarts.

**The budget** (starts.py). The connections that the living children may hold never exceed the bound, old ones that
still drain included: a start waits until there is room, vacancies first. A rollout
whose plan drops places gives those up, the last first, where its new ones need the room. What has no room and would
wait for ever does not wait: a rollout or a restart fails with the numbers, a vacancy is reported once as an error.

**Leaving.** Stop drains every child and ends every change under way; a child past its drain deadline and grace is
killed with its process group. A second Stop means now. Jobs of a child that was told to leave count an interruption,
those of one that died by itself a crash.

**Learned.** Random hosts (tests/support/supervision_world.py) found what scripts had not: a restart that forgot the
successor of a recycling in the same place, a recycling's successor that a rollback waited beside for ever, a restart
that called a full budget hopeless while a successor elsewhere was about to free some of it. Every promise above is held
there after each event: every child accounted for, no place unserved but by a loss, no connection above the bound, every
request answered once, and rest in the end.
"""

from soniqd.policy.supervision.machine import Supervision

__all__ = ["Supervision"]
