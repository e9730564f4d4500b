"""What becomes of one child after the other: from its fork to its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, assert_never

from soniqd.log import catalogue
from soniqd.model.child import ExitCause
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.restarts import decide_restart
from soniqd.policy.supervision.roster import Child, ChildState, Place, Roster

EXIT_CONFIGURATION = 78
EXIT_OVERDUE = 75
"""A child that left in good order though jobs of it would not end: they go back now that it is gone."""

START_TIMEOUT_S = 60.0
"""A child that says nothing for this long after its fork will not say anything any more."""
READY_TIMEOUT_S = 60.0
"""A successor that talks and is not ready after so long will not prove anything: what waits for it must end."""
NOT_READY = "was not ready after"
"""Part of the reason for which that child is given up."""
NOW_GRACE_S = 3.0
ABORT_GRACE_S = 2.0
TICK_GAP_S = 3.0
"""If the master itself read no ticks for this long (a suspended machine), no child is called hung for it."""


class OnFailed(Protocol):
    """Who hears that a child ended, hangs or will not get ready, though nobody had sent it away."""

    def __call__(self, child: Child, reason: str, now_s: float, *, was_successor: bool) -> None: ...


class ChildLife:
    """Takes the events of children in, and appends effects to ``out``."""

    def __init__(
        self, roster: Roster, out: list[fx.Effect], *, random: Callable[[], float], on_failed: OnFailed
    ) -> None:
        self.stop_now_asked = False
        self._roster = roster
        self._on_failed = on_failed
        self._out = out
        self._random = random
        self._ticks_read_s: float | None = None

    def note(self, event: ev.Forked | ev.ForkFailed | ev.Reported | ev.Ready | ev.Exited, now_s: float) -> None:
        child = self._roster.children.get(event.worker_id)
        if child is None:
            return
        match event:
            case ev.Forked():
                self._forked(child, event.pid, now_s)
            case ev.ForkFailed():
                if not child.expected:
                    fields = {"slot": child.spec.slot, "reason": event.reason}
                    self._out.append(fx.Report(catalogue.FORK_FAILED, fields))
                cause = ExitCause(not_started=event.reason)
                self.gone(child, cause, now_s, reason=f"{child.spec.slot} cannot be forked: {event.reason}")
            case ev.Reported():
                self._reported(child, now_s)
            case ev.Ready():
                _note_ready(child, now_s)
            case ev.Exited():
                self.gone(child, event.cause, now_s, announced=event.announced)
            case _:
                assert_never(event)

    def _forked(self, child: Child, pid: int, now_s: float) -> None:
        child.pid = pid
        if child.state is ChildState.FORKING:
            child.state, child.deadline_s = ChildState.STARTING, now_s + START_TIMEOUT_S
        if child.spec.group in self._roster.paused_groups:
            self._out.append(fx.SetPaused(child.worker_id, paused=True))
        if child.expected:
            (self.stop_now if self.stop_now_asked else self.drain)(child, now_s)

    def _reported(self, child: Child, now_s: float) -> None:
        """From its first word on the hang watchdog looks after a child that is still starting."""
        if child.state is ChildState.STARTING and not child.talks:
            child.talks, child.deadline_s, child.ticked_s = True, None, now_s
            child.ready_by_s = now_s + READY_TIMEOUT_S

    def drain(self, child: Child, now_s: float) -> None:
        if child.state in (ChildState.LEAVING, ChildState.HUNG):
            return
        child.expected = True
        if child.state is ChildState.FORKING:
            child.deadline_s = now_s + NOW_GRACE_S  # told as soon as it exists, if that is soon
            return
        timeout_s = child.plan.drain_timeout_s
        child.state, child.deadline_s = ChildState.LEAVING, now_s + timeout_s + child.plan.stop_signal_timeout_s
        self._out.append(fx.Drain(child.worker_id, timeout_s))

    def gone(
        self, child: Child, cause: ExitCause, now_s: float, *, announced: bool = True, reason: str | None = None
    ) -> None:
        """Take a child out. ``reason`` is for people, where an exit's cause does not say it all."""
        place = self._roster.place_of(child)
        was_successor = place is not None and place.successor == child.worker_id
        clean = announced and cause.code in (0, EXIT_OVERDUE)
        del self._roster.children[child.worker_id]
        self._report_exit(child, cause, harmless=child.expected or clean)
        self._release(child, cause, harmless=child.expected or clean)
        if place is not None and was_successor:
            place.successor = None
        elif place is not None:
            misconfigured = announced and cause.code == EXIT_CONFIGURATION
            self._vacate(place, child, cause, now_s, clean=clean, misconfigured=misconfigured)
        if not child.expected:
            self._on_failed(child, reason or _ending(child, cause, now_s), now_s, was_successor=was_successor)

    def _release(self, child: Child, cause: ExitCause, *, harmless: bool) -> None:
        if child.spec.role == "worker":
            cause_of_release: Literal["crash", "interrupted"] = "interrupted" if harmless else "crash"
            reason = f"worker {child.spec.slot} ended with {cause}"
            self._out.append(fx.Release(child.worker_id, child.spec.slot, cause_of_release, reason))

    def _vacate(
        self, place: Place, child: Child, cause: ExitCause, now_s: float, *, clean: bool, misconfigured: bool
    ) -> None:
        place.current, place.last_exit = None, cause
        if child.trial:  # the next one comes from the generation that is proven
            place.next_start_s = now_s
        else:
            self._schedule_restart(place, child, now_s, clean=clean, misconfigured=misconfigured)

    def _report_exit(self, child: Child, cause: ExitCause, *, harmless: bool) -> None:
        fields = {"slot": child.spec.slot, "pid": child.pid, "cause": str(cause), "worker_id": child.worker_id}
        event = catalogue.CHILD_LEFT if harmless else catalogue.CHILD_DIED
        if not cause.not_started:  # that was said when it was tried
            self._out.append(fx.Report(event, fields))

    def _schedule_restart(self, place: Place, child: Child, now_s: float, *, clean: bool, misconfigured: bool) -> None:
        if misconfigured:
            place.misconfigured = True
            self._out.append(fx.Report(catalogue.CHILD_MISCONFIGURED, {"slot": place.slot}))
            return
        ready_for_s = None if child.ready_s is None else now_s - child.ready_s
        decision = decide_restart(
            failures_before=place.failures, ready_for_s=ready_for_s, clean=clean, random=self._random()
        )
        place.failures, place.next_start_s = decision.failures, now_s + decision.delay_s
        if decision.crash_loop:
            fields = {"slot": place.slot, "failures": decision.failures, "cause": str(place.last_exit)}
            self._out.append(fx.Report(catalogue.CRASH_LOOP, fields))

    def ticks(self, event: ev.Ticks, now_s: float) -> None:
        gap = self._ticks_read_s is None or now_s - self._ticks_read_s > TICK_GAP_S
        self._ticks_read_s = now_s
        for worker_id, value in event.values.items():
            child = self._roster.children.get(worker_id)
            if child is None or not _is_watched(child):
                continue
            if value != child.tick or gap:
                child.tick, child.ticked_s = value, now_s
            child.silent_s = now_s - child.ticked_s
            if 0 < child.plan.hang_timeout_s < now_s - child.ticked_s:
                self._hung(child, now_s)

    def _hung(self, child: Child, now_s: float) -> None:
        fields = {"slot": child.spec.slot, "pid": child.pid, "silent_s": now_s - child.ticked_s}
        self._out.append(fx.Report(catalogue.CHILD_HUNG, fields))
        child.state, child.deadline_s = ChildState.HUNG, now_s + ABORT_GRACE_S
        self._out.append(fx.Kill(child.worker_id, "ABRT"))
        reason = f"{child.spec.slot} hangs: its loop stood still for {fields['silent_s']:.0f} s"
        self._give_up(child, reason, now_s)

    def _give_up(self, child: Child, reason: str, now_s: float) -> None:
        place = self._roster.place_of(child)
        was_successor = place is not None and place.successor == child.worker_id
        if place is not None and was_successor:
            place.successor = None
        self._on_failed(child, reason, now_s, was_successor=was_successor)

    def disowned(self, worker_id: str, now_s: float) -> None:
        """Let it finish what it can, without claiming; its place is filled anew at once."""
        child = self._roster.children.get(worker_id)
        place = self._roster.place_of(child) if child else None
        if child is None or place is None or child.state is not ChildState.RUNNING:
            return
        self._out.append(fx.Report(catalogue.WORKER_DISOWNED, {"slot": child.spec.slot, "pid": child.pid}))
        if place.current == worker_id:
            place.current = None
        else:
            place.successor = None
        self.drain(child, now_s)

    def stop_now(self, child: Child, now_s: float) -> None:
        child.expected = True
        deadline_s = now_s + NOW_GRACE_S
        if child.state is ChildState.FORKING:
            child.deadline_s = deadline_s
        elif child.deadline_s is None or child.deadline_s > deadline_s or child.state is not ChildState.LEAVING:
            child.state, child.deadline_s = ChildState.LEAVING, deadline_s
            self._out.append(fx.Kill(child.worker_id, "QUIT"))

    def next_wait_s(self, child: Child) -> float | None:
        """Return when a child's present state has lasted too long."""
        return child.ready_by_s if self._is_awaited(child) else child.deadline_s

    def _is_awaited(self, child: Child) -> bool:
        place = self._roster.place_of(child)
        is_successor = place is not None and place.successor == child.worker_id
        return is_successor and child.state is ChildState.STARTING and child.ready_by_s is not None

    def enforce_deadlines(self, now_s: float) -> None:
        for child in list(self._roster.children.values()):
            if self._is_awaited(child) and child.ready_by_s is not None and child.ready_by_s <= now_s:
                self.drain(child, now_s)
                self._give_up(child, f"{child.spec.slot} {NOT_READY} {READY_TIMEOUT_S:g} s", now_s)
            if child.deadline_s is None or now_s < child.deadline_s:
                continue
            child.deadline_s = None
            if child.state is ChildState.FORKING:
                self._out.append(fx.Forget(child.worker_id))
                self.gone(child, ExitCause(), now_s)
                continue
            fields = {"slot": child.spec.slot, "pid": child.pid, "state": str(child.state)}
            self._out.append(fx.Report(catalogue.CHILD_KILLED, fields))
            self._out.append(fx.Kill(child.worker_id, "KILL", group=True))


def _note_ready(child: Child, now_s: float) -> None:
    if child.state is ChildState.STARTING:
        child.state, child.ready_s, child.deadline_s, child.ticked_s = ChildState.RUNNING, now_s, None, now_s


def _ending(child: Child, cause: ExitCause, now_s: float) -> str:
    when = "before it was ready" if child.ready_s is None else f"{now_s - child.ready_s:.0f} s after it was ready"
    return f"{child.spec.slot} ended with {cause} {when}"


def _is_watched(child: Child) -> bool:
    """The watchdog looks after children whose loop has shown that it runs."""
    return child.state is ChildState.RUNNING or (child.state is ChildState.STARTING and child.talks)
