"""Scripts of events for the supervision machine: what happens, and what it asks for."""

from __future__ import annotations

import itertools

from soniqd.model.child import ExitCause, GroupPlan
from soniqd.policy.supervision import Supervision
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev

MAIL = GroupPlan(role="worker", name="mail", processes=2, concurrency=3, drain_timeout_s=30.0, hang_timeout_s=60.0)
ONE = GroupPlan(role="worker", name="mail", processes=1, drain_timeout_s=30.0, hang_timeout_s=60.0)
CLOCK = GroupPlan(role="scheduler", name="scheduler", processes=1, drain_timeout_s=30.0)
KILLED = ExitCause(signal=9)
CLEAN = ExitCause(code=0)


class Script:
    """Plays events against a machine, at a clock of its own. Children are called w1, w2, ... as they are asked for."""

    def __init__(self, *plan: GroupPlan) -> None:
        counter = itertools.count(1)
        self.machine = Supervision(plan, new_id=lambda: f"w{next(counter)}", random=lambda: 0.5)
        self.now = 1000.0
        self.seen: list[fx.Effect] = self.machine.start(self.now)

    def tell(self, *events: ev.Event, after: float = 0.0) -> list[fx.Effect]:
        self.now += after
        self.seen = []
        for event in events:
            self.seen += self.machine.handle(event, self.now)
        return self.seen

    def wait(self, seconds: float) -> list[fx.Effect]:
        return self.tell(ev.Elapsed(), after=seconds)

    def start(self, *workers: str) -> list[fx.Effect]:
        """Let these children be forked and get ready."""
        return self.tell(*(event for w in workers for event in (ev.Forked(w, int(w[1:]) + 100), ev.Ready(w))))

    @property
    def forks(self) -> list[str]:
        return [effect.spec.worker_id for effect in self.seen if isinstance(effect, fx.Fork)]

    @property
    def drains(self) -> list[str]:
        return [effect.worker_id for effect in self.seen if isinstance(effect, fx.Drain)]

    @property
    def kills(self) -> list[tuple[str, str]]:
        return [(effect.worker_id, effect.signal) for effect in self.seen if isinstance(effect, fx.Kill)]

    @property
    def releases(self) -> list[tuple[str, str]]:
        return [(effect.worker_id, effect.cause) for effect in self.seen if isinstance(effect, fx.Release)]

    @property
    def reports(self) -> list[str]:
        return [effect.event.name for effect in self.seen if isinstance(effect, fx.Report)]

    @property
    def reload_errors(self) -> list[str | None]:
        return [effect.error for effect in self.seen if isinstance(effect, fx.ReloadEnded)]

    @property
    def restart_errors(self) -> list[str | None]:
        return [effect.error for effect in self.seen if isinstance(effect, fx.RestartEnded)]

    @property
    def slots(self) -> list[tuple[str, int]]:
        """Slot and generation of the children that are being made."""
        specs = [effect.spec for effect in self.seen if isinstance(effect, fx.Fork)]
        return [(spec.slot, spec.generation) for spec in specs]

    @property
    def retired(self) -> list[int]:
        return [effect.generation for effect in self.seen if isinstance(effect, fx.Retire)]

    @property
    def finish(self) -> list[int]:
        return [effect.exit_code for effect in self.seen if isinstance(effect, fx.Finish)]


def running(*plan: GroupPlan) -> Script:
    script = Script(*plan)
    script.tell(ev.Booted(1))
    script.start(*script.forks)
    return script
