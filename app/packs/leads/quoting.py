"""The sentences of passages that answer a question: by the words and figures that they share with it."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from app.knowledge.language import Glossary, fold
from app.packs.leads.facts import PassageFacts

MAX_QUOTES = 4
MAX_QUOTE_CHARACTERS = 320
_LEAST_OF_BEST = 0.45
_STEM = 5
_FIGURE_WEIGHT = 1.5
_SENTENCE = re.compile(r"(?<=[.!?…])\s+(?=[^\s|])|(?<=[。！？])|\n+")
_WORD = re.compile(r"[^\W_]+(?:[.,]\d+)*")
_MARKUP = re.compile(r"\*{1,3}|`|^#{1,6}\s+|^\s*(?:[-*]|\d+\.)\s+", re.MULTILINE)
_ROW = re.compile(r"^\s*\|(.+)\|\s*$")
_RULE = re.compile(r"^[\s|:-]+$")
_MONEY = re.compile(r"[€$£¥]\s?\d|\d\s?(?:€|EUR|USD|GBP)")
_SHORT = 3
_KEPT_PASSAGES = 2048


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence, or a table's row with its headings, as it stands in the passage."""

    passage: PassageFacts
    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`coverage` is the share (0 to 1, by weight) of the question's words that the passages know; None where no
    word can be compared, for the question is in a language that neither passages nor glossary have.
    """

    quotes: tuple[Quote, ...]
    coverage: float | None


@dataclass(frozen=True, slots=True)
class _Unit:
    """A sentence that can be quoted, with its words as they are compared."""

    text: str
    terms: frozenset[str]
    names_money: bool


class Quoter:
    """Deterministic; compares words by their first five letters, figures whole.

    The sentences of the last 2,048 passages are kept as they are compared.
    """

    def __init__(self, glossary: Glossary, unimportant: Sequence[str]) -> None:
        self._glossary = glossary
        self._unimportant = frozenset(fold(word) for word in unimportant)
        self._units: LRUCache[str, tuple[_Unit, ...]] = LRUCache(_KEPT_PASSAGES)

    def answer(self, question: str, language: str | None, passages: Sequence[PassageFacts], *, price: bool) -> Answer:
        """Quotes in the order of the passages (best first), at most four.

        Args:
            language: the question's primary subtag, None where it is unknown.
            price: the question asks for money, so a sentence with an amount counts for more.
        """
        asked = self._terms(question)
        english = frozenset() if language == "en" else self._terms(self._glossary.english(question, language))
        units = [(passage, unit) for passage in passages for unit in self._units_of(passage.text)]
        known = Counter(term for _, unit in units for term in unit.terms)
        wanted = {term: math.log(1 + len(units) / known[term]) for term in asked | english if known[term]}
        weighed = [
            Quote(passage, unit.text, _weight(unit, wanted, price=price) * passage.score) for passage, unit in units
        ]
        return Answer(_best(weighed), _share(asked if language in ("en", None) else english, known))

    def _units_of(self, text: str) -> tuple[_Unit, ...]:
        kept: tuple[_Unit, ...] | None = self._units.get(text)
        if kept is None:
            kept = tuple(_Unit(unit, self._terms(unit), bool(_MONEY.search(unit))) for unit in sentences(text))
            self._units[text] = kept
        return kept

    def _terms(self, text: str) -> frozenset[str]:
        words = _WORD.findall(fold(text))
        return frozenset(
            word if word[0].isdigit() else word[:_STEM]
            for word in words
            if word[0].isdigit() or (len(word) >= _SHORT and word not in self._unimportant)
        )


def _weight(unit: _Unit, wanted: Mapping[str, float], *, price: bool) -> float:
    shared = sum(wanted[term] * (_FIGURE_WEIGHT if term[0].isdigit() else 1.0) for term in unit.terms & wanted.keys())
    # A long sentence shares words by its length alone.
    shared /= math.sqrt(1 + len(unit.text) / MAX_QUOTE_CHARACTERS)
    return shared * _FIGURE_WEIGHT if price and unit.names_money else shared


def _share(asked: frozenset[str], known: Mapping[str, int]) -> float | None:
    words = {term for term in asked if not term[0].isdigit()}
    return sum(term in known for term in words) / len(words) if words else None


def _best(weighed: Sequence[Quote]) -> tuple[Quote, ...]:
    ranked = sorted(enumerate(weighed), key=lambda entry: (-entry[1].weight, entry[0]))
    if not ranked or ranked[0][1].weight <= 0:
        return ()
    least = _LEAST_OF_BEST * ranked[0][1].weight
    chosen: dict[str, tuple[int, Quote]] = {}
    for place, quote in ranked:
        if quote.weight < least or len(chosen) == MAX_QUOTES:
            break
        chosen.setdefault(quote.text, (place, quote))
    return tuple(quote for _, quote in sorted(chosen.values(), key=lambda entry: entry[0]))


def sentences(text: str) -> Iterator[str]:
    """The units that can be quoted by themselves: sentences, list items, rows of tables with their headings."""
    head: list[str] | None = None
    for line in text.splitlines():
        row = _ROW.match(line)
        if row is None:
            head = None
            yield from _plain(line)
        elif _RULE.match(line):
            continue
        elif head is None:
            head = _cells(row[1])
        else:
            yield _shortened(_spoken_row(head, _cells(row[1])))


def _plain(line: str) -> Iterator[str]:
    for sentence in _SENTENCE.split(_MARKUP.sub("", line)):
        if sentence.strip():
            yield _shortened(" ".join(sentence.split()))


def _cells(row: str) -> list[str]:
    return [" ".join(_MARKUP.sub("", cell).split()) for cell in row.split("|")]


def _spoken_row(head: Sequence[str], cells: Sequence[str]) -> str:
    pairs = [f"{name} {cell}".strip() for name, cell in zip(head[1:], cells[1:], strict=False) if cell]
    return f"{cells[0]}: {', '.join(pairs)}" if pairs else cells[0]


def _shortened(sentence: str) -> str:
    if len(sentence) <= MAX_QUOTE_CHARACTERS:
        return sentence
    return sentence[: MAX_QUOTE_CHARACTERS - 1].rsplit(" ", 1)[0] + "…"
