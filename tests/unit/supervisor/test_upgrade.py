"""Letting go of the database before another image takes over."""

from __future__ import annotations

import asyncio

from soniqd.errors import DatabaseUnavailableError
from soniqd.supervisor.upgrade import end_in_time


async def test_a_duty_that_does_not_end_in_time_keeps_no_other_from_being_told_to() -> None:
    told: list[str] = []

    async def stuck() -> None:
        told.append("stuck")
        await asyncio.sleep(3600)

    async def refused() -> None:
        told.append("refused")
        raise DatabaseUnavailableError("the connection is lost")

    async def last() -> None:
        told.append("last")
        await asyncio.sleep(3600)

    async with asyncio.timeout(5):
        await end_in_time((refused, stuck, last), 0.02)

    assert told == ["refused", "stuck", "last"]
