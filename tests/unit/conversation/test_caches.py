"""Which answers are given again, to whom, and until when."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import date
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent.model import ToolCall
from app.agent.tools import Effect, Tool, ToolContext
from app.cache.base import person_tag
from app.conversation.events import CacheHit, Token
from app.conversation.history import History
from app.conversation.keys import Ground, answer_key
from app.conversation.sameness import Sameness
from app.conversation.semantic import SemanticAnswers
from app.conversation.wire import load
from app.knowledge.language import LanguageGuess
from app.memory import Turn
from app.principal import Principal, Role
from tests.conftest import StillClock
from tests.support.agents import FindArgs, ScriptedModel, allow, reply
from tests.support.conversation import (
    ASKER,
    BOT,
    COLLEAGUE,
    PRICE_ANSWER,
    PRICE_QUESTION,
    STRANGER,
    Builder,
    GatedModel,
    Talk,
    assistant_spec,
    collected,
    last_answer,
    said,
    talking_prompt,
)

SPEC = assistant_spec()


async def ask(talk: Talk, who: Principal = ASKER, question: str = PRICE_QUESTION, **spec: Any) -> Any:
    return await talk.assistant.answer(who, assistant_spec(**spec), question, history=[])


async def test_the_same_question_is_answered_from_the_cache_and_says_what_it_saved(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    first = await ask(talk)
    events = await collected(
        talk.assistant.turn(COLLEAGUE, SPEC, f"  {PRICE_QUESTION.replace(' ', '  ')}\n", history=[], streamed=True)
    )
    again = last_answer(events)
    assert model.calls == 1
    assert (again.cache, again.cost_micros, again.saved_micros) == (CacheHit.EXACT, 0, first.cost_micros)
    assert said(events) == again.text == first.text
    assert (again.citations, again.decision_id) == (first.citations, first.decision_id)
    assert talk.count("answers_total", pack="chat", outcome="answered", cache="exact") == 1
    assert talk.count("cache_saved_usd_total", cache="answers") == pytest.approx(0.00014)
    assert talk.count("cache_requests_total", cache="answers", tier="none", result="miss") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "2"},
        {"prompt": talking_prompt(2)},
        {"prompt": talking_prompt(1, "Other words.")},
        {"temperature": 0.5},
        {"max_tokens": 400},
        {"passages": 3},
        {"tags": ("prices",)},
        {"cached": False},
    ],
)
async def test_another_setting_is_another_answer(talking: Builder, change: dict[str, Any]) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    await ask(talk)
    assert (await ask(talk, **change)).cache is CacheHit.NONE
    assert model.calls == 2


async def test_nothing_is_shared_across_tenants_or_bots(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    for tenant in ("acme", "other"):
        for bot in (BOT, "second"):
            await talk.fill(tenant, bot)
    semantic = {"semantic_threshold": 0.5}
    for who in (ASKER, STRANGER):
        for bot in (BOT, "second"):
            assert (await ask(talk, who, bot=bot, **semantic)).cache is CacheHit.NONE
            await talk.assistant.settled()
    assert model.calls == 4


async def test_personal_answers_are_each_ones_own(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    personal = {"personal": True, "semantic_threshold": 0.1}
    assert (await ask(talk, ASKER, **personal)).cache is CacheHit.NONE
    assert (await ask(talk, COLLEAGUE, **personal)).cache is CacheHit.NONE
    assert (await ask(talk, ASKER, **personal)).cache is CacheHit.EXACT
    await talk.assistant.settled()
    assert not [name for name in talk.store.kept if name.generation == "~answers"]


async def test_a_change_of_the_documents_ends_it(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    await ask(talk, semantic_threshold=0.5)
    await talk.assistant.settled()
    await talk.ingestor.put("acme", BOT, "prices", "Prices", "The price of a sensor is five euro.", [])
    assert (await ask(talk, semantic_threshold=0.5)).cache is CacheHit.NONE
    assert "five euro" in model.asked[1].messages[1].content


async def test_the_erasure_of_a_person_takes_the_answers_to_their_questions(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    await ask(talk)
    await talk.caches.drop(person_tag("acme", ASKER.user))
    assert (await ask(talk)).cache is CacheHit.NONE


async def test_a_switched_off_cache_answers_nothing_and_keeps_nothing(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    await ask(talk)
    await talk.set_flag("cache.answers", False, "acme")
    assert (await ask(talk, semantic_threshold=0.5)).cache is CacheHit.NONE
    assert talk.assistant.peek(ASKER, SPEC, PRICE_QUESTION, history=[]) is None
    assert talk.count("cache_requests_total", cache="answers", tier="none", result="off") == 1


async def test_what_was_said_before_is_part_of_the_question(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    now = talk.clock()
    for word in ("one", "two", "one"):
        await talk.assistant.answer(ASKER, SPEC, PRICE_QUESTION, history=[Turn("user", word, now)])
    assert model.calls == 2


def tool(result: Any) -> Tool:
    async def run(_context: ToolContext, _args: FindArgs) -> Any:
        return result

    return Tool("look", "Look.", FindArgs, run, Effect.READ)


async def test_an_answer_that_rests_on_a_tool_is_not_kept(talking: Builder) -> None:
    call = (ToolCall("c", "look", '{"query": "x"}'),)
    model = ScriptedModel(call, "You have 3 [1].", call, "You have 4 [1].")
    talk = talking(model, tools=[tool({"count": 3})])
    await talk.fill()
    await allow(talk.room, "look", by=Principal("acme", "key_admin", Role.ADMIN))
    spec = {"tools": ("look",), "semantic_threshold": 0.1}
    assert (await ask(talk, **spec)).text == "You have 3 [1]."
    await talk.assistant.settled()
    assert (await ask(talk, **spec)).text == "You have 4 [1]."


async def test_a_question_that_means_the_same_gets_the_same_answer(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    first = await ask(talk, semantic_threshold=0.8)
    await talk.assistant.settled()
    events = await collected(
        talk.assistant.turn(
            COLLEAGUE,
            assistant_spec(semantic_threshold=0.8),
            "what is the price of a sensor please",
            history=[],
            streamed=True,
        )
    )
    again = last_answer(events)
    assert (again.cache, again.text, again.saved_micros) == (CacheHit.SEMANTIC, first.text, first.cost_micros)
    assert talk.count("cache_requests_total", cache="semantic", tier="l1", result="hit") == 1
    assert talk.count("answers_total", pack="chat", outcome="answered", cache="semantic") == 1
    assert len(await talk.decisions()) == 1


async def test_an_answer_that_repeats_its_asker_is_for_those_who_say_the_same(talking: Builder) -> None:
    talk = talking(ScriptedModel("It is four euro fifty each month, Zanzibar [1]."))
    await talk.fill()
    await ask(talk, question=f"{PRICE_QUESTION} for zanzibar", semantic_threshold=0.5)
    await talk.assistant.settled()
    other = await ask(talk, COLLEAGUE, f"{PRICE_QUESTION} for bo", semantic_threshold=0.5)
    assert other.cache is CacheHit.NONE
    same = await ask(talk, COLLEAGUE, f"for zanzibar {PRICE_QUESTION}", semantic_threshold=0.5)
    assert same.cache is CacheHit.SEMANTIC


@pytest.mark.parametrize(
    "other",
    [
        "when is a refund paid",  # means something else
        "what is the price of 2 a sensor",  # another figure
    ],
)
async def test_another_meaning_or_figure_is_another_question(talking: Builder, other: str) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    await ask(talk, semantic_threshold=0.8)
    await talk.assistant.settled()
    assert (await ask(talk, question=other, semantic_threshold=0.8)).cache is CacheHit.NONE


@pytest.mark.parametrize("what", ["for 2 sensors", "for jo@acme.example", "under POL-0012345", "on ٣ sensors"])
async def test_a_question_with_a_figure_or_personal_data_is_neither_kept_nor_answered_by_meaning(
    talking: Builder, what: str
) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    question, spec = f"{PRICE_QUESTION} {what}", {"semantic_threshold": 0.5}
    await ask(talk, question=question, **spec)
    await talk.assistant.settled()
    assert not [name for name in talk.store.kept if name.generation == "~answers"]
    assert (await ask(talk, COLLEAGUE, question.upper(), **spec)).cache is CacheHit.NONE
    semantic = SemanticAnswers(talk.store, talk.embedder, Sameness.load(LanguageGuess.load()))
    await semantic.put("acme", BOT, "ground", PRICE_QUESTION, "0" * 32, "asker")
    embedded = len(talk.embedder.asked)
    assert await semantic.nearest("acme", BOT, "ground", question, 0.0) is None
    assert len(talk.embedder.asked) == embedded
    assert await semantic.nearest("acme", BOT, "ground", PRICE_QUESTION + " please", 0.5) is not None
    assert await semantic.nearest("acme", BOT, "other ground", PRICE_QUESTION, 0.0) is None


async def test_of_the_nearest_the_one_that_asks_the_same_is_given(talking: Builder) -> None:
    """Another thing's price is nearer to the embedder than the same question in other words."""
    talk = talking(ScriptedModel(PRICE_ANSWER))
    semantic = SemanticAnswers(talk.store, talk.embedder, Sameness.load(LanguageGuess.load()))
    await semantic.put("acme", BOT, "ground", "what is the price of a tractor", "1" * 32, "asker")
    await semantic.put("acme", BOT, "ground", "could you please tell me the cost of the sensor", "2" * 32, "asker")
    found = await semantic.nearest("acme", BOT, "ground", PRICE_QUESTION, 0.1)
    assert found is not None
    assert found[0] == "2" * 32


@pytest.mark.parametrize("why", ["history", "flag", "threshold", "address"])
async def test_the_meaning_does_not_count_where_it_must_not(talking: Builder, why: str) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    question = PRICE_QUESTION + (" for jo@acme.example" if why == "address" else "")
    await ask(talk, question=question, semantic_threshold=0.5)
    await talk.assistant.settled()
    if why == "flag":
        await talk.set_flag("cache.semantic", False, "acme")
    spec = assistant_spec(semantic_threshold=None if why == "threshold" else 0.5)
    history = [Turn("user", "hm", talk.clock())] if why == "history" else []
    answer = await talk.assistant.answer(ASKER, spec, question + " please", history=history)
    assert answer.cache is CacheHit.NONE


async def test_a_vector_whose_answer_is_gone_goes_too(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    await ask(talk, semantic_threshold=0.8)
    await talk.assistant.settled()
    (namespace,) = [name for name in talk.store.kept if name.generation == "~answers"]
    before = set(talk.store.kept[namespace])
    await talk.caches.drop("tenant:acme")
    assert (await ask(talk, question=PRICE_QUESTION + " please", semantic_threshold=0.8)).cache is CacheHit.NONE
    await talk.assistant.settled()
    assert before.isdisjoint(talk.store.kept[namespace])


async def test_a_persons_questions_are_erased_from_the_vectors(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    await ask(talk, semantic_threshold=0.8)
    await ask(talk, COLLEAGUE, "when is a refund paid", semantic_threshold=0.99)
    await talk.assistant.settled()
    await talk.assistant.forget("acme", "nobody", [BOT])
    (namespace,) = [name for name in talk.store.kept if name.generation == "~answers"]
    assert len(talk.store.kept[namespace]) == 2
    await talk.assistant.forget("acme", ASKER.user, [BOT])
    assert not talk.store.kept.get(namespace)


async def test_a_failing_search_by_meaning_costs_the_saving_and_nothing_else(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    await talk.assistant.answer(ASKER, SPEC, PRICE_QUESTION, history=[])
    talk.embedder.error = RuntimeError("away")
    spec = assistant_spec(revision="2", semantic_threshold=0.5)
    assert (await talk.assistant.answer(ASKER, spec, PRICE_QUESTION, history=[])).text == PRICE_ANSWER
    await talk.assistant.settled()


async def test_a_hundred_who_ask_the_same_at_once_are_one_call(talking: Builder) -> None:
    model = GatedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()

    async def turn(number: int) -> list[Any]:
        who = Principal("acme", f"key_{number}", Role.AGENT)
        return await collected(talk.assistant.turn(who, SPEC, PRICE_QUESTION, streamed=True))

    turns = [asyncio.create_task(turn(number)) for number in range(100)]
    while not model.asked:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert model.calls == 1
    model.gate.set()
    results = await asyncio.gather(*turns)
    assert model.calls == 1
    answers = [last_answer(events) for events in results]
    assert {said(events) for events in results} == {PRICE_ANSWER}
    assert sum(answer.cache is CacheHit.SHARED for answer in answers) == 99
    assert sum(answer.cost_micros for answer in answers) == 140
    assert talk.count("answers_total", pack="chat", outcome="answered", cache="shared") == 99
    assert talk.count("cache_requests_total", cache="answers", tier="none", result="shared") == 99
    assert len(await talk.decisions()) == 1
    for number in (0, 99):
        assert len(await talk.memory.recent("acme", BOT, f"key_{number}")) == 2


async def test_tools_are_never_used_in_somebody_elses_name(talking: Builder) -> None:
    seen: list[str] = []

    async def run(context: ToolContext, _args: FindArgs) -> dict[str, str]:
        seen.append(context.principal.user)
        await asyncio.sleep(0.02)
        return {"of": context.principal.user}

    async def model(request: Any) -> Any:
        if request.messages[-1].role == "tool":
            return reply(orjson.loads(request.messages[-1].content)["of"])
        return reply("", (ToolCall("c", "mine", '{"query": "x"}'),))

    talk = talking(ScriptedModel(model), tools=[Tool("mine", "Mine.", FindArgs, run, Effect.READ)])
    await allow(talk.room, "mine", by=Principal("acme", "key_admin", Role.ADMIN))
    spec = assistant_spec(tools=("mine",))
    answers = await asyncio.gather(*(talk.assistant.answer(who, spec, "how many") for who in (ASKER, COLLEAGUE)))
    assert [answer.text for answer in answers] == [ASKER.user, COLLEAGUE.user]
    assert sorted(seen) == sorted([ASKER.user, COLLEAGUE.user])


async def test_the_first_one_may_leave_and_the_others_go_on(talking: Builder) -> None:
    model = GatedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()

    async def whole() -> str:
        return said(await collected(talk.assistant.turn(COLLEAGUE, SPEC, PRICE_QUESTION, streamed=True)))

    first = asyncio.create_task(collected(talk.assistant.turn(ASKER, SPEC, PRICE_QUESTION, streamed=True)))
    while not model.asked:
        await asyncio.sleep(0.005)
    second = asyncio.create_task(whole())
    await asyncio.sleep(0.02)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    model.gate.set()
    assert await second == PRICE_ANSWER
    assert model.cancelled == 0


async def test_a_peek_is_a_whole_turn_without_waiting(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    assert talk.assistant.peek(ASKER, SPEC, PRICE_QUESTION) is None
    first = await talk.assistant.answer(ASKER, SPEC, PRICE_QUESTION)
    body = talk.assistant.peek(COLLEAGUE, SPEC, PRICE_QUESTION)
    assert body is not None
    again = load(body)
    assert (again.text, again.cache, again.saved_micros) == (first.text, CacheHit.EXACT, first.cost_micros)
    assert [turn.text for turn in talk.memory.peek("acme", BOT, COLLEAGUE.user)] == [PRICE_QUESTION, PRICE_ANSWER]
    assert talk.count("answers_total", pack="chat", outcome="answered", cache="exact") == 1
    await talk.set_flag("kill.chat", True, "*")
    assert talk.assistant.peek(COLLEAGUE, SPEC, PRICE_QUESTION, history=[]) is None


async def test_a_peek_does_not_trust_a_version_that_was_read_long_ago(talking: Builder, clock: StillClock) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    await talk.assistant.answer(ASKER, SPEC, PRICE_QUESTION, history=[])
    assert talk.assistant.peek(ASKER, SPEC, PRICE_QUESTION, history=[]) is not None
    clock.advance(seconds=2)
    assert talk.assistant.peek(ASKER, SPEC, PRICE_QUESTION, history=[]) is None


async def test_an_answer_that_was_cut_off_by_a_reader_is_not_kept(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    async with aclosing(talk.assistant.turn(ASKER, SPEC, PRICE_QUESTION, streamed=True)) as events:
        async for event in events:
            assert isinstance(event, Token)
            break
    again = last_answer(await collected(talk.assistant.turn(ASKER, SPEC, PRICE_QUESTION, streamed=True)))
    assert again.cache is CacheHit.NONE


GROUND = Ground("acme", "u", 3, "m", (False, False), StillClock()().date())


@pytest.mark.parametrize(
    "other",
    [
        replace(GROUND, tenant_id="other"),
        replace(GROUND, user=""),
        replace(GROUND, tenant_id="acm", user="eu"),
        replace(GROUND, index_version=4),
        replace(GROUND, models="n"),
        replace(GROUND, switches=(True, False)),
        replace(GROUND, today=date(2026, 3, 3)),
    ],
)
def test_another_ground_has_other_keys(other: Ground) -> None:
    assert GROUND.digest(SPEC) != other.digest(SPEC)
    assert GROUND.digest(SPEC) != GROUND.digest(assistant_spec(bot="second"))
    assert GROUND.digest(SPEC) == replace(GROUND).digest(assistant_spec())


def test_an_answer_of_one_arm_is_not_given_again_in_another() -> None:
    arms = [assistant_spec(experiment="tone", arm=arm) for arm in ("warm", "cool")]
    assert len({GROUND.digest(spec) for spec in (SPEC, *arms)}) == 3


ASKED = st.tuples(
    st.sampled_from(["q", "q q", "u"]),
    st.sampled_from(["", "s", "q"]),
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.sampled_from(["a", "b", "a b"])), max_size=2),
)


@given(ASKED, ASKED)
def test_two_turns_share_a_key_only_where_question_and_history_are_the_same(one: Any, other: Any) -> None:
    def key(asked: Any) -> str:
        question, summary, said = asked
        turns = tuple(Turn(role, text, StillClock()()) for role, text in said)
        return answer_key("ground", question, History(turns, summary))

    assert (key(one) == key(other)) == (one == other)


async def test_an_answer_whose_documents_are_dropped_while_it_is_made_is_not_kept(talking: Builder) -> None:
    model = GatedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    turn = asyncio.create_task(ask(talk))
    while not model.asked:
        await asyncio.sleep(0.005)
    await talk.caches.drop(f"bot:acme:{BOT}")
    model.gate.set()
    await turn
    assert (await ask(talk)).cache is CacheHit.NONE
