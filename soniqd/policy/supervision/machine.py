"""The machine: :class:`Supervision` takes one event at a time and answers with effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from soniqd.log import catalogue
from soniqd.model.child import GroupPlan
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.changes import RolloutStage
from soniqd.policy.supervision.fork_servers import ForkServers
from soniqd.policy.supervision.life import EXIT_CONFIGURATION, ChildLife
from soniqd.policy.supervision.recycling import Recycler
from soniqd.policy.supervision.rolling import RollingRestarts
from soniqd.policy.supervision.rollouts import Rollouts
from soniqd.policy.supervision.roster import Child, ChildState, Place, Roster
from soniqd.policy.supervision.scaling import scaled_plan
from soniqd.policy.supervision.starts import MOST_STARTING, Starts

EXIT_OK = 0
EXIT_INTERNAL = 70


class Supervision:
    """Decides what a master does. ``new_id`` makes incarnation ids, ``random`` numbers in [0, 1).

    With ``facts`` it goes on where another machine was :attr:`settled`: beside its roster that one knew nothing that
    counts.
    """

    def __init__(
        self,
        plan: tuple[GroupPlan, ...],
        *,
        new_id: Callable[[], str],
        random: Callable[[], float],
        facts: Roster | None = None,
    ) -> None:
        self.roster = facts or Roster(plan, configured=plan)
        self.phase = "running" if facts else "booting"
        self._now_s = 0.0
        self._out: list[fx.Effect] = []
        self._life = ChildLife(self.roster, self._out, random=random, on_failed=self._child_failed)
        self._starts = Starts(self.roster, self._life, self._out, new_id=new_id, random=random)
        self._rollouts = Rollouts(self.roster, self._life, self._starts, self._out)
        self._restarts = RollingRestarts(self.roster, self._starts, self._out)
        self._recycler = Recycler(self.roster, self._starts, self._out)
        self._fork_servers = ForkServers(
            self.roster, self._life, self._rollouts, self._restarts, self._out, random=random
        )

    @property
    def reloading(self) -> bool:
        """A reload has begun and not ended."""
        return self.roster.rollout is not None

    @property
    def stopping(self) -> bool:
        """A stop is under way, or done."""
        return self.phase in ("stopping", "leaving")

    @property
    def stopping_now(self) -> bool:
        """A stop is under way that lets no job finish."""
        return self.stopping and self._life.stop_now_asked

    @property
    def settled(self) -> bool:
        """Nothing is half done: no change is under way, and no child or fork server is being made."""
        roster = self.roster
        changing = roster.rollout is not None or roster.restarts or any(p.successor for p in roster.places.values())
        forking = any(child.state is ChildState.FORKING for child in roster.children.values())
        booting = any(not server.booted and server.retry_s is None for server in roster.fork_servers.values())
        return self.phase == "running" and not (changing or forking or booting)

    def watches_memory(self, worker_id: str) -> bool:
        """Tell whether somebody has to measure a child's memory."""
        child = self.roster.children.get(worker_id)
        return child is not None and child.limits.max_memory_bytes > 0

    def start(self, now_s: float) -> list[fx.Effect]:
        """Begin: boot the first generation."""
        self.roster.settle_places()
        self._fork_servers.boot(1)
        return self._finish_pass(now_s)

    def handle(self, event: ev.Event, now_s: float) -> list[fx.Effect]:
        """Take one event in and answer with what is to be done, in order."""
        self._note(event, now_s)
        return self._finish_pass(now_s)

    def _note(self, event: ev.Event, now_s: float) -> None:  # noqa: C901, PLR0912  one arm an event
        match event:
            case ev.Booted():
                self._booted(event, now_s)
            case ev.BootFailed():
                self._boot_failed(event, now_s)
            case ev.ForkServerLost():
                self._fork_servers.lost(event, now_s, report=self.phase == "running")
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
            case ev.Restart():
                self._restart(event, now_s)
            case ev.Scale():
                self._scale(event)
            case ev.Measured():
                self._measured(event, now_s)
            case ev.Budgeted():
                self.roster.max_connections = event.max_connections
            case ev.Pause() | ev.Resume():
                self._set_paused(event.group, paused=isinstance(event, ev.Pause))
            case ev.Elapsed():
                pass
            case _:
                assert_never(event)

    def next_deadline_s(self) -> float | None:
        """Return when ``Elapsed`` is due, if nothing else happens before; None if nothing waits for time."""
        waits = [self._life.next_wait_s(child) for child in self.roster.children.values()]
        if self.phase == "running":
            waits += [place.next_start_s for place in self.roster.places.values() if self._is_startable(place)]
            for part in (self._fork_servers, self._rollouts, self._recycler):
                waits += part.next_waits_s()
        return min((wait for wait in waits if wait is not None and wait > self._now_s), default=None)

    # fork servers

    def _booted(self, event: ev.Booted, now_s: float) -> None:
        if self._fork_servers.booted(event, now_s) and self.phase == "booting":
            self.phase = "running"

    def _boot_failed(self, event: ev.BootFailed, now_s: float) -> None:
        if self.phase != "booting":
            self._fork_servers.boot_failed(event, now_s)
        elif event.generation in self.roster.fork_servers:
            self._fork_servers.report_boot_failure(event)
            self._leave(EXIT_CONFIGURATION if event.fixable else EXIT_INTERNAL)

    # requests

    def _stop(self, event: ev.Stop, now_s: float) -> None:
        if self.phase == "leaving":
            return
        self.phase = "stopping"
        self._life.stop_now_asked = event.now
        for child in self.roster.children.values():
            if event.now:
                self._life.stop_now(child, now_s)
            else:
                self._life.drain(child, now_s)
        self._rollouts.abandon()  # now: with its fork server, what that was still to fork goes, which nobody waits for
        self._restarts.abandon()

    def _reload(self, event: ev.Reload, now_s: float) -> None:
        if self.phase != "running":
            attempted = self.roster.newest_generation + 1
            error = f"the daemon is {self.phase}"
            self._out.append(fx.ReloadEnded(attempted, self.roster.generation, 0, error))
            return
        self._fork_servers.boot(self._rollouts.begin(event, now_s))

    def _restart(self, event: ev.Restart, now_s: float) -> None:
        if self.phase == "running":
            self._restarts.begin(event, now_s)
        else:
            self._out.append(fx.RestartEnded(event.request, 0, f"the daemon is {self.phase}"))

    def _scale(self, event: ev.Scale) -> None:
        """Scale now, or, where a rollout is sorting the places, with its end."""
        roster = self.roster
        roster.scaled[event.group] = event.processes
        self._rollouts.scaled(event.group, event.processes)
        if roster.rolling_out is None:
            roster.plan = scaled_plan(roster.configured, roster.scaled)
            roster.settle_places()

    def _measured(self, event: ev.Measured, now_s: float) -> None:
        for worker_id, usage in event.values.items():
            child = self.roster.children.get(worker_id)
            if child is None:
                continue
            done, failed = max(0, usage.done - child.done), max(0, usage.failed - child.failed)
            child.done, child.failed = usage.done, usage.failed
            self._recycler.measured(child, usage, now_s)
            self._rollouts.measured(child, done=done, failed=failed, now_s=now_s)

    def _child_failed(self, child: Child, reason: str, now_s: float, *, was_successor: bool) -> None:
        if self._rollouts.child_failed(child, reason, now_s) or not was_successor:
            return
        if not self._restarts.child_failed(child, reason):
            self._recycler.successor_failed(child.spec.slot, now_s)

    def _set_paused(self, group: str | None, *, paused: bool) -> None:
        for plan in (*self.roster.plan, *(place.plan for place in self.roster.places.values())):
            if plan.role == "worker" and group in (None, plan.name):
                (self.roster.paused_groups.add if paused else self.roster.paused_groups.discard)(plan.name)
        for child in self.roster.children.values():
            started = child.state in (ChildState.STARTING, ChildState.RUNNING)
            if child.spec.role == "worker" and group in (None, child.spec.group) and started:
                self._out.append(fx.SetPaused(child.worker_id, paused))

    # reconciling

    def _finish_pass(self, now_s: float) -> list[fx.Effect]:
        self._now_s = now_s
        self._life.enforce_deadlines(now_s)
        if self.phase == "running":
            self._reconcile(now_s)
        elif self.phase == "stopping" and not self.roster.children:
            self._leave(EXIT_OK)
        out = list(self._out)
        self._out.clear()
        return out

    def _reconcile(self, now_s: float) -> None:
        """Do what is missing. One step makes way for another, so this goes on until none has anything to do."""
        done = -1
        while done != len(self._out):
            done = len(self._out)
            self._fork_servers.reboot_lost(now_s)
            self._drop_unwanted(now_s)
            self._fill_places(now_s)
            self._rollouts.step(now_s)
            self._restarts.step(now_s)
            self._recycler.step(now_s)

    def _drop_unwanted(self, now_s: float) -> None:
        rollout = self.roster.rolling_out
        if rollout is not None and rollout.stage is not RolloutStage.GOING_BACK:
            return
        for slot, place in list(self.roster.places.items()):
            if not place.wanted:
                del self.roster.places[slot]
                for child in (self.roster.current_of(place), self.roster.successor_of(place)):
                    if child is not None:
                        self._life.drain(child, now_s)

    def _fill_places(self, now_s: float) -> None:
        """Start what is missing, as far as the budget of connections goes: what leaves makes room for the others."""
        roster, starving, starting = self.roster, None, self._starts.count_starting()
        for place in roster.places.values():
            if not self._is_startable(place) or place.next_start_s > now_s:
                continue
            if starting[place.plan.name] >= MOST_STARTING:
                continue
            if not self._starts.has_room(place.plan):
                starving = place
                continue
            starting[place.plan.name] += 1
            place.restarts += place.last_exit is not None
            place.current = self._starts.start_child(place, place.plan, roster.generation, now_s).worker_id
        waits = self._starts.is_room_coming()
        if starving is not None and not waits and not roster.starved:
            fields = {"slot": starving.slot, "reason": self._starts.no_room_reason(starving.plan)}
            self._out.append(fx.Report(catalogue.CONNECTIONS_EXHAUSTED, fields))
        roster.starved = starving is not None and (roster.starved or not waits)

    def _is_startable(self, place: Place) -> bool:
        """Tell whether a place is vacant and its child not somebody else's to start: a canary proves, it fills not."""
        vacant = place.current is None and (place.successor is None or self._is_proving())
        return vacant and place.wanted and not place.misconfigured and self._starts.is_booted(self.roster.generation)

    def _is_proving(self) -> bool:
        rollout = self.roster.rollout
        return rollout is not None and rollout.stage is RolloutStage.PROVING

    def _leave(self, exit_code: int) -> None:
        self.phase = "leaving"
        self._out += [fx.Retire(generation) for generation in self.roster.fork_servers]
        self.roster.fork_servers.clear()
        self._out.append(fx.Finish(exit_code))
