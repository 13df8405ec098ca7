"""A stored turn, made again."""

from app.agent.offline import OfflineModel
from app.conversation.offline import conversation_answer
from tests.support.agents import ScriptedModel
from tests.support.conversation import ASKER, PRICE_ANSWER, PRICE_QUESTION, Builder, assistant_spec

SPEC = assistant_spec()


async def test_a_deterministic_turn_comes_out_the_same_whatever_was_indexed_since(talking: Builder) -> None:
    talk = talking(OfflineModel({"answer": conversation_answer()}))
    await talk.fill()
    await talk.assistant.answer(ASKER, SPEC, PRICE_QUESTION)
    (decision,) = await talk.decisions()
    await talk.ingestor.put("acme", "support", "prices", "Prices", "The price of a sensor is five euro.", [])
    replayed = await talk.assistant.replay(ASKER, SPEC, decision)
    assert replayed.differences == ()
    assert "deterministic" in replayed.note
    assert len(await talk.decisions()) == 1


async def test_what_came_out_differently_is_named(talking: Builder) -> None:
    talk = talking(ScriptedModel(PRICE_ANSWER, "I cannot say."))
    await talk.fill()
    await talk.assistant.answer(ASKER, SPEC, PRICE_QUESTION)
    (decision,) = await talk.decisions()
    replayed = await talk.assistant.replay(ASKER, SPEC, decision)
    assert [difference.split(":")[0] for difference in replayed.differences] == ["text", "refused", "evidence"]


async def test_a_refusal_without_a_model_needs_none_again(talking: Builder) -> None:
    model = ScriptedModel("never")
    talk = talking(model)
    await talk.fill()
    await talk.assistant.answer(ASKER, SPEC, "which guitar strings are good for jazz")
    (decision,) = await talk.decisions()
    assert (await talk.assistant.replay(ASKER, SPEC, decision)).differences == ()
    assert model.calls == 0
