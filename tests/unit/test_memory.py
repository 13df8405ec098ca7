"""Conversation memory."""

from datetime import timedelta
from typing import Literal

import pytest

from app.memory import LocalMemory, Turn
from tests.conftest import StillClock


@pytest.fixture
def memory(clock: StillClock) -> LocalMemory:
    return LocalMemory(clock, users=3)


def turn(clock: StillClock, text: str, role: Literal["user", "assistant"] = "user") -> Turn:
    return Turn(role, text, clock())


async def texts(memory: LocalMemory, tenant: str = "acme", user: str = "ann") -> list[str]:
    return [said.text for said in await memory.recent(tenant, user)]


async def test_turns_come_back_oldest_first(memory: LocalMemory, clock: StillClock) -> None:
    await memory.add("acme", "ann", turn(clock, "question"), turn(clock, "answer", "assistant"))
    await memory.add("acme", "ann", turn(clock, "another"))
    assert await texts(memory) == ["question", "answer", "another"]
    assert (await memory.recent("acme", "ann"))[1].role == "assistant"


async def test_only_the_last_ten_are_kept(memory: LocalMemory, clock: StillClock) -> None:
    await memory.add("acme", "ann", *(turn(clock, str(number)) for number in range(7)))
    await memory.add("acme", "ann", *(turn(clock, str(number)) for number in range(7, 13)))
    assert await texts(memory) == [str(number) for number in range(3, 13)]


async def test_a_day_later_they_are_gone(memory: LocalMemory, clock: StillClock) -> None:
    await memory.add("acme", "ann", turn(clock, "old"))
    clock.advance(hours=1)
    await memory.add("acme", "ann", turn(clock, "new"))
    clock.now += timedelta(hours=23)
    assert await texts(memory) == ["new"]
    clock.advance(hours=1)
    assert await texts(memory) == []


async def test_users_and_tenants_are_apart(memory: LocalMemory, clock: StillClock) -> None:
    await memory.add("acme", "ann", turn(clock, "hers"))
    assert await texts(memory, "acme", "bob") == []
    assert await texts(memory, "other", "ann") == []


async def test_forgetting_erases_one_user(memory: LocalMemory, clock: StillClock) -> None:
    await memory.add("acme", "ann", turn(clock, "hers"))
    await memory.add("acme", "bob", turn(clock, "his"))
    await memory.forget("acme", "ann")
    await memory.forget("acme", "ann")
    assert await texts(memory) == []
    assert await texts(memory, user="bob") == ["his"]


async def test_the_conversation_unused_longest_makes_room(memory: LocalMemory, clock: StillClock) -> None:
    for user in ("ann", "bob", "cyd"):
        await memory.add("acme", user, turn(clock, user))
    await memory.recent("acme", "ann")
    await memory.add("acme", "dan", turn(clock, "dan"))
    assert [await texts(memory, user=user) for user in ("ann", "bob", "cyd", "dan")] == [["ann"], [], ["cyd"], ["dan"]]
