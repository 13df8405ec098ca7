"""Conversation memory in process; what every kind of it does is in tests/contract/test_memory.py."""

from app.memory import KEPT_BOTS, LocalMemory, Turn
from tests.conftest import StillClock


async def test_the_user_who_was_away_longest_makes_room(clock: StillClock) -> None:
    memory = LocalMemory(clock, max_bytes=3 * 1_400)
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
    memory = LocalMemory(clock, max_bytes=1_400)
    await memory.add("acme", "shop", "ann", Turn("user", "hers", clock()))
    for user in ("bob", "cyd"):
        assert list(await memory.recent("acme", "shop", user)) == []
        assert await memory.summary("acme", "shop", user) is None
    assert len(await memory.recent("acme", "shop", "ann")) == 1


async def test_long_texts_make_room_as_many_users_do(clock: StillClock) -> None:
    memory = LocalMemory(clock, max_bytes=200_000)
    for number in range(100):
        await memory.add("acme", "shop", f"u-{number}", *(Turn("user", "x" * 8_000, clock()) for _ in range(10)))
    kept = [number for number in range(100) if await memory.recent("acme", "shop", f"u-{number}")]
    assert kept == [98, 99]


async def test_one_user_never_fills_the_memory_with_bots_or_words(clock: StillClock) -> None:
    memory = LocalMemory(clock, max_bytes=100_000)
    await memory.add("acme", "shop", "ann", Turn("user", "hers", clock()))
    for number in range(2 * KEPT_BOTS):
        await memory.add("acme", f"bot-{number}", "bob", Turn("user", "his", clock()))
    assert list(await memory.export("acme", "bob")) == [f"bot-{number}" for number in range(KEPT_BOTS, 2 * KEPT_BOTS)]
    assert await memory.recent("acme", "shop", "ann")
    await memory.add("acme", "shop", "cyd", Turn("user", "x" * 500_000, clock()))
    assert len(await memory.recent("acme", "shop", "cyd")) == 1


async def test_what_is_forgotten_leaves_its_room_to_others(clock: StillClock) -> None:
    memory = LocalMemory(clock, max_bytes=50_000)
    await memory.add("acme", "shop", "ann", Turn("user", "hers", clock()))
    for _ in range(20):
        await memory.add("acme", "shop", "bob", Turn("user", "x" * 20_000, clock()))
        await memory.forget("acme", "bob", "shop")
    await memory.add("acme", "shop", "cyd", Turn("user", "x" * 20_000, clock()))
    assert await memory.recent("acme", "shop", "ann")
