"""A host that the supervision machine is played against: fork servers and children that obey it, fail and take time.

Random in everything, by a seed. After every event it holds the machine to what must always be true; see
:meth:`World.check`.
"""

from __future__ import annotations

import heapq
import itertools
import json
from collections import Counter
from dataclasses import dataclass, replace
from random import Random

from soniqd.control.plain import from_plain, to_plain
from soniqd.model.child import ExitCause, GroupPlan, Recycling, Slot
from soniqd.policy.supervision import Supervision
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.changes import RolloutStage
from soniqd.policy.supervision.roster import ChildState, Roster

Plan = tuple[GroupPlan, ...]

PATIENCE_S = 900
KILLED = ExitCause(signal=9)
CLEAN = ExitCause(code=0)


@dataclass(frozen=True)
class Faults:
    """How likely things go wrong. ``new_code`` is how likely a reload brings code whose children die or fail jobs."""

    kills: bool = False
    lost_fork_servers: bool = False
    new_code: float = 0.0
    stubborn: float = 0.0
    fork: float = 0.0


@dataclass
class Code:
    """What a generation's children are like."""

    fingerprint: str
    boots: bool = True
    dies_early: bool = False
    never_ready: bool = False
    dies_late: bool = False
    fails_jobs: bool = False
    hangs: bool = False

    @property
    def good(self) -> bool:
        return not (self.dies_early or self.never_ready or self.dies_late or self.fails_jobs or self.hangs)


@dataclass
class Process:
    """A child as it really is."""

    fork: fx.Fork
    code: Code
    forked: bool = False
    ready: bool = False
    stubborn: bool = False
    tick: int = 0
    hung: bool = False
    done: int = 0
    failed: int = 0


class World:
    """The host, its clock, and what is due next."""

    def __init__(
        self, seed: int, plan: Plan, faults: Faults, *, max_connections: int | None, tight: bool = False
    ) -> None:
        self.tight = tight
        self.random = Random(seed)
        self.faults = faults
        self.now = 1000.0
        self._ids = itertools.count(1)
        self.machine = Supervision(plan, new_id=self._new_id, random=self.random.random)
        self.max_connections = max_connections
        self.code = Code("a")
        self.codes: dict[int, Code] = {}
        self.generations: set[int] = set()
        self.booted: set[int] = set()
        self.processes: dict[str, Process] = {}
        self.released: Counter[str] = Counter()
        self.gone: list[fx.Fork] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.errors: list[str] = []
        self.finished: int | None = None
        self.served: set[Slot] = set()
        self.trace: list[str] = []
        self._due: list[tuple[float, int, ev.Event]] = []
        self._order = itertools.count()
        self._reloads = 0
        self._carry_out(self.machine.start(self.now))
        self.tell(ev.Budgeted(max_connections))

    def _new_id(self) -> str:
        return f"w{next(self._ids)}"

    # playing

    def run(self, seconds: float) -> None:
        """Let time pass: what is due happens, timers fire."""
        until = self.now + seconds
        for _ in range(20_000):
            deadline = self.machine.next_deadline_s()
            assert deadline is None or deadline > self.now, "the machine asks for time that has passed"
            next_due = self._due[0][0] if self._due else until
            moment = min(next_due, until, until if deadline is None else deadline)
            self.now = max(self.now, moment)
            if self._due and self._due[0][0] <= self.now:
                self._happen(heapq.heappop(self._due)[2])
            elif deadline is not None and deadline <= self.now:
                self.tell(ev.Elapsed())
            else:
                return
        raise AssertionError("the machine never comes to rest")

    def settle(self) -> None:
        """Let nothing fail any more, and give everything time to end."""
        self.faults = Faults()
        for code in self.codes.values():
            code.boots = True
            code.dies_early = code.never_ready = code.dies_late = code.fails_jobs = code.hangs = False
        for _ in range(PATIENCE_S):
            self.run(1.0)
            self._tick()
            if self.machine.settled and self.answered == self.asked and not self._is_somebody_missing():
                return

    def _is_somebody_missing(self) -> bool:
        wanted = sum(group.processes for group in self.machine.roster.plan)
        running = [c for c in self.machine.roster.children.values() if c.state is ChildState.RUNNING]
        return len(running) != wanted or len(self.processes) != wanted

    def tell(self, event: ev.Event) -> None:
        """Hand the machine an event, carry its effects out, and check everything."""
        self.trace.append(f"{self.now:.2f} {event}")
        effects = self.machine.handle(event, self.now)
        self.trace += [f"        {effect}" for effect in effects]
        self._carry_out(effects)
        for effect in effects:
            if isinstance(effect, fx.Kill) and effect.signal == "ABRT":
                self._excuse(effect.worker_id)
        self.check(event, effects)

    def later(self, seconds: float, event: ev.Event) -> None:
        """Let an event happen in so many seconds."""
        heapq.heappush(self._due, (self.now + seconds, next(self._order), event))

    # what people and accidents do

    def act(self) -> None:
        """Do one random thing."""
        choices = [self._tick, self._tick, self._tick, self._measure, self._reload, self._restart]
        if not self.tight:
            choices.append(self._scale)
        if self.faults.kills:
            choices += [self._kill, self._disown]
        if self.faults.lost_fork_servers:
            choices.append(self._lose_fork_server)
        self.random.choice(choices)()
        if self.machine.settled and self.random.random() < 0.2:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let another machine go on with the facts, as a master's new image does."""
        facts = from_plain(Roster, json.loads(json.dumps(to_plain(self.machine.roster))))
        assert facts == self.machine.roster
        self.machine = Supervision((), new_id=self._new_id, random=self.random.random, facts=facts)
        self.tell(ev.Elapsed())

    def _tick(self) -> None:
        for process in self.processes.values():
            process.tick += not process.hung
        forked = {worker_id: each.tick for worker_id, each in self.processes.items() if each.forked}
        self.tell(ev.Ticks(forked))

    def _measure(self) -> None:
        usage = {}
        for worker_id, process in self.processes.items():
            if process.ready:
                runs = self.random.randrange(8)
                failed = runs if process.code.fails_jobs else 0
                process.failed, process.done = process.failed + failed, process.done + runs - failed
                usage[worker_id] = ev.Usage(process.done, process.failed, self.random.randrange(200) * 2**20)
        self.tell(ev.Measured(usage))

    def _reload(self) -> None:
        self.code = self._next_code()
        plan = self.machine.roster.configured
        change = self.random.choice([0, 3, 5]) if self.tight else self.random.randrange(6)
        if change == 0:
            plan = tuple(replace(group, concurrency=self.random.randrange(1, 9)) for group in plan)
        elif change == 1:
            plan = tuple(replace(g, processes=self.random.randrange(1, 4)) if g.role == "worker" else g for g in plan)
        elif change == 2:
            extra = GroupPlan("worker", f"extra{self.random.randrange(2)}", 1, connections=2, drain_timeout_s=5.0)
            present = {group.name for group in plan}
            plan = (*plan, extra) if extra.name not in present else tuple(g for g in plan if g.name != extra.name)
        elif change == 3:
            names = {"mail": "post", "post": "mail"}
            plan = tuple(replace(group, name=names.get(group.name, group.name)) for group in plan)
        self._reloads += 1
        attempted = self.machine.roster.newest_generation + 1
        self.asked[f"reload {attempted}"] += 1
        probation_s = self.random.choice([0.0, 0.0, 3.0])
        unscale, everything = self.random.random() < 0.1, self.random.random() < 0.2
        self.tell(ev.Reload(plan, everything, probation_s, failure_jump=0.3, unscale=unscale))

    def _next_code(self) -> Code:
        if self.random.random() < 0.3:
            return Code(self.code.fingerprint) if self.code.good else self.code
        code = Code(f"code {self._reloads}")
        if self.random.random() < self.faults.new_code:
            fault = self.random.choice(
                ["boots", "dies_early", "never_ready", "dies_late", "fails_jobs", "hangs"],
            )
            setattr(code, fault, fault != "boots")
        return code

    def _restart(self) -> None:
        request = sum(self.asked.values()) + 1
        names = [group.name for group in self.machine.roster.plan]
        self.asked[f"restart {request}"] += 1
        self.tell(ev.Restart(request, tuple(self.random.sample(names, self.random.randint(1, len(names))))))

    def _scale(self) -> None:
        group = self.random.choice([group for group in self.machine.roster.plan if group.role == "worker"])
        self.tell(ev.Scale(group.name, self.random.randrange(1, 5)))

    def _kill(self) -> None:
        forked = [worker_id for worker_id, process in self.processes.items() if process.forked]
        if forked:
            self._happen(ev.Exited(self.random.choice(forked), KILLED, announced=False))

    def _disown(self) -> None:
        ready = [worker_id for worker_id, process in self.processes.items() if process.ready]
        if ready:
            worker_id = self.random.choice(ready)
            self._excuse(worker_id)
            self.tell(ev.Disowned(worker_id))

    def _lose_fork_server(self) -> None:
        if self.booted:
            self._happen(ev.ForkServerLost(self.random.choice(sorted(self.booted)), KILLED))

    # how the host answers

    def _excuse(self, worker_id: str) -> None:
        """A child is lost by itself: its place need not be served until it is again."""
        child = self.machine.roster.children[worker_id]
        place = self.machine.roster.places.get(child.spec.slot)
        if place and place.current == worker_id:
            self.served.discard(child.spec.slot)

    def _happen(self, event: ev.Event) -> None:
        match event:
            case ev.Booted() | ev.BootFailed():
                if event.generation not in self.generations:
                    return
                if isinstance(event, ev.Booted):
                    self.booted.add(event.generation)
                else:
                    self.generations.discard(event.generation)
            case ev.ForkServerLost():
                if event.generation not in self.booted:
                    return
                self.booted.discard(event.generation)
            case ev.Forked():
                if event.worker_id not in self.processes:
                    return
                self.processes[event.worker_id].forked = True
            case ev.ForkFailed() | ev.Exited():
                process = self.processes.pop(event.worker_id, None)
                if process is None:
                    return
                self._excuse(event.worker_id)
                self.gone.append(process.fork)
            case ev.Reported():
                if event.worker_id not in self.processes:
                    return
            case ev.Ready():
                if event.worker_id not in self.processes:
                    return
                process = self.processes[event.worker_id]
                process.ready = True
                process.hung = process.code.hangs
            case _:
                pass
        self.tell(event)

    def _carry_out(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            match effect:
                case fx.Boot(generation):
                    self.generations.add(generation)
                    code = self.codes.setdefault(generation, self.code)
                    seconds = self.random.uniform(0.1, 3.0)
                    booted = ev.Booted(generation, code.fingerprint)
                    self.later(
                        seconds, booted if code.boots else ev.BootFailed(generation, "SyntaxError", fixable=True)
                    )
                case fx.Retire(generation):
                    self.generations.remove(generation)
                    self.booted.discard(generation)
                    for worker_id, process in self.processes.items():
                        if process.fork.spec.generation == generation and not process.forked:
                            self.later(0.0, ev.ForkFailed(worker_id, "the fork server was retired"))
                case fx.Fork(spec):
                    assert spec.generation in self.booted, f"{spec.slot} is asked of a fork server that is not there"
                    self._fork(effect)
                case fx.Drain(worker_id, timeout_s):
                    process = self.processes[worker_id]
                    if not (process.stubborn or process.hung):
                        self.later(self.random.uniform(0.05, timeout_s), ev.Exited(worker_id, CLEAN))
                case fx.Kill(worker_id):
                    self.later(0.05, ev.Exited(worker_id, KILLED, announced=False))
                case fx.Forget(worker_id):
                    self.gone.append(self.processes.pop(worker_id).fork)
                case fx.Release(worker_id):
                    self.released[worker_id] += 1
                case fx.ReloadEnded():
                    self.answered[f"reload {effect.attempted}"] += 1
                    self.errors += [effect.error] if effect.error else []
                case fx.RestartEnded():
                    self.answered[f"restart {effect.request}"] += 1
                case fx.Finish(exit_code):
                    self.finished = exit_code
                case fx.SetPaused() | fx.Report():
                    pass

    def _fork(self, effect: fx.Fork) -> None:
        worker_id = effect.spec.worker_id
        code = self.codes[effect.spec.generation]
        self.processes[worker_id] = Process(effect, code, stubborn=self.random.random() < self.faults.stubborn)
        forked_s = self.random.uniform(0.001, 0.3)
        if self.random.random() < self.faults.fork:
            self.later(forked_s, ev.ForkFailed(worker_id, "no memory"))
            return
        self.later(forked_s, ev.Forked(worker_id, 1))
        talks_s = forked_s + self.random.uniform(0.01, 0.2)
        if code.dies_early:
            self.later(talks_s, ev.Exited(worker_id, ExitCause(code=1)))
            return
        self.later(talks_s, ev.Reported(worker_id))
        if code.never_ready:
            return
        ready_s = talks_s + self.random.uniform(0.01, 1.0)
        self.later(ready_s, ev.Ready(worker_id))
        if code.dies_late:
            self.later(ready_s + self.random.uniform(0.1, 6.0), ev.Exited(worker_id, KILLED, announced=False))

    # what must always be true

    def check(self, event: ev.Event, effects: list[fx.Effect]) -> None:
        """Hold facts and effects against the promises."""
        roster = self.machine.roster
        assert roster.children.keys() == self.processes.keys(), "the machine and the host know other children"
        self._check_accounted()
        wanted = {roster.generation, roster.rollout.generation if roster.rollout else None}
        assert roster.fork_servers.keys() <= wanted, "a fork server is left that nothing new comes from"
        connections = sum(process.fork.spec.connections for process in self.processes.values())
        if self.max_connections is not None:
            assert connections <= self.max_connections, f"{connections} connections of {self.max_connections}"
        workers = [fork.spec.worker_id for fork in self.gone if fork.spec.role == "worker"]
        assert self.released == Counter(workers), "each worker that is gone is released once"
        assert all(self.answered[key] <= self.asked[key] == 1 for key in self.answered), "answered twice, or unasked"
        if self.machine.phase == "running":
            self._check_capacity()
            self._check_old_serve_until_proven(event, effects)

    def _check_accounted(self) -> None:
        roster = self.machine.roster
        held = [each for place in roster.places.values() for each in (place.current, place.successor) if each]
        assert len(held) == len(set(held)), "two places share a child"
        assert set(held) <= roster.children.keys(), "a place holds a child that is not there"
        for worker_id, child in roster.children.items():
            assert worker_id in held or child.leaves, f"{worker_id} belongs nowhere and is not told to leave"
            if child.leaves:
                assert child.deadline_s is not None or child.state is not ChildState.FORKING

    def _check_capacity(self) -> None:
        """A wanted place is served from its first ready child on, until it is not wanted, or loses that child."""
        roster = self.machine.roster
        places = {slot: place for slot, place in roster.places.items() if place.wanted}
        children = {slot: roster.current_of(place) for slot, place in places.items()}
        serving = {slot for slot, child in children.items() if child and child.state is ChildState.RUNNING}
        unserved = self.served & places.keys() - serving
        assert not unserved, f"{sorted(unserved)} are not served"
        self.served = serving

    def _check_old_serve_until_proven(self, event: ev.Event, effects: list[fx.Effect]) -> None:
        """While canaries are on probation, no child of the proven generation is sent away for them."""
        rollout = self.machine.roster.rollout
        if rollout is None or rollout.stage is not RolloutStage.PROVING or self.max_connections is not None:
            return
        if isinstance(event, (ev.Disowned, ev.Booted)):  # disowned is lost; a rollout that begins ends recyclings
            return
        drained = [self.machine.roster.children[e.worker_id] for e in effects if isinstance(e, fx.Drain)]
        proven = [child.worker_id for child in drained if not child.trial and child.ready_s is not None]
        assert not proven, f"{proven} are sent away for canaries on probation"

    def check_at_rest(self) -> None:
        """Nothing is under way: everything that was asked for has come to be."""
        roster = self.machine.roster
        assert self.machine.settled, "something is still under way"
        assert self.answered == self.asked, f"no answer to {self.asked - self.answered}"
        assert roster.fork_servers.keys() == self.generations == {roster.generation}
        slots = {f"{group.name}/{index + 1}" for group in roster.plan for index in range(group.processes)}
        assert set(roster.places) == slots
        for place in roster.places.values():
            child = roster.current_of(place)
            assert child is not None, f"{place.slot} is vacant"
            assert child.state is ChildState.RUNNING, f"{place.slot} is {child.state}"
            assert not child.trial
        assert len(roster.children) == len(slots), "more children than places"


def random_plan(random: Random) -> tuple[Plan, int | None, bool]:
    """Return a plan, a budget with room for one overlap at least, or none, and whether it has room for no more."""
    limits = Recycling(random.choice([0, 20]), random.choice([0.0, 60.0]), max_memory_bytes=150 << 20)
    groups = [
        GroupPlan(
            "worker",
            name,
            random.randrange(1, 4),
            concurrency=2,
            drain_timeout_s=random.choice([0.5, 10.0]),
            hang_timeout_s=8.0,
            connections=random.randrange(1, 6),
            recycling=limits,
        )
        for name in ("mail", "images")
    ]
    if random.random() < 0.7:
        groups.insert(0, GroupPlan("scheduler", "scheduler", 1, drain_timeout_s=1.0, connections=2))
    largest = max(group.connections for group in groups)
    match random.randrange(3):
        case 0:
            return tuple(groups), None, False
        case 1:
            return tuple(groups), sum(4 * group.connections for group in groups) + 2 * 4 * 2 + largest, False
        case _:
            return tuple(groups), sum(group.processes * group.connections for group in groups) + largest, True
