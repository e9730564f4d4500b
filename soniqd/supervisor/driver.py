"""Drives the supervision machine: events in, one after the other; effects out; its deadlines kept.

Whatever goes wrong with one effect, those behind it are carried out. Events that effects cause wait for their turn, so
that the machine never hears of one in the middle of another.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from soniqd.log import catalogue, emit
from soniqd.policy.supervision import Supervision
from soniqd.policy.supervision import effects as fx
from soniqd.policy.supervision import events as ev


class Driver:
    """``carry_out`` does what one effect asks for, ``on_turn`` is called whenever all that was told is done.

    ``finished`` gets the exit code; after that no deadline is kept.
    """

    def __init__(
        self,
        supervision: Supervision,
        *,
        loop: asyncio.AbstractEventLoop,
        carry_out: Callable[[fx.Effect], None],
        on_turn: Callable[[], None],
    ) -> None:
        self.finished: asyncio.Future[int] = loop.create_future()
        self._supervision = supervision
        self._loop = loop
        self._carry_out = carry_out
        self._on_turn = on_turn
        self._inbox: list[ev.Event] = []
        self._handling = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Let the machine begin, if it has not in an earlier image of this process."""
        self._carry_out_all(self._supervision.start(time.monotonic()))

    def tell(self, event: ev.Event) -> None:
        """Hand an event to the machine and carry its effects out. Events that effects cause wait for their turn."""
        self._inbox.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._inbox:
                self._carry_out_all(self._supervision.handle(self._inbox.pop(0), time.monotonic()))
        finally:
            self._handling = False
        self._set_timer()
        self._on_turn()

    def finish(self, exit_code: int) -> None:
        """Have done; the first exit code counts."""
        if not self.finished.done():
            self.finished.set_result(exit_code)

    def close(self) -> None:
        """Keep no deadline any more until something is told."""
        if self._timer is not None:
            self._timer.cancel()

    def _carry_out_all(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            try:
                self._carry_out(effect)
            except Exception as error:  # noqa: BLE001  the effects behind it must be carried out whatever it meets
                duty = f"carry out {type(effect).__name__}"
                emit(catalogue.DUTY_FAILED, exc_info=error, duty=duty, error=f"{type(error).__name__}: {error}")

    def _set_timer(self) -> None:
        self.close()
        deadline_s = self._supervision.next_deadline_s()
        self._timer = None
        if deadline_s is not None and not self.finished.done():
            delay_s = max(0.0, deadline_s - time.monotonic())
            self._timer = self._loop.call_later(delay_s, self.tell, ev.Elapsed())
