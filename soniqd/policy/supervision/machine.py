"""The machine: :class:`Supervision` takes one event at a time and answers with effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from soniqd.log import catalogue
from soniqd.model.child import ChildSpec, ExitCause, GroupPlan
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.life import EXIT_CONFIGURATION, ChildLife
from soniqd.policy.supervision.restarts import BACKOFF_MAX_S, STABLE_AFTER_S, next_delay_s
from soniqd.policy.supervision.rollouts import Rollouts
from soniqd.policy.supervision.roster import Child, ChildState, ForkServer, Place, Roster

EXIT_OK = 0
EXIT_INTERNAL = 70

FORK_TIMEOUT_S = 330.0
"""Behind the fork server's own deadlines, which are shorter: a fork request that nobody answers is forgotten."""


class Supervision:
    """Decides what a master does. ``new_id`` makes incarnation ids, ``random`` numbers in [0, 1)."""

    def __init__(self, plan: tuple[GroupPlan, ...], *, new_id: Callable[[], str], random: Callable[[], float]) -> None:
        self.roster = Roster(plan, settled_plan=plan)
        self.phase = "booting"
        self._rollouts = Rollouts(self.roster)
        self._new_id = new_id
        self._random = random
        self._out: list[fx.Effect] = []
        self._life = ChildLife(self.roster, self._rollouts, self._out, random=random)

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
                self._life.note(event, now_s)
            case ev.Disowned():
                self._life.disowned(event.worker_id, now_s)
            case ev.Ticks():
                self._life.ticks(event, now_s)
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
                self._life.gone(child, ExitCause(), now_s)
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

    # requests

    def _stop(self, event: ev.Stop, now_s: float) -> None:
        if self.phase == "leaving":
            return
        self.phase = "stopping"
        self._life.stop_now_asked = event.now
        self._rollouts.abandon(self._out)
        for child in self.roster.children.values():
            if event.now:
                self._life.stop_now(child, now_s)
            else:
                self._life.drain(child, now_s)

    def _reload(self, event: ev.Reload, now_s: float) -> None:
        if self.phase != "running":
            attempted = self.roster.newest_generation + 1
            error = f"the daemon is {self.phase}"
            self._out.append(fx.ReloadEnded(attempted, self.roster.generation, 0, error))
            return
        unfinished = self._rollouts.supersede(self._out)
        if unfinished is not None:
            self._life.drain(unfinished, now_s)
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
        self._life.enforce_deadlines(now_s)
        if self.phase == "running":
            self._reboot_lost(now_s)
            self._rollouts.step(self._start_child, now_s)
            self._rollouts.conclude(self._out)
            self._drain_unwanted(now_s)
            self._fill_places(now_s)
        elif self.phase == "stopping" and not self.roster.children:
            self._leave(EXIT_OK)
        out = list(self._out)
        self._out.clear()
        return out

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
                    self._life.drain(self.roster.children[worker_id], now_s)

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
