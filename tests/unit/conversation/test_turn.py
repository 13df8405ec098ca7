"""One turn: what is said, cited, refused, remembered and written down."""

from contextlib import aclosing
from dataclasses import replace

import orjson
import pytest

from app.agent.model import ModelReply, ModelRequest, ModelStreamBroken, ToolCall
from app.agent.routing import DeadlineExceeded
from app.agent.tools import Effect, Tool, ToolContext
from app.conversation.events import CacheHit, Done, Failed, Token, ToolUsed
from app.conversation.evidence import PASSAGES, passage_row
from app.conversation.serving import AnswerOut
from app.conversation.wire import document, dump, load
from app.errors import InvalidInput, Unavailable
from app.knowledge.base import Passage
from app.memory import Turn
from app.principal import Principal, Role
from tests.support.agents import FindArgs, ScriptedModel, allow, reply
from tests.support.conversation import (
    ASKER,
    BOT,
    PRICE_ANSWER,
    PRICE_QUESTION,
    Builder,
    GatedModel,
    PiecesModel,
    assistant_spec,
    cited,
    collected,
    last_answer,
    said,
)


async def test_a_streamed_answer_comes_in_pieces_with_its_citations_and_ends_with_the_whole(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    events = await collected(talk.assistant.turn(ASKER, assistant_spec(), PRICE_QUESTION, streamed=True))
    answer = last_answer(events)
    assert said(events) == answer.text == PRICE_ANSWER
    assert sum(isinstance(event, Token) for event in events) > 3
    assert cited(events) == [1]
    assert [citation.slug for citation in answer.citations] == ["prices"]
    assert answer.citations[0].quote.startswith("The price of a sensor")
    assert 0 < answer.citations[0].score <= 1
    assert answer.grounded
    assert not answer.refused
    assert answer.cache is CacheHit.NONE
    assert answer.cost_micros == 140  # 100 tokens in at 1 USD a million, 20 out at 2
    assert (answer.input_tokens, answer.output_tokens) == (100, 20)
    assert talk.count("answers_total", pack="chat", outcome="answered", cache="none") == 1
    assert talk.count("answer_first_token_seconds_count", pack="chat") == 1


async def test_a_whole_answer_is_the_same_in_one_piece(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    events = await collected(talk.assistant.turn(ASKER, assistant_spec(), PRICE_QUESTION, streamed=False))
    assert [type(event).__name__ for event in events] == ["Token", "Citation", "Done"]
    assert said(events) == last_answer(events).text == PRICE_ANSWER


async def test_the_prompt_holds_numbered_evidence_the_question_and_the_day(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    await talk.assistant.answer(ASKER, assistant_spec(), PRICE_QUESTION)
    asked = model.asked[0].messages[1].content
    assert "[1] Prices\nThe price of a sensor" in asked
    assert PRICE_QUESTION in asked
    assert "Today is 2026-03-02." in asked


async def test_unknown_numbers_and_made_up_links_do_not_reach_the_reader(talking: Builder) -> None:
    talk = talking(PiecesModel(["Four ", "euro [", "1", "] or [7", "]. See htt", "ps://evil.example/?q=", "1 now."]))
    await talk.fill()
    events = await collected(talk.assistant.turn(ASKER, assistant_spec(), PRICE_QUESTION, streamed=True))
    assert said(events) == last_answer(events).text == "Four euro [1] or. See [link removed] now."


async def test_without_evidence_it_refuses_in_the_language_of_the_question_and_asks_no_model(talking: Builder) -> None:
    model = ScriptedModel("never")
    talk = talking(model)
    await talk.fill()
    answer = await talk.assistant.answer(ASKER, assistant_spec(), "Wie lange dauert der Flug nach Honolulu und zurück?")
    assert answer.refused
    assert answer.text.startswith("In den Dokumenten habe ich nichts gefunden")
    assert model.calls == 0
    assert answer.model == ""
    (decision,) = await talk.decisions()
    assert (decision.action, decision.reason) == ("refused", "The documents hold no strong evidence.")
    assert talk.count("answers_total", pack="chat", outcome="refused", cache="none") == 1


async def test_an_answer_that_cites_nothing_counts_as_a_refusal_where_evidence_is_needed(talking: Builder) -> None:
    talk = talking(ScriptedModel("I cannot say."))
    await talk.fill()
    answer = await talk.assistant.answer(ASKER, assistant_spec(), PRICE_QUESTION)
    assert answer.refused
    assert not answer.grounded
    free = await talk.assistant.answer(ASKER, assistant_spec(needs_evidence=False, revision="2"), PRICE_QUESTION)
    assert not free.refused


async def test_a_greeting_is_no_question(talking: Builder) -> None:
    model = ScriptedModel("Hello!")
    talk = talking(model)
    answer = await talk.assistant.answer(ASKER, assistant_spec(), "Hello!")
    assert (answer.text, answer.refused) == ("Hello!", False)
    assert model.calls == 1


async def test_a_decision_explains_the_turn(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    spec = assistant_spec(experiment="tone", arm="warm")
    answer = await talk.assistant.answer(ASKER, spec, PRICE_QUESTION)
    (decision,) = await talk.decisions()
    assert decision.id == answer.decision_id
    assert (decision.pack, decision.action, decision.state) == ("chat", "answered", "done")
    assert (decision.subject_id, decision.experiment, decision.arm) == (ASKER.user, "tone", "warm")
    assert [row["title"] for row in decision.evidence] == ["Prices"]
    assert decision.inputs["question"] == PRICE_QUESTION
    assert decision.inputs["passages"][0]["text"] == decision.evidence[0]["quote"]
    assert (decision.tokens_in, decision.tokens_out, decision.cost_micros) == (100, 20, 140)
    assert (decision.prompt_name, decision.prompt_version) == ("answer", 1)
    assert decision.answer["text"] == PRICE_ANSWER


async def test_the_next_question_knows_what_was_said(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    await talk.assistant.answer(ASKER, assistant_spec(), PRICE_QUESTION)
    await talk.assistant.answer(ASKER, assistant_spec(), "and the refund?")
    asked = model.asked[1].messages[1].content
    assert f"user: {PRICE_QUESTION}\nassistant: {PRICE_ANSWER}" in asked
    assert [turn.text for turn in await talk.memory.recent("acme", BOT, ASKER.user)] == [
        PRICE_QUESTION,
        PRICE_ANSWER,
        "and the refund?",
        PRICE_ANSWER,
    ]


async def test_a_follow_up_is_searched_with_the_words_of_what_it_is_about(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    await talk.assistant.answer(ASKER, assistant_spec(), PRICE_QUESTION)
    await talk.assistant.answer(ASKER, assistant_spec(), "why is that?")
    second = (await talk.decisions())[1]
    assert {"price", "sensor"} <= set(second.inputs["query"].split())
    assert second.inputs["passages"][0]["slug"] == "prices"


async def test_a_history_of_the_callers_own_is_used_and_memory_left_alone(talking: Builder) -> None:
    model = ScriptedModel(PRICE_ANSWER)
    talk = talking(model)
    await talk.fill()
    now = talk.clock()
    history = [Turn("user", "my favourite is blue", now), Turn("assistant", "noted", now)]
    await talk.assistant.answer(ASKER, assistant_spec(), PRICE_QUESTION, history=history)
    assert "user: my favourite is blue" in model.asked[0].messages[1].content
    assert await talk.memory.recent("acme", BOT, ASKER.user) == []


def search_tool(passage: Passage) -> Tool:
    async def run(_context: ToolContext, _args: FindArgs) -> dict[str, object]:
        return {PASSAGES: [passage_row(passage)]}

    return Tool("search", "Search.", FindArgs, run, Effect.READ)


ADMIN = Principal(ASKER.tenant_id, "key_admin", Role.ADMIN)
FOUND = Passage("chk_tool", "doc_tool", "tool-page", "Tool page", "Tool page > Colours", "It is blue.", 0.9, weak=False)


async def test_passages_that_a_tool_finds_take_the_next_numbers_and_can_be_cited(talking: Builder) -> None:
    call = (ToolCall("c1", "search", '{"query": "colour"}'),)
    model = ScriptedModel(call, "It is blue [3], and costs four euro fifty [1].")
    talk = talking(model, tools=[search_tool(FOUND)])
    await talk.fill()
    await allow(talk.room, "search", by=ADMIN)
    spec = assistant_spec(tools=("search",))
    events = await collected(talk.assistant.turn(ASKER, spec, PRICE_QUESTION, streamed=True))
    told = orjson.loads(model.asked[1].messages[-1].content)
    assert told == {PASSAGES: [{"number": 3, "title": "Tool page > Colours", "text": "It is blue."}]}
    answer = last_answer(events)
    assert [(c.number, c.document_id) for c in answer.citations][1] == (3, "doc_tool")
    used = [event for event in events if isinstance(event, ToolUsed)]
    assert [(one.tool, one.state) for one in used] == [("search", "started"), ("search", "done")]
    assert [one.state for one in answer.tools] == ["done"]


async def test_what_was_said_before_a_tool_call_is_not_the_answer(talking: Builder) -> None:
    async def both(_request: ModelRequest) -> ModelReply:
        return reply("Let me look [1]. ", (ToolCall("c1", "search", '{"query": "x"}'),))

    talk = talking(ScriptedModel(both, "It is blue [3]."), tools=[search_tool(FOUND)])
    await talk.fill()
    await allow(talk.room, "search", by=ADMIN)
    events = await collected(
        talk.assistant.turn(ASKER, assistant_spec(tools=("search",)), PRICE_QUESTION, streamed=True)
    )
    answer = last_answer(events)
    assert answer.text == "It is blue [3]."
    assert [citation.number for citation in answer.citations] == [3]


async def test_a_provider_that_dies_mid_stream_is_a_failure_that_says_so_and_leaves_nothing_behind(
    talking: Builder,
) -> None:
    broken = ModelStreamBroken("The provider broke off.", retryable=True)
    talk = talking(PiecesModel(["It is four euro "], broken))
    await talk.fill()
    events = await collected(talk.assistant.turn(ASKER, assistant_spec(), PRICE_QUESTION, streamed=True))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.partial
    assert failed.status == 502
    assert await talk.memory.recent("acme", BOT, ASKER.user) == []
    assert await talk.decisions() == []
    assert talk.count("answers_total", pack="chat", outcome="failed", cache="none") == 1
    assert talk.count("cache_entries", cache="answers") == 0


async def test_before_the_first_event_an_error_is_raised(talking: Builder) -> None:
    talk = talking(ScriptedModel("x"))
    with pytest.raises(InvalidInput, match="empty"):
        await collected(talk.assistant.turn(ASKER, assistant_spec(), "  ", streamed=True))
    with pytest.raises(InvalidInput, match="8001 characters"):
        await collected(talk.assistant.turn(ASKER, assistant_spec(), "x" * 8001, streamed=True))
    await talk.set_flag("kill.chat", True, "*")
    with pytest.raises(Unavailable, match="switched off"):
        await talk.assistant.answer(ASKER, assistant_spec(), "hello")


async def test_a_bug_is_a_failure_without_its_details(talking: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = talking(PiecesModel(["It "], RuntimeError("secret")))
    await talk.fill()
    events = await collected(talk.assistant.turn(ASKER, assistant_spec(), PRICE_QUESTION, streamed=True))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert "secret" not in failed.detail


async def test_who_leaves_cancels_the_model_call_and_nothing_of_it_is_kept(talking: Builder) -> None:
    model = PiecesModel(["It ", "is "], hold=True)
    talk = talking(model)
    await talk.fill()
    async with aclosing(talk.assistant.turn(ASKER, assistant_spec(), PRICE_QUESTION, streamed=True)) as events:
        async for _ in events:
            break
    assert model.closed == 1
    assert talk.count("answers_total", pack="chat", outcome="cancelled", cache="none") == 1
    assert await talk.memory.recent("acme", BOT, ASKER.user) == []
    assert await talk.decisions() == []


async def test_a_turn_that_takes_too_long_says_so(talking: Builder) -> None:
    talk = talking(GatedModel("x"))
    await talk.fill()
    with pytest.raises(DeadlineExceeded):
        await talk.assistant.answer(ASKER, assistant_spec(deadline_s=0.05), PRICE_QUESTION)


async def test_any_characters_are_a_question(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    for question in ("!!!", "\udcff broken", "🚀" * 50, "a\0b", "<|im_start|>", "[1] [2]"):
        events = await collected(talk.assistant.turn(ASKER, assistant_spec(), question, streamed=True))
        assert isinstance(events[-1], Done)


async def test_an_answer_survives_the_wire(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    answer = await talk.assistant.answer(ASKER, assistant_spec(experiment="tone", arm="warm"), PRICE_QUESTION)
    exact = replace(answer, model_ms=round(answer.model_ms, 3), duration_ms=round(answer.duration_ms, 3))
    assert load(dump(answer)) == exact
    assert document(answer)["cost_usd"] == 0.00014
    assert (document(answer)["experiment"], document(answer)["arm"]) == ("tone", "warm")


async def test_what_is_sent_is_what_the_api_describes(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER))
    await talk.fill()
    sent = document(await talk.assistant.answer(ASKER, assistant_spec(), PRICE_QUESTION))
    assert set(sent) == set(AnswerOut.model_fields)
    AnswerOut.model_validate(sent)
