"""What becomes of fork servers: booting, failing at it, ending, and being booted again."""

from __future__ import annotations

from collections.abc import Callable

from soniqd.log import catalogue
from soniqd.model.child import ExitCause
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev
from soniqd.policy.supervision.life import ChildLife
from soniqd.policy.supervision.restarts import BACKOFF_MAX_S, STABLE_AFTER_S, next_delay_s
from soniqd.policy.supervision.rolling import RollingRestarts
from soniqd.policy.supervision.rollouts import Rollouts
from soniqd.policy.supervision.roster import ChildState, ForkServer, Roster


class ForkServers:
    """One a generation that anything new may come from: the one in force, and the one that is being rolled out.

    One that ends is booted again, later and later.
    """

    def __init__(
        self,
        roster: Roster,
        life: ChildLife,
        rollouts: Rollouts,
        restarts: RollingRestarts,
        out: list[fx.Effect],
        *,
        random: Callable[[], float],
    ) -> None:
        self._roster = roster
        self._life = life
        self._rollouts = rollouts
        self._restarts = restarts
        self._out = out
        self._random = random

    def boot(self, generation: int) -> None:
        """Have a generation's fork server made, for the first time or again."""
        server = self._roster.fork_servers.setdefault(generation, ForkServer(generation))
        server.booted, server.retry_s = False, None
        self._out.append(fx.Boot(generation))

    def reboot_lost(self, now_s: float) -> None:
        """Boot those again whose time has come."""
        for server in self._roster.fork_servers.values():
            if server.retry_s is not None and server.retry_s <= now_s:
                self.boot(server.generation)

    def next_waits_s(self) -> list[float | None]:
        """List the times at which one is to be booted again."""
        return [server.retry_s for server in self._roster.fork_servers.values()]

    def booted(self, event: ev.Booted, now_s: float) -> bool:
        """Note that one can fork; false if nobody wants it any more."""
        server = self._roster.fork_servers.get(event.generation)
        if server is None:
            return False
        server.booted, server.booted_s, server.fingerprint = True, now_s, event.fingerprint
        self._rollouts.booted(event.generation, now_s)
        return True

    def boot_failed(self, event: ev.BootFailed, now_s: float) -> None:
        """Let what depends on it know, and try again later if it is needed."""
        server = self._roster.fork_servers.get(event.generation)
        if server is None:
            return
        if self._rollouts.generation_failed(event.generation, event.reason, now_s):
            del self._roster.fork_servers[event.generation]
        else:
            self.report_boot_failure(event)
            self._restarts.generation_failed(f"generation {event.generation} cannot boot: {event.reason}")
            self._boot_later(server, now_s)

    def report_boot_failure(self, event: ev.BootFailed) -> None:
        """Say why one cannot boot."""
        fields = {"generation": event.generation, "reason": event.reason}
        self._out.append(fx.Report(catalogue.BOOT_FAILED, fields))

    def lost(self, event: ev.ForkServerLost, now_s: float, *, report: bool) -> None:
        """Give up what it was forking, and boot it again if it is needed."""
        server = self._roster.fork_servers.get(event.generation)
        if server is None:
            return
        if now_s - server.booted_s >= STABLE_AFTER_S:
            server.losses = 0
        server.booted = False
        if report:
            fields = {"generation": event.generation, "cause": str(event.cause)}
            self._out.append(fx.Report(catalogue.FORK_SERVER_LOST, fields))
        reason = f"its fork server ended with {event.cause}"
        is_rollouts = self._rollouts.generation_failed(event.generation, reason, now_s)
        for child in list(self._roster.children.values()):
            if child.state is ChildState.FORKING and child.spec.generation == event.generation:
                self._out.append(fx.Forget(child.worker_id))
                cause = ExitCause(not_started=reason)
                self._life.gone(child, cause, now_s, reason=f"{child.spec.slot} cannot be forked: {reason}")
        if not is_rollouts:  # which retires it with its end
            self._boot_later(server, now_s)

    def _boot_later(self, server: ForkServer, now_s: float) -> None:
        server.losses += 1
        server.retry_s = now_s + min(next_delay_s(server.losses, random=self._random()), BACKOFF_MAX_S)
