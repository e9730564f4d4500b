"""What fork servers and children tell, made into events of the supervision machine."""

from __future__ import annotations

import time
from collections.abc import Callable

from soniqd.control import fork as wire
from soniqd.control import link
from soniqd.log import catalogue, emit
from soniqd.model.child import ExitCause
from soniqd.policy.supervision import Supervision
from soniqd.policy.supervision import events as ev
from soniqd.supervisor.child import ChildProcess
from soniqd.supervisor.generation import Generation
from soniqd.supervisor.postmortem import Postmortems
from soniqd.supervisor.reloading import Reloads
from soniqd.supervisor.waker import Waker


class Hearing:
    """Hears generations (GenerationEvents) and children; ``processes`` and ``generations`` are the master's own.

    ``tell`` hands events to the machine; ``forget`` drops a child that was not made; ``retired`` is given the fork
    servers whose end is to be waited for.
    """

    def __init__(
        self,
        processes: dict[str, ChildProcess],
        generations: dict[int, Generation],
        *,
        supervision: Supervision,
        reloads: Reloads,
        postmortems: Postmortems,
        waker: Waker,
        tell: Callable[[ev.Event], None],
        forget: Callable[[str], None],
        retired: Callable[[Generation], None],
    ) -> None:
        self._processes = processes
        self._generations = generations
        self._supervision = supervision
        self._reloads = reloads
        self._postmortems = postmortems
        self._waker = waker
        self._tell = tell
        self._forget = forget
        self._retired = retired

    def generation_booted(self, generation: int, booted: wire.Booted) -> None:
        """Fork from it."""
        tasks = len(booted.tasks)
        emit(catalogue.GENERATION_BOOTED, generation=generation, tasks=tasks, import_s=booted.import_s)
        self._tell(ev.Booted(generation, self._reloads.booted(generation, booted, self._supervision.roster)))

    def generation_boot_failed(self, generation: int, failed: wire.BootFailed | None, cause: str) -> None:
        """Give up, go back or try again, as the machine decides."""
        process = self._generations.pop(generation, None)
        if process is not None:
            self._retired(process)
        if failed is not None and failed.traceback:
            emit(catalogue.BOOT_TRACEBACK, generation=generation, traceback=failed.traceback)
            self._reloads.boot_failed(generation)
        self._tell(ev.BootFailed(generation, cause, fixable=failed is not None and not failed.transient))

    def generation_lost(self, generation: int, cause: ExitCause) -> None:
        """Boot it again, as the machine decides."""
        self._tell(ev.ForkServerLost(generation, cause))

    def child_forked(self, child: ChildProcess, pid: int) -> None:
        """Adopt it."""
        worker_id = child.spec.worker_id
        if self._processes.get(worker_id) is not child:
            child.close()
            return
        fork_ms = 1000 * (time.monotonic() - child.requested_s)
        emit(catalogue.CHILD_FORKED, slot=child.spec.slot, pid=pid, fork_ms=fork_ms)
        try:
            self.adopt(child, pid)
        except OSError as error:  # no descriptor to watch it with: it sees the end of its link, and leaves
            self.fork_failed(child, error.strerror or str(error))
            return
        self._tell(ev.Forked(worker_id, pid))

    def adopt(self, child: ChildProcess, pid: int) -> None:
        """Follow what a child says, and its end; raises OSError."""
        self._processes[child.spec.worker_id] = child
        child.adopt(pid, on_message=self._on_message, on_exit=self._on_exit)

    def fork_failed(self, child: ChildProcess, reason: str) -> None:
        """Try again later."""
        self._forget(child.spec.worker_id)
        self._tell(ev.ForkFailed(child.spec.worker_id, reason))

    def _on_message(self, worker_id: str, message: link.Message) -> None:
        child = self._processes.get(worker_id)
        if child is None:
            return
        match message:
            case link.Ready():
                ready_ms = 1000 * (time.monotonic() - child.requested_s)
                emit(catalogue.CHILD_READY, slot=child.spec.slot, pid=child.pid, ready_ms=ready_ms)
                self._tell(ev.Ready(worker_id))
            case link.State():
                self._tell(ev.Reported(worker_id))
                if message.failed and self._supervision.reloading:  # code that fails its jobs must not fail many
                    self._tell(ev.Measured({worker_id: ev.Usage(message.done, message.failed)}))
            case link.More():
                self._waker.more(worker_id)
            case _:
                pass

    def _on_exit(self, worker_id: str, cause: ExitCause) -> None:
        child = self._processes.pop(worker_id, None)
        if child is not None:
            cause = self._explained(child, cause)
        self._tell(ev.Exited(worker_id, cause, announced=child is not None and child.said_goodbye))

    def _explained(self, child: ChildProcess, cause: ExitCause) -> ExitCause:
        """Find out more about an end; without that, whatever is wrong with it, the end counts all the same."""
        try:
            cause = self._postmortems.examine(child, cause)
            self._reloads.child_left(child.spec.generation, child.spec.slot, cause, child.farewell)
        except Exception as error:  # noqa: BLE001  an exit that nobody hears of would keep its place occupied for good
            duty = f"find out why {child.spec.slot} ended"
            emit(catalogue.DUTY_FAILED, exc_info=error, duty=duty, error=f"{type(error).__name__}: {error}")
        return cause
