"""The sentences of passages that answer a question: by the words and figures that they share with it."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

from app.knowledge.language import Glossary, LanguageGuess, fold
from app.knowledge.sentences import LONGEST, Sentence, questions, quotable

MAX_QUOTES = 4
_MAX_QUESTIONS = 6
_A_QUESTION = 2
_LEAST_OF_BEST = 0.7
FEWEST_SHARED = 2
_STEM, _SHORT = 5, 3
_FIGURE, _CONTEXT, _BACKGROUND, _OWN_LANGUAGE = 1.5, 0.6, 0.25, 1.5
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*")
_AMOUNT = re.compile(r"[€$£¥]\s?\d|\d\s?(?:€|EUR|USD|GBP|%)")
_PER_AMOUNT, _MOST_AMOUNTS = 0.2, 3
_KEPT_PASSAGES = 2048

Terms = frozenset[str]


class Quotable(Protocol):
    """A retrieved passage; `score` is 0 to 1."""

    @property
    def chunk_id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence, or a table's row with its headings, as it stands in the passage."""

    passage: Quotable
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`coverage` is the share (0 to 1) of the question's words that the passages know; None where no word can be
    compared, for the question is in a language that neither passages nor glossary have.
    """

    quotes: tuple[Quote, ...]
    coverage: float | None


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence that can be quoted, with its words as they are compared."""

    text: str
    terms: Terms
    context: Terms
    amounts: int
    language: str | None
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Found:
    passage: Quotable
    unit: _Unit
    place: int
    weight: float = 0.0

    def overlaps(self, other: "_Found") -> bool:
        same = self.passage.chunk_id == other.passage.chunk_id
        return same and self.unit.first <= other.unit.last and other.unit.first <= self.unit.last


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The words of one question with their weights: rare ones weigh more, those of the rest of the message less."""

    weights: Mapping[str, float]
    asked: Terms
    language: str | None
    price: bool
    fewest: int

    def weigh(self, found: _Found) -> float:
        unit = found.unit
        own = unit.terms & self.weights.keys()
        around = (unit.context - unit.terms) & self.asked
        if len(own & self.asked) + len(around) < min(self.fewest, len(self.asked)):
            return 0.0
        weight = sum(self.weights[term] for term in own) + _CONTEXT * sum(self.weights[term] for term in around)
        # A long sentence shares words by its length alone.
        weight /= math.sqrt(1 + len(unit.text) / LONGEST)
        weight *= 1 + _PER_AMOUNT * min(_MOST_AMOUNTS, unit.amounts) if self.price else 1.0
        weight *= _OWN_LANGUAGE if unit.language == self.language else 1.0
        return weight * found.passage.score


class Quoter:
    """Deterministic; compares words by their first five letters, figures whole.

    The sentences of the last 2,048 passages are kept as they are compared.
    """

    def __init__(self, glossary: Glossary, guess: LanguageGuess, unimportant: Sequence[str]) -> None:
        self._glossary = glossary
        self._guess = guess
        self._unimportant = frozenset(fold(word) for word in unimportant)
        self._units: LRUCache[str, tuple[_Unit, ...]] = LRUCache(_KEPT_PASSAGES)

    def answer(
        self,
        message: str,
        language: str | None,
        passages: Sequence[Quotable],
        *,
        price: bool,
        fewest: int = FEWEST_SHARED,
    ) -> Answer:
        """At most four quotes, in the order of the passages (best first) and of their sentences.

        Args:
            language: the message's primary subtag, None where it is unknown.
            price: the message asks for money, so a sentence counts for more with each amount that it names.
            fewest: words that a sentence shares with a question at least, where the question has as many.
        """
        pairs = [(passage, unit) for passage in passages for unit in self._units_of(passage)]
        units = [_Found(passage, unit, place) for place, (passage, unit) in enumerate(pairs)]
        known = Counter(term for found in units for term in found.unit.terms | found.unit.context)
        background = self._asked(message, language)
        chosen: dict[str, _Found] = {}
        asked_parts = questions(message)[:_MAX_QUESTIONS]
        for asked in (self._asked(part, language) for part in asked_parts):
            weights = _weights(asked, background, known, len(units))
            wanted = _Wanted(weights, asked & known.keys(), language, price, fewest)
            for found in _best(wanted, units):
                chosen.setdefault(found.unit.text, found)
        quotes = tuple(Quote(found.passage, found.unit.text) for found in _apart(chosen.values()))
        return Answer(quotes, self._coverage(" ".join(asked_parts), language, known))

    def _asked(self, text: str, language: str | None) -> Terms:
        english = "" if language == "en" else self._glossary.english(text, language)
        return self._terms(text) | self._terms(english)

    def _coverage(self, asked: str, language: str | None, known: Mapping[str, int]) -> float | None:
        comparable = asked if language in ("en", None) else self._glossary.english(asked, language)
        words = [term for term in self._terms(comparable) if not term[0].isdigit()]
        return sum(term in known for term in words) / len(words) if words else None

    def _units_of(self, passage: Quotable) -> tuple[_Unit, ...]:
        key = f"{passage.title}\0{passage.text}"
        kept: tuple[_Unit, ...] | None = self._units.get(key)
        if kept is None:
            language, title = self._guess(passage.text), self._terms(passage.title)
            kept = tuple(self._unit(sentence, title, language) for sentence in quotable(passage.text))
            self._units[key] = kept
        return kept

    def _unit(self, sentence: Sentence, title: Terms, language: str | None) -> _Unit:
        return _Unit(
            text=sentence.text,
            terms=self._terms(sentence.text),
            context=self._terms(sentence.context) | title,
            amounts=len(_AMOUNT.findall(sentence.text)),
            language=language,
            first=sentence.first,
            last=sentence.last,
        )

    def _terms(self, text: str) -> Terms:
        words = _WORD.findall(fold(text))
        return frozenset(
            word if word[0].isdigit() else word[:_STEM]
            for word in words
            if word[0].isdigit() or (len(word) >= _SHORT and word not in self._unimportant)
        )


def _weights(asked: Terms, background: Terms, known: Mapping[str, int], units: int) -> dict[str, float]:
    def weight(term: str) -> float:
        # Half the usual weight of rarity: the words of the topic itself are common in what was found for it.
        rare = (1 + math.log(1 + units / known[term]) / 2) * (_FIGURE if term[0].isdigit() else 1.0)
        return rare if term in asked else rare * _BACKGROUND

    return {term: weight(term) for term in asked | background if term in known}


def _best(wanted: _Wanted, units: Iterable[_Found]) -> list[_Found]:
    """The best sentence for one question and perhaps a second one that is nearly as good."""
    weighed = [_Found(found.passage, found.unit, found.place, wanted.weigh(found)) for found in units]
    ranked = sorted((found for found in weighed if found.weight > 0), key=lambda found: (-found.weight, found.place))
    return [found for found in ranked[:_A_QUESTION] if found.weight >= _LEAST_OF_BEST * ranked[0].weight]


def _apart(chosen: Iterable[_Found]) -> list[_Found]:
    """The four that weigh most, none of them part of another, in reading order."""
    kept: list[_Found] = []
    for found in sorted(chosen, key=lambda one: (-one.weight, one.place)):
        if len(kept) < MAX_QUOTES and not any(found.overlaps(other) for other in kept):
            kept.append(found)
    return sorted(kept, key=lambda one: one.place)
