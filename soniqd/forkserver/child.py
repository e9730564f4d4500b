"""The first steps of a child after the fork, and its last ones."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass

from soniqd.control import link
from soniqd.control.fork import ChildDescriptors
from soniqd.errors import ConfigurationError
from soniqd.forkserver.attributes import apply_attributes
from soniqd.forkserver.boot import Generation
from soniqd.log import catalogue, emit, printed
from soniqd.log.setup import configure_logging
from soniqd.log.threads import carry_jobs_into_threads
from soniqd.model.child import ChildSpec
from soniqd.roles import run_child

_EX_SOFTWARE = 70
_EX_CONFIG = 78
_MASTERS_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)


_USUAL_THRESHOLDS = (700, 2000)
"""Of CPython up to 3.12, and since."""
_THRESHOLD = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """A child to be, and what it shares with the master."""

    spec: ChildSpec
    descriptors: ChildDescriptors


def enter_child(request: Request, generation: Generation) -> int:
    """Be the child until it is done; return its exit code. Only ``os._exit`` may follow."""
    try:
        with suppress(PermissionError):  # the leader of a session has its own group already
            os.setpgid(0, 0)
        reset_signals()
        # SIGABRT: dump every stack, then die of it
        faulthandler.enable(file=request.descriptors.blackbox, all_threads=True)
        # SIGURG: dump every stack and go on. Ignored by default, so that it hurts no child that is not here yet.
        faulthandler.register(signal.SIGURG, file=request.descriptors.blackbox, all_threads=True)
        reseed_random()
        collect_garbage_seldom()
        log = generation.settings.soniqd
        printed.capture(configure_logging(log.log_level, log.log_format, slot=request.spec.slot))
        carry_jobs_into_threads()
        if not _apply_attributes(request):
            return _EX_CONFIG
        return run_child(
            request.spec,
            descriptors=request.descriptors,
            settings=generation.settings,
            jobs=generation.jobs,
        )
    except BaseException as error:  # noqa: BLE001  nothing may unwind into the fork server's stack
        emit(catalogue.CHILD_FAILED, exc_info=error, slot=request.spec.slot, error=f"{type(error).__name__}: {error}")
        return _EX_SOFTWARE
    finally:
        _flush_everything()


def collect_garbage_seldom() -> None:
    """Turn the collector on, and let it run less often than an interpreter does by itself.

    Jobs make and drop some dozens of objects each, next to none of them in circles: with a tenth of the collections a
    worker needs an eighth less of its processor time. What the application has set for itself stays.
    """
    gc.enable()
    first, *others = gc.get_threshold()
    if first in _USUAL_THRESHOLDS:
        gc.set_threshold(_THRESHOLD, *others)


def _apply_attributes(request: Request) -> bool:
    """Return whether the kernel took them; the master is told if not, so that it takes the exit code at its word."""
    try:
        apply_attributes(request.spec.attributes)
    except ConfigurationError as error:
        emit(catalogue.CHILD_CANNOT_WORK, slot=request.spec.slot, error=str(error))
        with suppress(OSError), socket.socket(fileno=request.descriptors.link) as master:
            master.sendall(link.encode(link.Leaving(str(error))))
        return False
    return True


def reset_signals() -> None:
    """Undo what the fork server and the jobs modules did, then leave the terminal's signals to the master.

    Those get a handler that does nothing rather than SIG_IGN: programs that a job runs do not inherit it.
    """
    for signum in signal.valid_signals():
        if signal.getsignal(signum) not in (signal.SIG_DFL, None) and signum not in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(signum, signal.SIG_DFL)
    for signum in _MASTERS_SIGNALS:
        signal.signal(signum, _do_nothing)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def reseed_random() -> None:
    """Give NumPy's global generator its own state; Python's ``random`` does that itself after a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _do_nothing(_signum: int, _frame: object) -> None:
    pass


def _flush_everything() -> None:
    with suppress(Exception):
        printed.end_lines()
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
