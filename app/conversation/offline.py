"""The offline model's part of a conversation: quotes passages and says so. It is not a language model.

`conversation_answer` is the rule of a pack's own answering prompt; `offline_rules` those of this room's prompts.
"""

from collections.abc import Mapping
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict

from app.agent.model import ModelRequest
from app.agent.offline import OfflineRule
from app.conversation.history import SUMMARY_PROMPT
from app.conversation.phrases import Phrases
from app.knowledge import language
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.quoting import Answer, Quoter
from app.knowledge.sentences import LONGEST

LEAST_COVERAGE: Final = 0.26
_WORTH_KEEPING: Final = 600


class PassageFacts(BaseModel):
    """A passage with the number that it is cited by."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: int
    chunk_id: str
    title: str
    text: str
    score: float
    weak: bool


class TurnFacts(BaseModel):
    """What the offline model is told of a turn: `app.conversation.upstream` writes it into `ModelRequest.facts`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    question: str
    query: str
    passages: tuple[PassageFacts, ...]


class QuotingAnswer:
    """An `OfflineRule`: the sentences of the strong passages that answer, each with its `[n]`; nothing beyond them."""

    def __init__(self, phrases: Phrases, guess: LanguageGuess, quoter: Quoter) -> None:
        self._phrases = phrases
        self._guess = guess
        self._quoter = quoter

    def __call__(self, request: ModelRequest) -> str:
        """Raises ValidationError for facts of another shape than `TurnFacts`."""
        return self.answer(TurnFacts.model_validate(request.facts))

    def answer(self, facts: TurnFacts) -> str:
        if self._phrases.small_talk(facts.question):
            return self._phrases.reply(facts.question)
        strong = [passage for passage in facts.passages if not passage.weak]
        found = self._found(facts.query, strong)
        if not found.quotes or (found.coverage is not None and found.coverage < LEAST_COVERAGE):
            return self._phrases.refusal(facts.question)
        return f"{self._phrases.quotes(facts.question)} {_quoted(found, strong)}"

    def _found(self, query: str, passages: list[PassageFacts]) -> Answer:
        """Sentences that share two words with the question; where there is none, one: the search found it near."""
        language = self._guess(query)
        found = self._quoter.answer(query, language, passages, price=False)
        return found if found.quotes else self._quoter.answer(query, language, passages, price=False, fewest=1)


def _quoted(found: Answer, passages: list[PassageFacts]) -> str:
    numbers = {passage.chunk_id: passage.number for passage in passages}
    return " ".join(f"{quote.text} [{numbers[quote.passage.chunk_id]}]" for quote in found.quotes)


def conversation_answer() -> QuotingAnswer:
    """For `Pack.offline`, under the name of the pack's answering prompt."""
    guess = LanguageGuess.load()
    small_words = yaml.safe_load((language.HERE / "languages.yaml").read_text("utf-8"))
    unimportant = [word for words in small_words.values() for word in words.split()]
    return QuotingAnswer(Phrases.load(guess), guess, Quoter(Glossary.load(), guess, unimportant))


def offline_rules() -> Mapping[str, OfflineRule]:
    """The rules of this room's own prompts, by name."""
    return {SUMMARY_PROMPT: _summary}


def _summary(request: ModelRequest) -> str:
    """What the user asked, newest last: the answers can be found again, the wishes cannot."""
    facts: Mapping[str, Any] = request.facts
    asked = [f"The user asked: {question[:LONGEST]}" for question in facts["questions"]]
    kept: list[str] = []
    for line in [*reversed(asked), *filter(None, [facts["summary"]])]:
        if sum(map(len, kept)) + len(line) > _WORTH_KEEPING and kept:
            break
        kept.append(line)
    return "\n".join(reversed(kept))
