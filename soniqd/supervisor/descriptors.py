"""How many descriptors a process may have open: as many as allowed for the master, the usual number for jobs.

The master holds about six for each child, so the usual soft limit of 1024 would end at some 150 children. The soft
limit is that low for programs that use select(2), which cannot take higher descriptors: jobs may be such programs, so
what the master inherited is what fork servers, and with them children, get back.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from soniqd.model.child import ExitCause

_TOO_MANY = os.strerror(errno.EMFILE)


def raise_descriptor_limit() -> int:
    """Allow this process as many as its hard limit; return the soft limit before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


_OWN, _PER_CHILD = 32, 8
"""What the master has open by itself (its database and clients included), and for each child while it is replaced."""


@dataclass(frozen=True, slots=True)
class DescriptorShortage:
    """This process may open ``limit`` files; ``enough`` would do for all of its children."""

    limit: int
    enough: int


def descriptor_shortage(causes: Iterable[ExitCause | None], *, children: int) -> DescriptorShortage | None:
    """Tell whether a child could not be started for want of descriptors."""
    if not any(cause is not None and cause.not_started == _TOO_MANY for cause in causes):
        return None
    return DescriptorShortage(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _OWN + _PER_CHILD * children)


def give_back_descriptor_limit(pid: int, soft: int) -> None:
    """Set a process of this one's to the soft limit that was inherited; nothing happens if it has ended.

    Somebody may have lowered the hard limit since then (prlimit(1)): then that is what it gets.
    """
    with suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY:
            soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
