"""The fork server: imports the jobs modules once and makes every child of one generation from that.

It is a program of its own, ``python -m soniqd.forkserver --fd N``, started by the master in the interpreter that has
the application's code (``[jobs] python``). The two speak :mod:`soniqd.control.fork` over a SOCK_SEQPACKET pair.
The first one of a master, if it runs in the master's interpreter, is forked instead, before the master has a loop, a
thread or a connection (:mod:`soniqd.forkserver.early`): nobody can tell it from an executed one but by its memory.

States::

    waiting for Boot -> importing -> Booted: serving Fork requests -> (end of file) gone
                                  -> BootFailed: gone, exit code 78

Why it can fork safely: it runs no event loop, opens no database connection and starts no thread. What it cannot
promise is the imported code: threads that a module started are reported in ``Booted.threads`` and such a process
refuses to fork; descriptors that a module left open are logged, since all children would share them.

``--exec-child`` serves the generations that cannot fork: the process imports, answers one Fork by *becoming* that
child, and is then an ordinary child of the master.

A fork is a double fork: the intermediate process tells the child's pid and ends, so that the child is adopted by the
nearest subreaper, the master. ``Forked`` is sent after the intermediate was reaped, hence after the adoption. The
child has its own process group, default signal handling, fresh random state, and only the descriptors that came
with the request; it ends in ``os._exit``, never in the fork server's own stack.

What a group says of its processes (:mod:`soniqd.forkserver.attributes`: user, limits, CPUs, ...) is applied in the
child, before its first thread and before any of its work, forked or not. What the kernel refuses ends the child with
exit code 78: the master does not start it again before a reload.

**Memory** (``python -m tests.bench.memory`` shows it by process, stage and page; PSS of master, fork server, scheduler
and four idle workers together / private memory of a worker, MiB, on Python 3.12 and 3.11):

===============================================================  ============  ============
                                                                  Python 3.12   Python 3.11
settings read with pydantic, fork servers by exec, gc.freeze                       113 / 7.8
settings read without pydantic (:mod:`soniqd.settings.reading`)                    100 / 8.4
gaps of the heap filled before forks (:mod:`.sharing`)                             100 / 8.0
what modules consist of made immortal (from Python 3.12 on)          85 / 4.6
the first fork server forked off the master                          75 / 4.7       91 / 8.3
===============================================================  ============  ============

All but half a MiB of what is a worker's own is copied pages, four of five of which differ from the original by a few
reference counts or by nothing. So what counts is which objects are touched, not what is allocated: sslmode, buffers and
pools make no difference, ``malloc_trim`` and one arena for all threads neither, and nothing is imported after the fork.
On Python 3.11 no object is immortal and the pages are copied; there a worker stays near 8 MiB. Left: a worker that ran
for a moment in the fork server before it forks, on a backend without a database, has its bytecode specialized and its
method caches filled; that would save each child another 0.7 MiB, and was not worth its side effects.
A reload boots by exec, since libraries may be newer on disk, too: it costs the 12 MiB that the two no longer share.

When its modules are imported it sums up what they look like on disk (:mod:`soniqd.forkserver.fingerprint`), so that
the master replaces nobody for a reload that brings the same code.

What modules may do at import that a fork does not survive, and what becomes of it:

=========================  =====================================================================================
it starts threads          a forked child would not have them, and locks that they hold would never be free: each
                           child gets a fresh interpreter, which imports for itself, and the log names the threads
it opens sockets or files  children share them, and two of them would speak over one connection: the log names
                           them; nobody can tell whether that is meant, so nothing else is done
it hangs                   after ``[jobs] import_timeout`` it is interrupted, and the boot fails with the line where
                           it was; what cannot be interrupted, C code, is killed by the master ten seconds later.
                           A start ends with exit code 70, which is tried again; a reload with the old generation
the process dies           while importing, as above; later, children do not notice, and the master starts it again,
                           with a longer pause each time that it did not last; requests that it had are made anew
=========================  =====================================================================================

Failure model: a module that cannot be imported costs this generation, never the running one. The end of the socket
means that the master is gone, in every state, also in the middle of an import (SIGIO): the process leaves at once, and
what modules left running (threads, atexit functions) keeps it for seconds at most. A fork that the kernel refuses is
answered with ForkFailed and can be asked for again. What modules print is passed on as it is; what children print
becomes lines of their log (:mod:`soniqd.log.printed`).
:mod:`soniqd.forkserver.loading` serves ``soniqctl worker`` just as well.
"""
