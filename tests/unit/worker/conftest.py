"""Fixtures of the worker's tests."""

from __future__ import annotations

import pytest

from tests.unit.worker.rig import Rig


@pytest.fixture
async def rig() -> Rig:
    rig = Rig()
    await rig.memory.open()
    return rig
