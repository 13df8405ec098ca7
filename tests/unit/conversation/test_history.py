"""What of a conversation a prompt has room for, and what is summarised."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent.model import ModelError, ModelReply, ModelRequest, estimate_tokens
from app.conversation.history import History, fitting
from app.memory import Turn
from app.principal import Principal, Role
from tests.support.agents import ScriptedModel, reply
from tests.support.conversation import ASKER, BOT, PRICE_ANSWER, PRICE_QUESTION, Builder, Talk, assistant_spec

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def turns(*lengths: int) -> list[Turn]:
    return [
        Turn("user" if at % 2 == 0 else "assistant", str(at)[0] * length, NOW + timedelta(seconds=at))
        for at, length in enumerate(lengths)
    ]


@given(st.lists(st.integers(0, 400), max_size=10), st.integers(0, 500))
def test_the_newest_whole_exchanges_that_fit_are_kept(lengths: list[int], tokens: int) -> None:
    said = turns(*lengths)
    kept = fitting(said, tokens)
    assert list(kept) == said[len(said) - len(kept) :]
    assert sum(estimate_tokens(turn.text) for turn in kept) <= tokens
    assert not kept or kept[0].role == "user"


def test_all_is_kept_where_there_is_room() -> None:
    assert len(fitting(turns(40, 40, 40, 40), 1000)) == 4
    assert len(fitting(turns(40, 40, 40, 40), 40)) == 2
    assert fitting(turns(40, 4000), 100) == ()


def test_a_prompt_shows_the_summary_before_the_turns() -> None:
    assert History().prompted() == "none"
    assert not History()
    shown = History((Turn("user", "hi", NOW),), "They want a sensor.").prompted()
    assert shown == "Before that, in short: They want a sensor.\nuser: hi"


async def talk_for_long(talk: Talk, *questions: str) -> None:
    for question in questions:
        talk.clock.advance(seconds=10)
        await talk.assistant.answer(ASKER, assistant_spec(history_tokens=60), question)
        await talk.assistant.settled()


LONG = f"{PRICE_QUESTION} {'of the blue kind ' * 5}"


async def test_what_has_no_room_is_summarised_and_the_next_prompt_has_the_summary(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER, PRICE_ANSWER, "They ask for the price of blue sensors.", PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    await talk_for_long(talk, LONG, LONG, "and the refund?")
    summary, third = model.asked[2], model.asked[3]
    assert summary.prompt == "conversation_summary"
    assert LONG.strip() in summary.messages[1].content
    assert "in short: They ask for the price of blue sensors." in third.messages[1].content
    assert await talk.memory.summary("acme", BOT, ASKER.user)


async def test_a_turn_is_summarised_once(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER, PRICE_ANSWER, "Notes.", PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    await talk_for_long(talk, LONG, LONG, "hello")
    summaries = [request for request in model.asked if request.prompt == "conversation_summary"]
    assert sum(request.messages[1].content.count(LONG.strip()) for request in summaries) == 2
    assert "Notes." in summaries[1].messages[1].content


async def test_a_summary_that_fails_drops_the_old_turns_and_nothing_else(talking: Builder) -> None:
    async def model(request: ModelRequest) -> ModelReply:
        if request.prompt == "conversation_summary":
            raise ModelError("away", retryable=False)
        return reply(PRICE_ANSWER)

    talk = talking(ScriptedModel(model))
    await talk.fill()
    await talk_for_long(talk, LONG, LONG)
    answer = await talk.assistant.answer(ASKER, assistant_spec(history_tokens=60), PRICE_QUESTION)
    assert answer.text == PRICE_ANSWER
    assert await talk.memory.summary("acme", BOT, ASKER.user) is None


@pytest.mark.parametrize("other", ["bot", "user", "tenant"])
async def test_a_conversation_belongs_to_one_user_and_one_bot(talking: Builder, other: str) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    for tenant in ("acme", "other"):
        for bot in (BOT, "second"):
            await talk.fill(tenant, bot)
    await talk.assistant.answer(ASKER, assistant_spec(), f"{PRICE_QUESTION} SECRET")
    who = Principal("other" if other == "tenant" else "acme", "key_x" if other == "user" else ASKER.actor, Role.AGENT)
    spec = assistant_spec(bot="second" if other == "bot" else BOT)
    await talk.assistant.answer(who, spec, PRICE_QUESTION)
    assert "SECRET" not in model.asked[-1].messages[1].content
