"""Conversation memory in process; what every kind of it does is in tests/contract/test_memory.py."""

from app.memory import LocalMemory, Turn
from tests.conftest import StillClock


async def test_the_user_who_was_away_longest_makes_room(clock: StillClock) -> None:
    memory = LocalMemory(clock, users=3)
    for user in ("ann", "bob", "cyd"):
        await memory.add("acme", "shop", user, Turn("user", user, clock()))
    await memory.recent("acme", "shop", "ann")
    await memory.add("acme", "shop", "dan", Turn("user", "dan", clock()))
    kept = [[said.text for said in await memory.recent("acme", "shop", user)] for user in ("ann", "bob", "cyd", "dan")]
    assert kept == [["ann"], [], ["cyd"], ["dan"]]


async def test_a_summary_of_yesterday_is_gone(clock: StillClock) -> None:
    memory = LocalMemory(clock)
    await memory.summarise("acme", "shop", "ann", "text")
    clock.advance(hours=24)
    assert await memory.summary("acme", "shop", "ann") is None
    assert await memory.export("acme", "ann") == {}


async def test_asking_makes_no_room_for_nobody(clock: StillClock) -> None:
    memory = LocalMemory(clock, users=1)
    await memory.add("acme", "shop", "ann", Turn("user", "hers", clock()))
    for user in ("bob", "cyd"):
        assert list(await memory.recent("acme", "shop", user)) == []
        assert await memory.summary("acme", "shop", user) is None
    assert len(await memory.recent("acme", "shop", "ann")) == 1
