"""Examining a store that is as it should be."""

from __future__ import annotations

from soniqd.backends import StorageBackend
from soniqd.policy.doctor import examine
from tests.backends.conformance.builders import job

NOT_DURABLE = "not_durable"
"""The PostgreSQL server of the tests writes nothing durably."""


async def test_a_store_of_ours_has_no_finding(backend: StorageBackend) -> None:
    await backend.enqueue([job()])
    checkup = await backend.checkup()
    assert {finding.code for finding in examine(checkup)} <= {NOT_DURABLE}
    assert checkup.location == backend.location


async def test_it_can_be_asked_again_and_the_store_works_on(backend: StorageBackend) -> None:
    for _ in range(2):
        await backend.checkup()
    await backend.enqueue([job()])
    [stats] = await backend.queue_stats()
    assert stats["queued"] == 1
