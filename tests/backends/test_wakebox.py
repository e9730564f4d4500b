import asyncio

from soniqd.backends import WakeUp
from soniqd.backends.wakebox import WakeBox


def listened_to():
    box = WakeBox()
    heard: list[WakeUp] = []
    box.hand_to(heard.append)
    return box, heard


async def test_the_first_is_handed_over_at_once_and_what_follows_in_one_at_the_next_turn():
    box, heard = listened_to()
    box.add("a")
    assert heard == [WakeUp(queue="a")]
    for queue in ("b", "b", "a"):
        box.add(queue)
    assert heard == [WakeUp(queue="a")]
    await asyncio.sleep(0)
    assert heard[1:] == [WakeUp(queue="a"), WakeUp(queue="b")]


async def test_a_burst_is_handed_over_merged_at_its_end():
    box, heard = listened_to()
    with box.burst():
        for queue in ("a", "a", None, "b"):
            box.add(queue)
        assert heard == []
    assert heard == [WakeUp(), WakeUp(queue="a"), WakeUp(queue="b")]


async def test_a_burst_right_after_a_wake_up_loses_nothing():
    box, heard = listened_to()
    box.add("a")
    with box.burst():
        box.add("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    box.add("b")
    assert heard == [WakeUp(queue="a"), WakeUp(queue="a"), WakeUp(queue="b")]


async def test_who_hears_may_add():
    box = WakeBox()
    heard: list[str | None] = []

    def hear(wake_up):
        heard.append(wake_up.queue)
        if wake_up.queue == "a":
            box.add("b")

    box.hand_to(hear)
    box.add("a")
    assert heard == ["a"]
    await asyncio.sleep(0)
    assert heard == ["a", "b"]


async def test_what_came_before_is_left_to_whoever_waits():
    box = WakeBox()
    box.add("before")
    box.hand_to(print)
    assert await box.wait(None) == (WakeUp(queue="before"),)
