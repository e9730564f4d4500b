"""The supervisor's decisions, as a machine of events in and effects out.

Nothing here has a clock, a process or a socket: :class:`Supervision` is told what happened and when, and answers with
what is to be done. The master (soniqd.supervisor) carries the effects out and reports what came of them.

**Places and children.** The plan asks for *places* (``default/1``, ``default/2``, ``scheduler/1``). A place has at most
one *current* child; during a rollout also a *successor* that is starting. Children that were replaced or told to leave
are *retiring*. Every child is an incarnation with an id of its own, chosen before it exists.

    forking --Forked--> starting --Ready--> running --Drain--> leaving --Exited--> gone
                                               |--tick stands still--> hung --Exited--> gone

**Reconciling.** Events only change facts. After each one the machine compares facts with the plan and emits what is
missing: an empty place whose time has come gets a child, a rollout takes its next step, a child over its deadline is
killed. So an effect that was lost (a fork server that died over a request) is made good by the next pass.

**Restarts.** The first crash is answered at once, further ones with exponential backoff and jitter; a child that ran
long enough resets the count. A crash loop is reported once as an error and slowed down, and never given up. Exit code
78 (configuration) is not answered at all: only a reload can help. Exit codes count only from a child that said goodbye
first: job code can end the process with any code, and that is a crash like any other.

**Rollouts** (reload). A new generation must boot, then place by place a successor is started, and only when it is ready
is the old child drained. If a successor dies before it is ready, the places already replaced are rolled back in the
same way, from the old generation's fork server, which is kept until the rollout has ended. A newer reload
takes the place of one that is under way; what goes wrong then goes back to the generation in force before both.

**Leaving.** Stop drains every child; a child past its drain deadline and grace is killed with its process group. A
second Stop means now. Jobs of a child that was told to leave count an interruption, those of one that died by itself a
crash.
"""

from soniqd.policy.supervision.machine import Supervision

__all__ = ["Supervision"]
