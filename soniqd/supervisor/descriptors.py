"""How many descriptors a process may have open: as many as allowed for the master, the usual number for jobs.

The master holds about six for each child, so the usual soft limit of 1024 would end at some 150 children. The soft
limit is that low for programs that use select(2), which cannot take higher descriptors: jobs may be such programs, so
what the master inherited is what fork servers, and with them children, get back.
"""

from __future__ import annotations

import resource
from contextlib import suppress


def raise_descriptor_limit() -> int:
    """Allow this process as many as its hard limit; return the soft limit before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def give_back_descriptor_limit(pid: int, soft: int) -> None:
    """Set a process of this one's to the soft limit that was inherited; nothing happens if it has ended.

    Somebody may have lowered the hard limit since then (prlimit(1)): then that is what it gets.
    """
    with suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY:
            soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
