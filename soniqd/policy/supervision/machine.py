"""The machine: :class:`Supervision` takes one event at a time and answers with effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, assert_never

from soniqd.log import catalogue
from soniqd.model.child import ChildSpec, ExitCause, GroupPlan
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.restarts import BACKOFF_MAX_S, STABLE_AFTER_S, decide_restart, next_delay_s
from soniqd.policy.supervision.rollouts import Rollouts
from soniqd.policy.supervision.roster import Child, ChildState, ForkServer, Place, Roster

EXIT_OK = 0
EXIT_INTERNAL = 70
EXIT_CONFIGURATION = 78

FORK_TIMEOUT_S = 330.0
"""Behind the fork server's own deadlines, which are shorter: a fork request that nobody answers is forgotten."""
START_TIMEOUT_S = 60.0
"""A child that says nothing for this long after its fork will not say anything any more."""
DRAIN_GRACE_S = 5.0
"""What a child gets beyond its drain timeout for writing outcomes and leaving."""
NOW_GRACE_S = 3.0
ABORT_GRACE_S = 2.0
TICK_GAP_S = 3.0
"""If the master itself read no ticks for this long (a suspended machine), no child is called hung for it."""


class Supervision:
    """Decides what a master does. ``new_id`` makes incarnation ids, ``random`` numbers in [0, 1)."""

    def __init__(self, plan: tuple[GroupPlan, ...], *, new_id: Callable[[], str], random: Callable[[], float]) -> None:
        self.roster = Roster(plan, settled_plan=plan)
        self.phase = "booting"
        self._rollouts = Rollouts(self.roster)
        self._new_id = new_id
        self._random = random
        self._out: list[fx.Effect] = []
        self._ticks_read_s: float | None = None
        self._stop_now_asked = False

    @property
    def reloading(self) -> bool:
        """A reload has begun and not ended."""
        return self._rollouts.current is not None

    def start(self, now_s: float) -> list[fx.Effect]:
        """Begin: boot the first generation."""
        self.roster.apply_plan(self.roster.plan, generation=1)
        self._boot(1)
        return self._finish_pass(now_s)

    def handle(self, event: ev.Event, now_s: float) -> list[fx.Effect]:
        """Take one event in and answer with what is to be done, in order."""
        self._note(event, now_s)
        return self._finish_pass(now_s)

    def _note(self, event: ev.Event, now_s: float) -> None:  # noqa: C901  one arm an event
        match event:
            case ev.Booted():
                self._booted(event, now_s)
            case ev.BootFailed():
                self._boot_failed(event, now_s)
            case ev.ForkServerLost():
                self._fork_server_lost(event, now_s)
            case ev.Forked() | ev.ForkFailed() | ev.Reported() | ev.Ready() | ev.Exited():
                self._child_event(event, now_s)
            case ev.Disowned():
                self._disowned(event.worker_id, now_s)
            case ev.Ticks():
                self._ticks(event, now_s)
            case ev.Stop():
                self._stop(event, now_s)
            case ev.Reload():
                self._reload(event, now_s)
            case ev.Pause() | ev.Resume():
                self._set_paused(event.group, paused=isinstance(event, ev.Pause))
            case ev.Elapsed():
                pass
            case _:
                assert_never(event)

    def next_deadline_s(self) -> float | None:
        """Return when ``Elapsed`` is due, if nothing else happens before; None if nothing waits for time."""
        waits = [child.deadline_s for child in self.roster.children.values()]
        if self.phase == "running":
            waits += [server.retry_s for server in self.roster.fork_servers.values()]
            waits += [place.next_start_s for place in self.roster.places.values() if self._startable(place)]
        return min((wait for wait in waits if wait is not None), default=None)

    # fork servers

    def _boot(self, generation: int) -> None:
        server = self.roster.fork_servers.setdefault(generation, ForkServer(generation))
        server.booted, server.retry_s = False, None
        self._out.append(fx.Boot(generation))

    def _booted(self, event: ev.Booted, now_s: float) -> None:
        server = self.roster.fork_servers.get(event.generation)
        if server is None:
            return
        server.booted, server.booted_s = True, now_s
        if self.phase == "booting":
            self.phase = "running"
        self._rollouts.booted(event.generation)

    def _boot_failed(self, event: ev.BootFailed, now_s: float) -> None:
        server = self.roster.fork_servers.get(event.generation)
        if server is None:
            return
        if self.phase == "booting":
            self._report_boot_failure(event)
            self._leave(EXIT_CONFIGURATION if event.fixable else EXIT_INTERNAL)
        elif self._rollouts.generation_failed(event.generation, event.reason) or self._is_superseded(server):
            del self.roster.fork_servers[event.generation]
        else:
            self._report_boot_failure(event)
            self._boot_later(server, now_s)

    def _report_boot_failure(self, event: ev.BootFailed) -> None:
        fields = {"generation": event.generation, "reason": event.reason}
        self._out.append(fx.Report(catalogue.BOOT_FAILED, fields))

    def _fork_server_lost(self, event: ev.ForkServerLost, now_s: float) -> None:
        server = self.roster.fork_servers.get(event.generation)
        if server is None:
            return
        if now_s - server.booted_s >= STABLE_AFTER_S:
            server.losses = 0
        server.booted = False
        if self.phase == "running":
            fields = {"generation": event.generation, "cause": str(event.cause)}
            self._out.append(fx.Report(catalogue.FORK_SERVER_LOST, fields))
        self._rollouts.generation_failed(event.generation, f"its fork server ended with {event.cause}")
        for child in list(self.roster.children.values()):
            if child.state is ChildState.FORKING and child.spec.generation == event.generation:
                self._out.append(fx.Forget(child.worker_id))
                self._gone(child, ExitCause(), now_s)
        if self._is_superseded(server):
            del self.roster.fork_servers[event.generation]
        else:
            self._boot_later(server, now_s)

    def _is_superseded(self, server: ForkServer) -> bool:
        """Nothing new comes from it any more: it is neither in force nor being rolled out."""
        rollout = self._rollouts.current
        return server.generation not in (self.roster.generation, rollout.generation if rollout else None)

    def _boot_later(self, server: ForkServer, now_s: float) -> None:
        server.losses += 1
        server.retry_s = now_s + min(next_delay_s(server.losses, random=self._random()), BACKOFF_MAX_S)

    # children

    def _child_event(self, event: ev.Forked | ev.ForkFailed | ev.Reported | ev.Ready | ev.Exited, now_s: float) -> None:
        child = self.roster.children.get(event.worker_id)
        if child is None:
            return
        match event:
            case ev.Forked():
                self._forked(child, event.pid, now_s)
            case ev.ForkFailed():
                fields = {"slot": child.spec.slot, "reason": event.reason}
                self._out.append(fx.Report(catalogue.FORK_FAILED, fields))
                self._gone(child, ExitCause(), now_s)
            case ev.Reported():
                self._reported(child, now_s)
            case ev.Ready():
                self._ready(child, now_s)
            case ev.Exited():
                self._gone(child, event.cause, now_s, announced=event.announced)
            case _:
                assert_never(event)

    def _forked(self, child: Child, pid: int, now_s: float) -> None:
        child.pid = pid
        if child.state is ChildState.FORKING:
            child.state, child.deadline_s = ChildState.STARTING, now_s + START_TIMEOUT_S
        if child.spec.group in self.roster.paused_groups:
            self._out.append(fx.SetPaused(child.worker_id, paused=True))
        if child.expected:
            (self._stop_now if self._stop_now_asked else self._drain)(child, now_s)

    def _reported(self, child: Child, now_s: float) -> None:
        """From its first word on the hang watchdog looks after a child that is still starting."""
        if child.state is ChildState.STARTING and not child.talks:
            child.talks, child.deadline_s, child.ticked_s = True, None, now_s

    def _ready(self, child: Child, now_s: float) -> None:
        if child.state is not ChildState.STARTING:
            return
        child.state, child.ready_s, child.deadline_s, child.ticked_s = ChildState.RUNNING, now_s, None, now_s
        old = self._rollouts.successor_ready(child)
        if old is not None:
            self._drain(old, now_s)

    def _drain(self, child: Child, now_s: float) -> None:
        if child.state in (ChildState.LEAVING, ChildState.HUNG):
            return
        child.expected = True
        if child.state is ChildState.FORKING:
            child.deadline_s = now_s + NOW_GRACE_S  # told as soon as it exists, if that is soon
            return
        timeout_s = child.plan.drain_timeout_s
        child.state, child.deadline_s = ChildState.LEAVING, now_s + timeout_s + DRAIN_GRACE_S
        self._out.append(fx.Drain(child.worker_id, timeout_s))

    def _gone(self, child: Child, cause: ExitCause, now_s: float, *, announced: bool = True) -> None:
        del self.roster.children[child.worker_id]
        clean = cause.clean and announced
        harmless = child.expected or clean
        self._report_exit(child, cause, harmless=harmless)
        if child.spec.role == "worker":
            reason = f"worker {child.spec.slot} ended with {cause}"
            cause_of_release: Literal["crash", "interrupted"] = "interrupted" if harmless else "crash"
            self._out.append(fx.Release(child.worker_id, child.spec.slot, cause_of_release, reason))
        place = self.roster.places.get(child.spec.slot)
        if place is None:
            return
        if place.successor == child.worker_id:
            place.successor, place.last_exit = None, cause
            self._rollouts.successor_failed(child, f"{child.spec.slot} ended with {cause} before it was ready")
        elif place.current == child.worker_id:
            place.current, place.last_exit = None, cause
            misconfigured = announced and cause.code == EXIT_CONFIGURATION
            self._schedule_restart(place, child, now_s, clean=clean, misconfigured=misconfigured)

    def _report_exit(self, child: Child, cause: ExitCause, *, harmless: bool) -> None:
        fields = {"slot": child.spec.slot, "pid": child.pid, "cause": str(cause), "worker_id": child.worker_id}
        event = catalogue.CHILD_LEFT if harmless else catalogue.CHILD_DIED
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

    def _ticks(self, event: ev.Ticks, now_s: float) -> None:
        gap = self._ticks_read_s is None or now_s - self._ticks_read_s > TICK_GAP_S
        self._ticks_read_s = now_s
        for worker_id, value in event.values.items():
            child = self.roster.children.get(worker_id)
            if child is None or not _is_watched(child):
                continue
            if value != child.tick or gap:
                child.tick, child.ticked_s = value, now_s
            elif 0 < child.plan.hang_timeout_s < now_s - child.ticked_s:
                self._hung(child, now_s)

    def _hung(self, child: Child, now_s: float) -> None:
        fields = {"slot": child.spec.slot, "pid": child.pid, "silent_s": now_s - child.ticked_s}
        self._out.append(fx.Report(catalogue.CHILD_HUNG, fields))
        child.state, child.deadline_s = ChildState.HUNG, now_s + ABORT_GRACE_S
        self._out.append(fx.Kill(child.worker_id, "ABRT"))

    def _disowned(self, worker_id: str, now_s: float) -> None:
        """Let it finish what it can, without claiming; its place is filled anew at once."""
        child = self.roster.children.get(worker_id)
        place = self.roster.place_of(child) if child else None
        if child is None or place is None or child.state is not ChildState.RUNNING or place.current != worker_id:
            return
        self._out.append(fx.Report(catalogue.WORKER_DISOWNED, {"slot": child.spec.slot, "pid": child.pid}))
        place.current = None
        self._drain(child, now_s)

    # requests

    def _stop(self, event: ev.Stop, now_s: float) -> None:
        if self.phase == "leaving":
            return
        self.phase = "stopping"
        self._stop_now_asked = event.now
        self._rollouts.abandon(self._out)
        for child in self.roster.children.values():
            if event.now:
                self._stop_now(child, now_s)
            else:
                self._drain(child, now_s)

    def _stop_now(self, child: Child, now_s: float) -> None:
        child.expected = True
        deadline_s = now_s + NOW_GRACE_S
        if child.state is ChildState.FORKING:
            child.deadline_s = deadline_s
        elif child.deadline_s is None or child.deadline_s > deadline_s or child.state is not ChildState.LEAVING:
            child.state, child.deadline_s = ChildState.LEAVING, deadline_s
            self._out.append(fx.Kill(child.worker_id, "QUIT"))

    def _reload(self, event: ev.Reload, now_s: float) -> None:
        if self.phase != "running":
            attempted = self.roster.newest_generation + 1
            error = f"the daemon is {self.phase}"
            self._out.append(fx.ReloadEnded(attempted, self.roster.generation, 0, error))
            return
        unfinished = self._rollouts.supersede(self._out)
        if unfinished is not None:
            self._drain(unfinished, now_s)
        self._boot(self._rollouts.begin(event.plan))

    def _set_paused(self, group: str | None, *, paused: bool) -> None:
        for plan in self.roster.plan:
            if plan.role == "worker" and group in (None, plan.name):
                (self.roster.paused_groups.add if paused else self.roster.paused_groups.discard)(plan.name)
        for child in self.roster.children.values():
            started = child.state in (ChildState.STARTING, ChildState.RUNNING)
            if child.spec.role == "worker" and group in (None, child.spec.group) and started:
                self._out.append(fx.SetPaused(child.worker_id, paused))

    # reconciling

    def _finish_pass(self, now_s: float) -> list[fx.Effect]:
        self._enforce_deadlines(now_s)
        if self.phase == "running":
            self._reboot_lost(now_s)
            self._rollouts.step(self._start_child, now_s)
            self._rollouts.conclude(self._out)
            self._drain_unwanted(now_s)
            self._fill_places(now_s)
        elif self.phase == "stopping" and not self.roster.children:
            self._leave(EXIT_OK)
        out, self._out = self._out, []
        return out

    def _enforce_deadlines(self, now_s: float) -> None:
        for child in list(self.roster.children.values()):
            if child.deadline_s is None or now_s < child.deadline_s:
                continue
            child.deadline_s = None
            if child.state is ChildState.FORKING:
                self._out.append(fx.Forget(child.worker_id))
                self._gone(child, ExitCause(), now_s)
                continue
            fields = {"slot": child.spec.slot, "pid": child.pid, "state": str(child.state)}
            self._out.append(fx.Report(catalogue.CHILD_KILLED, fields))
            self._out.append(fx.Kill(child.worker_id, "KILL", group=True))

    def _reboot_lost(self, now_s: float) -> None:
        for server in self.roster.fork_servers.values():
            if server.retry_s is not None and server.retry_s <= now_s:
                self._boot(server.generation)

    def _drain_unwanted(self, now_s: float) -> None:
        if self.reloading:
            return
        for slot, place in list(self.roster.places.items()):
            if place.wanted:
                continue
            del self.roster.places[slot]
            for worker_id in (place.current, place.successor):
                if worker_id is not None:
                    self._drain(self.roster.children[worker_id], now_s)

    def _fill_places(self, now_s: float) -> None:
        for place in self.roster.places.values():
            if self._startable(place) and place.next_start_s <= now_s:
                if place.last_exit is not None:
                    place.restarts += 1
                place.current = self._start_child(place, place.generation, now_s)

    def _startable(self, place: Place) -> bool:
        server = self.roster.fork_servers.get(place.generation)
        vacant = place.current is None and not self._rollouts.holds(place)
        return vacant and place.wanted and not place.misconfigured and server is not None and server.booted

    def _start_child(self, place: Place, generation: int, now_s: float) -> str:
        plan = place.plan
        spec = ChildSpec(
            role=plan.role,
            group=plan.name,
            index=place.index,
            generation=generation,
            worker_id=self._new_id(),
            concurrency=plan.concurrency,
            queues=plan.queues,
            drain_timeout_s=plan.drain_timeout_s,
        )
        self.roster.children[spec.worker_id] = Child(
            spec, plan, ChildState.FORKING, started_s=now_s, deadline_s=now_s + FORK_TIMEOUT_S
        )
        self._out.append(fx.Fork(spec))
        return spec.worker_id

    def _leave(self, exit_code: int) -> None:
        self.phase = "leaving"
        self._out += [fx.Retire(generation) for generation in self.roster.fork_servers]
        self.roster.fork_servers.clear()
        self._out.append(fx.Finish(exit_code))


def _is_watched(child: Child) -> bool:
    """The watchdog looks after children whose loop has shown that it runs."""
    return child.state is ChildState.RUNNING or (child.state is ChildState.STARTING and child.talks)
