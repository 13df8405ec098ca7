"""A conversation with the offline model: it quotes, cites, greets and refuses; it makes nothing up."""

import pytest

from app.agent.offline import OfflineModel
from app.conversation.offline import QuotingAnswer, TurnFacts, conversation_answer, offline_rules
from app.conversation.phrases import Phrases, SmallTalk
from app.knowledge.language import Glossary, LanguageGuess
from tests.support.conversation import ASKER, PAGES, PRICE_QUESTION, Builder, assistant_spec, collected, last_answer


@pytest.fixture(scope="module")
def rule() -> QuotingAnswer:
    return conversation_answer()


@pytest.fixture
def model(rule: QuotingAnswer) -> OfflineModel:
    return OfflineModel({"answer": rule, **offline_rules()})


async def test_it_quotes_the_page_that_answers_and_cites_it(talking: Builder, model: OfflineModel) -> None:
    talk = talking(model)
    await talk.fill()
    answer = last_answer(await collected(talk.assistant.turn(ASKER, assistant_spec(), PRICE_QUESTION, streamed=True)))
    assert answer.text == f"The documents say: {PAGES['prices']} [1]"
    assert [citation.slug for citation in answer.citations] == ["prices"]
    assert answer.model == "offline"


@pytest.mark.parametrize(
    ("message", "reply"),
    [
        ("Hi there!", "Hello! What would you like to know?"),
        ("Vielen Dank.", "Gern geschehen. Gibt es noch etwas?"),
        ("Olá", "Olá! O que gostaria de saber?"),
        ("こんにちは", "こんにちは。どのようなことをお知りになりたいですか。"),
    ],
)
async def test_greetings_and_thanks_are_answered_in_kind(
    talking: Builder, model: OfflineModel, message: str, reply: str
) -> None:
    talk = talking(model)
    await talk.fill()
    answer = await talk.assistant.answer(ASKER, assistant_spec(), message)
    assert (answer.text, answer.refused) == (reply, False)


async def test_it_refuses_what_the_documents_do_not_hold(talking: Builder, model: OfflineModel) -> None:
    talk = talking(model)
    await talk.fill()
    answer = await talk.assistant.answer(ASKER, assistant_spec(), "Which guitar strings are good for jazz beginners?")
    assert answer.refused
    assert answer.citations == ()


async def test_long_conversations_keep_what_was_asked(talking: Builder, model: OfflineModel) -> None:
    talk = talking(model)
    await talk.fill()
    for question in ("what is the price of a sensor in the blue kind", "when is a refund of the money paid to me"):
        talk.clock.advance(seconds=1)
        await talk.assistant.answer(ASKER, assistant_spec(history_tokens=30), question)
        await talk.assistant.settled()
    kept = await talk.memory.summary("acme", "support", ASKER.user)
    assert kept is not None
    assert "what is the price of a sensor in the blue kind" in kept


def test_there_are_phrases_for_every_language_of_the_glossary() -> None:
    phrases = Phrases.load(LanguageGuess.load())
    assert phrases.languages >= Glossary.load().languages
    assert phrases.refusal("¿Cuánto cuesta un sensor para nuestros almacenes?").startswith("No he encontrado")
    assert phrases.refusal("zzz") == phrases.refusal("What does the sensor cost for us?")


@pytest.mark.parametrize("message", ["hello, what does it cost?", "thanks, and when is it paid", "x" * 1000, ""])
def test_a_question_is_no_small_talk(message: str) -> None:
    assert Phrases.load(LanguageGuess.load()).small_talk(message) is None


def test_thanks_are_told_from_greetings() -> None:
    phrases = Phrases.load(LanguageGuess.load())
    assert phrases.small_talk("THANK YOU!!!") is SmallTalk.THANKS
    assert phrases.small_talk("guten tag") is SmallTalk.GREETING


def test_one_shared_word_is_enough_where_no_sentence_shares_more(rule: QuotingAnswer) -> None:
    text = "Devices have a warranty of three years, from the day of delivery on.\n\nThe long way round is not taken."
    passage = {"number": 4, "chunk_id": "c", "title": "Terms", "text": text, "score": 0.9, "weak": False}
    question = "How long is the warranty?"
    told = rule.answer(TurnFacts.model_validate({"question": question, "query": question, "passages": [passage]}))
    assert "warranty of three years" in told
    assert told.endswith("[4]")
