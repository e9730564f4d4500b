"""What a group's processes are to the kernel: priority, CPUs, limits, mask, environment, and whose they are.

Applied after the fork and before the child's first thread, because most of it belongs to a thread in Linux and is
inherited by those that it starts. The user comes last: after that nothing of the rest would be allowed.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from soniqd.errors import ConfigurationError
from soniqd.model.child import ProcessAttributes
from soniqd.settings.process import RLIMITS, UNLIMITED

_PR_SET_DUMPABLE = 4


def apply_attributes(attributes: ProcessAttributes) -> None:
    """Apply them to this process; raises ConfigurationError for the first that the kernel refuses."""
    if attributes.cpu_affinity:
        with _explained(f"run on CPUs {', '.join(map(str, attributes.cpu_affinity))}"):
            os.sched_setaffinity(0, attributes.cpu_affinity)
    if attributes.nice is not None:
        with _explained(f"take priority {attributes.nice}"):
            os.setpriority(os.PRIO_PROCESS, 0, attributes.nice)
    for name, limit in attributes.rlimits:
        _limit(name, limit)
    if attributes.umask is not None:
        os.umask(attributes.umask)
    _become(attributes)
    _set_environment(attributes)


def _limit(name: str, limit: int) -> None:
    number = resource.RLIM_INFINITY if limit == UNLIMITED else limit
    with _explained(f"set the limit {name} to {'unlimited' if limit == UNLIMITED else limit}"):
        resource.setrlimit(RLIMITS[name], (number, number))


def _become(attributes: ProcessAttributes) -> None:
    """Change to another user and group, for good: real, effective and saved ids, as setuid(2) does it for root."""
    user = None if attributes.user is None else _find_user(attributes.user)
    gid = _gid(attributes.group, user)
    if (user is None or user.pw_uid == os.geteuid()) and gid in (None, os.getegid()):
        return
    with _explained(f"run as {attributes.user or 'soniqd'}, group {attributes.group or 'its own'}"):
        if user is not None and gid is not None:
            os.initgroups(user.pw_name, gid)
        if gid is not None:
            os.setgid(gid)
        if user is not None:
            os.setuid(user.pw_uid)
    _allow_looking_at_itself()
    if user is not None:
        os.environ.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name)


def _find_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(f"cannot run as {name}: there is no such user") from None


def _gid(name: str | None, user: pwd.struct_passwd | None) -> int | None:
    if name is None:
        return None if user is None else user.pw_gid
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigurationError(f"cannot run with group {name}: there is no such group") from None


def _allow_looking_at_itself() -> None:
    """Give this process its own files in /proc back, and its core dumps; a change of user takes them (proc(5)).

    What the kernel protects with that, memory of a more privileged life, is what the jobs here hold in any case.
    """
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _set_environment(attributes: ProcessAttributes) -> None:
    os.environ.update(attributes.env)
    if any(name == "TZ" for name, _ in attributes.env):
        time.tzset()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(f"cannot {what}: {reason.lower()}") from error
