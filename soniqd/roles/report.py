"""What a child tells about itself: to the master over the link, to people in its process title."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from setproctitle import setproctitle

from soniqd.control.link import State
from soniqd.model.child import ChildSpec

LEAST_INTERVAL_S = 0.25


class Reporter:
    """Reports a state soon after it changed, but at most four times a second.

    :meth:`changed` is called for every job, so it does next to nothing; :meth:`report_now` is for a new phase.
    """

    def __init__(
        self,
        spec: ChildSpec,
        loop: asyncio.AbstractEventLoop,
        *,
        observe: Callable[[], State],
        send: Callable[[State], None],
    ) -> None:
        self._spec = spec
        self._loop = loop
        self._observe = observe
        self._send = send
        self._last: State | None = None
        self._title = ""
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_until = 0.0

    def changed(self) -> None:
        """Report now if nothing was reported lately, else when the interval is over."""
        if self._timer is not None:
            return
        if self._loop.time() < self._quiet_until:
            self._timer = self._loop.call_at(self._quiet_until, self._interval_over)
        else:
            self.report_now()

    def report_now(self) -> None:
        """Report, unless it would be what was reported last."""
        state = self._observe()
        if state != self._last:
            self._last = state
            self._send(state)
            self._entitle(title(self._spec, state))
        self._quiet_until = self._loop.time() + LEAST_INTERVAL_S

    def stop(self) -> None:
        """Report no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _interval_over(self) -> None:
        self._timer = None
        self.report_now()

    def _entitle(self, text: str) -> None:
        if text != self._title:
            self._title = text
            setproctitle(text)


def title(spec: ChildSpec, state: State) -> str:
    """Word the process title: ``soniqd: worker default/2 [3 running]``, ``soniqd: scheduler [leading]``."""
    place = spec.role if spec.role == "scheduler" and spec.index == 1 else f"{spec.role} {spec.slot}"
    return f"soniqd: {place} [{_activity(state)}]"


def _activity(state: State) -> str:
    running = f"{state.in_flight} running" if state.in_flight else "idle"
    match state.phase:
        case "running":
            return running
        case "leading" | "following" | "starting":
            return state.phase
        case "waiting_for_database" if not state.in_flight:
            return "waiting for database"
        case phase:
            return f"{phase.replace('_', ' ')}, {running}"
