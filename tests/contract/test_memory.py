"""The same conversation memory in process, in Redis and on a Redis cluster."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Literal

import pytest

from app.cache.connection import connect
from app.ids import new_id
from app.memory import Conversation, ConversationMemory, LocalMemory, RedisMemory, Talk, Turn
from tests.conftest import StillClock


@pytest.fixture(params=["local", "redis", "cluster"])
async def memory(request: pytest.FixtureRequest, clock: StillClock) -> AsyncIterator[ConversationMemory]:
    if request.param == "local":
        yield LocalMemory(clock)
        return
    place = request.getfixturevalue("redis_cluster" if request.param == "cluster" else "redis_server")
    link = connect(place if isinstance(place, str) else place.url)
    yield RedisMemory(link, clock, prefix=new_id("test"))
    await link.close()


def turn(clock: StillClock, text: str, role: Literal["user", "assistant"] = "user") -> Turn:
    return Turn(role, text, clock())


async def texts(memory: ConversationMemory, tenant: str = "acme", bot: str = "shop", user: str = "ann") -> list[str]:
    return [said.text for said in await memory.recent(tenant, bot, user)]


async def test_turns_come_back_whole_and_oldest_first(memory: ConversationMemory, clock: StillClock) -> None:
    question, answer = turn(clock, "question"), turn(clock, "answer\n\x00 é", "assistant")
    await memory.add("acme", "shop", "ann", question, answer)
    await memory.add("acme", "shop", "ann", turn(clock, "another"))
    await memory.add("acme", "shop", "ann")
    assert list(await memory.recent("acme", "shop", "ann")) == [question, answer, turn(clock, "another")]


async def test_what_is_added_to_comes_back_as_it_is_then(memory: ConversationMemory, clock: StillClock) -> None:
    await memory.add("acme", "shop", "ann", *(turn(clock, str(number)) for number in range(9)))
    clock.advance(hours=23)
    added = await memory.add("acme", "shop", "ann", turn(clock, "9"), turn(clock, "10"))
    assert [said.text for said in added] == [str(number) for number in range(1, 11)]
    clock.advance(hours=2)
    added = await memory.add("acme", "shop", "ann", turn(clock, "11"))
    assert [said.text for said in added] == ["9", "10", "11"] == await texts(memory)


async def test_only_the_last_ten_are_kept(memory: ConversationMemory, clock: StillClock) -> None:
    await memory.add("acme", "shop", "ann", *(turn(clock, str(number)) for number in range(7)))
    await memory.add("acme", "shop", "ann", *(turn(clock, str(number)) for number in range(7, 13)))
    assert await texts(memory) == [str(number) for number in range(3, 13)]


async def test_a_day_later_they_are_gone(memory: ConversationMemory, clock: StillClock) -> None:
    await memory.add("acme", "shop", "ann", turn(clock, "old"))
    clock.advance(hours=1)
    await memory.add("acme", "shop", "ann", turn(clock, "new"))
    clock.now += timedelta(hours=23)
    assert await texts(memory) == ["new"]
    clock.advance(hours=1)
    assert await texts(memory) == []
    assert await memory.export("acme", "ann") == {}


# A separator or a brace in an id must not make one user's place another's.
@pytest.mark.parametrize(
    ("tenant", "bot", "user"),
    [
        ("acme", "shop", "bob"),
        ("other", "shop", "ann"),
        ("acme", "help", "ann"),
        ("acme", "shop", "ann:turns"),
        ("acme", "shop", "{ann}"),
        ("acme", "turns:shop", "ann"),
    ],
)
async def test_tenants_bots_and_users_are_apart(
    memory: ConversationMemory, clock: StillClock, tenant: str, bot: str, user: str
) -> None:
    await memory.add("acme", "shop", "ann", turn(clock, "hers"))
    await memory.summarise("acme", "shop", "ann", "about her")
    assert await texts(memory, tenant, bot, user) == []
    assert await memory.summary(tenant, bot, user) is None
    await memory.add(tenant, bot, user, turn(clock, "theirs"))
    assert (await texts(memory), await texts(memory, tenant, bot, user)) == (["hers"], ["theirs"])


async def test_a_summary_is_kept_beside_the_turns_and_replaced(memory: ConversationMemory, clock: StillClock) -> None:
    assert await memory.summary("acme", "shop", "ann") is None
    await memory.summarise("acme", "shop", "ann", "first")
    await memory.summarise("acme", "shop", "ann", "second é")
    assert await memory.summary("acme", "shop", "ann") == "second é"
    assert await texts(memory) == []


async def test_forgetting_erases_one_user_at_every_bot(memory: ConversationMemory, clock: StillClock) -> None:
    for bot in ("shop", "help"):
        await memory.add("acme", bot, "ann", turn(clock, "hers"))
        await memory.summarise("acme", bot, "ann", "about her")
    await memory.add("acme", "shop", "bob", turn(clock, "his"))
    await memory.add("rival", "shop", "ann", turn(clock, "another's"))
    await memory.forget("acme", "ann")
    await memory.forget("acme", "ann")
    assert [await texts(memory, bot=bot) for bot in ("shop", "help")] == [[], []]
    assert await memory.summary("acme", "help", "ann") is None
    assert await memory.export("acme", "ann") == {}
    assert await texts(memory, user="bob") == ["his"]
    assert await texts(memory, "rival") == ["another's"]
    await memory.add("acme", "shop", "ann", turn(clock, "again"))
    assert await texts(memory) == ["again"]


async def test_an_export_holds_all_that_is_kept_of_one_user(memory: ConversationMemory, clock: StillClock) -> None:
    hers = turn(clock, "hers")
    await memory.add("acme", "shop", "ann", hers)
    await memory.summarise("acme", "help", "ann", "about her")
    await memory.add("acme", "shop", "bob", turn(clock, "his"))
    assert await memory.export("acme", "ann") == {
        "shop": Conversation((hers,)),
        "help": Conversation((), "about her"),
    }


async def everything(memory: ConversationMemory) -> list[Talk]:
    found = [talk async for talk in memory.talks()]
    return sorted(found, key=lambda talk: (talk.tenant_id, talk.user, talk.bot))


async def test_what_one_memory_gives_out_another_takes_in(memory: ConversationMemory, clock: StillClock) -> None:
    for user in ("ann", "{bob}:who", "cyd@example.com"):
        await memory.add("acme", "shop", user, turn(clock, "question"), turn(clock, "answer\x00é", "assistant"))
    await memory.add("rival", "help", "ann", turn(clock, "another's"))
    kept = await everything(memory)
    assert [(talk.tenant_id, talk.bot, talk.user) for talk in kept] == [
        ("acme", "shop", "ann"),
        ("acme", "shop", "cyd@example.com"),
        ("acme", "shop", "{bob}:who"),
        ("rival", "help", "ann"),
    ]
    assert [said.text for said in kept[0].turns] == ["question", "answer\x00é"]
    for talk in kept:
        await memory.forget(talk.tenant_id, talk.user)
    assert await everything(memory) == []
    await memory.restore(kept)
    await memory.restore(kept)
    assert await everything(memory) == kept


async def test_a_summary_moves_with_its_time(memory: ConversationMemory, clock: StillClock) -> None:
    said = clock() - timedelta(hours=23)
    await memory.restore([Talk("acme", "shop", "ann", (), ("about her", said))])
    await memory.restore([Talk("acme", "shop", "ann", (), ("another", clock()))])
    (talk,) = await everything(memory)
    assert talk.summary is not None
    assert talk.summary[0] == "about her"
    # Redis keeps its own time, in which this test takes some.
    assert abs(talk.summary[1] - said) < timedelta(minutes=1)
    await memory.restore([Talk("acme", "help", "ann", (), ("too old", clock() - timedelta(hours=24)))])
    assert await memory.summary("acme", "help", "ann") is None


async def test_what_was_said_before_comes_before_what_is_said_now(
    memory: ConversationMemory, clock: StillClock
) -> None:
    old = tuple(turn(clock, str(number)) for number in range(8))
    clock.advance(hours=23)
    await memory.add("acme", "shop", "ann", turn(clock, "8"))
    for _ in range(2):
        await memory.restore([Talk("acme", "shop", "ann", old)])
    assert await texts(memory) == [str(number) for number in range(9)]
    await memory.add("acme", "shop", "ann", *(turn(clock, str(number)) for number in (9, 10)))
    assert await texts(memory) == [str(number) for number in range(1, 11)]
    clock.advance(hours=1)
    await memory.restore([Talk("acme", "help", "ann", old)])
    assert await texts(memory, bot="help") == []


async def test_forgetting_leaves_nobody_to_give_out(memory: ConversationMemory, clock: StillClock) -> None:
    await memory.add("acme", "shop", "ann", turn(clock, "hers"))
    await memory.add("acme", "help", "ann", turn(clock, "hers"))
    await memory.forget("acme", "ann", "shop")
    assert [talk.bot for talk in await everything(memory)] == ["help"]
    await memory.forget("acme", "ann", "help")
    assert await everything(memory) == []
