import asyncio

from soniqd.worker.changes import Changes


def waits(changes: Changes) -> bool:
    return changes._timer is not None


async def test_a_change_that_comes_alone_is_told_at_once_and_sets_no_timer() -> None:
    told: list[int] = []
    changes = Changes(lambda: lambda: told.append(1))
    changes.note()
    assert told == [1]
    assert not waits(changes)


async def test_changes_that_follow_within_a_moment_are_told_once_and_none_is_forgotten() -> None:
    told: list[int] = []
    again = asyncio.Event()

    def tell() -> None:
        told.append(1)
        if len(told) == 2:
            again.set()

    changes = Changes(lambda: tell)
    for _ in range(100):
        changes.note()
    assert told == [1]
    await asyncio.wait_for(again.wait(), 5)
    assert len(told) == 2


async def test_what_was_noted_is_not_told_after_the_end() -> None:
    told: list[int] = []
    changes = Changes(lambda: lambda: told.append(1))
    changes.note()
    changes.note()
    assert waits(changes)
    changes.close()
    assert not waits(changes)
    assert told == [1]


async def test_where_nobody_listens_nothing_waits() -> None:
    changes = Changes(lambda: None)
    changes.note()
    changes.note()
    assert not waits(changes)
