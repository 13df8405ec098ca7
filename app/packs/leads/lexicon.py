"""Phrases to signals: compiled once, matched word by word, in time that grows with the length of the text alone."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from app.knowledge.language import fold
from app.packs.leads.signals import Signal

PATH = Path(__file__).parent / "lexicon.yaml"

_GAP = "~"
_GAP_WORDS = 3
_NEGATION_BEFORE, _NEGATION_AFTER = 3, 2
_TOKEN = re.compile(r"\w+|[.!?;:,\n。！？、]")
_SHORT_NOT = re.compile(r"n['’]t\b")
_UNSPACED_LETTERS = re.compile(r"[\u0600-\u06ff\u3040-\u30ff\u4e00-\u9fff]")
_UNSPACED = frozenset({"ja", "zh", "ar"})
_BREAKS = frozenset(".!?;:,\n。！？、")
_SENTENCE_ENDS = frozenset(".!?\n。！？")


@dataclass(frozen=True, slots=True)
class Words:
    """One place of a phrase: any of the exact words, or a word that starts with one of the stems."""

    exact: frozenset[str]
    stems: tuple[str, ...]

    def fits(self, token: str) -> bool:
        return token in self.exact or (bool(self.stems) and token.startswith(self.stems))


@dataclass(frozen=True, slots=True)
class Phrase:
    """`rest` pairs each further place with whether up to three words may stand before it."""

    signal: Signal
    text: str
    first: Words
    rest: tuple[tuple[bool, Words], ...]

    def end(self, tokens: Sequence[str], start: int) -> int | None:
        """The place after the phrase whose first word is at `start`; None where it does not stand there."""
        place = start + 1
        for gap, words in self.rest:
            last = place + (_GAP_WORDS if gap else 0)
            while place < len(tokens) and not words.fits(tokens[place]):
                if place >= last or tokens[place] in _BREAKS:
                    return None
                place += 1
            if place >= len(tokens):
                return None
            place += 1
        return place


@dataclass(slots=True)
class _Index:
    """The phrases of one language by their first word or by the stem that it starts with."""

    exact: dict[str, list[Phrase]] = field(default_factory=dict)
    stems: dict[str, list[Phrase]] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()

    def add(self, phrase: Phrase) -> None:
        for word in phrase.first.exact:
            self.exact.setdefault(word, []).append(phrase)
        for stem in phrase.first.stems:
            self.stems.setdefault(stem, []).append(phrase)
        self.lengths = tuple(sorted({len(stem) for stem in self.stems}))

    def at(self, token: str) -> Iterator[Phrase]:
        yield from self.exact.get(token, ())
        for length in self.lengths:
            if length > len(token):
                return
            yield from self.stems.get(token[:length], ())


@dataclass(frozen=True, slots=True)
class _Turning:
    """The words that turn a phrase round."""

    before: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    condition: frozenset[str] = frozenset()

    def negates(self, tokens: Sequence[str], start: int, end: int) -> bool:
        nearest_first = reversed(tokens[max(0, start - _NEGATION_BEFORE) : start])
        return _until(nearest_first, self.before, _BREAKS) or _until(
            tokens[end : end + _NEGATION_AFTER], self.after, _BREAKS
        )

    def supposes(self, tokens: Sequence[str], start: int) -> bool:
        return _until(reversed(tokens[:start]), self.condition, _SENTENCE_ENDS)


def _until(tokens: Iterable[str], wanted: frozenset[str], stops: frozenset[str]) -> bool:
    """Whether a wanted token comes before the first stop."""
    for token in tokens:
        if token in stops:
            return False
        if token in wanted:
            return True
    return False


class Phrasebook:
    """All phrases of all languages."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        signals: Mapping[str, Mapping[str, Any]] = document["signals"]
        self._negatable = frozenset(Signal(name) for name, entry in signals.items() if entry.get("negatable"))
        self._hypothetical = frozenset(Signal(name) for name, entry in signals.items() if entry.get("hypothetical"))
        self._spaced: dict[str, _Index] = {}
        self._unspaced: dict[str, list[tuple[str, Signal]]] = {}
        for name, entry in signals.items():
            for language, phrases in entry.items():
                if isinstance(phrases, list):
                    self._add(Signal(name), language, phrases)
        self._turning = {language: _turning(document, [language]) for language in self._spaced}
        self._any_turning = _turning(document, list(self._spaced))

    def _add(self, signal: Signal, language: str, phrases: Iterable[str]) -> None:
        if language in _UNSPACED:
            self._unspaced.setdefault(language, []).extend((fold(phrase), signal) for phrase in phrases)
            return
        index = self._spaced.setdefault(language, _Index())
        for phrase in phrases:
            index.add(_phrase(signal, phrase))

    def find(self, text: str, languages: Iterable[str | None]) -> dict[Signal, set[str]]:
        """Signals of the text with the phrases that show each, as the lexicon spells them.

        `languages` are primary subtags. Where the lexicon has no phrase of any of them, all are tried.
        """
        wanted = {language for language in languages if language} & (self._spaced.keys() | self._unspaced.keys())
        unknown = not wanted
        wanted = wanted or (self._spaced.keys() | self._unspaced.keys())
        folded = fold(_SHORT_NOT.sub("nt", text))
        found: dict[Signal, set[str]] = {}
        tokens = _TOKEN.findall(folded)
        for language in wanted & self._spaced.keys():
            turning = self._any_turning if unknown else self._turning[language]
            self._find_spaced(tokens, self._spaced[language], turning, found)
        if _UNSPACED_LETTERS.search(folded):
            for language in wanted & self._unspaced.keys():
                for phrase, signal in self._unspaced[language]:
                    if phrase in folded:
                        found.setdefault(signal, set()).add(phrase)
        return found

    def _find_spaced(
        self, tokens: Sequence[str], index: _Index, turning: _Turning, found: dict[Signal, set[str]]
    ) -> None:
        for start, token in enumerate(tokens):
            for phrase in index.at(token):
                end = phrase.end(tokens, start)
                if end is None or self._turned(phrase.signal, turning, tokens, start, end):
                    continue
                found.setdefault(phrase.signal, set()).add(phrase.text)

    def _turned(self, signal: Signal, turning: _Turning, tokens: Sequence[str], start: int, end: int) -> bool:
        if signal in self._negatable and turning.negates(tokens, start, end):
            return True
        return signal in self._hypothetical and turning.supposes(tokens, start)


def _turning(document: Mapping[str, Any], languages: Sequence[str]) -> _Turning:
    def words(table: Mapping[str, list[str]]) -> frozenset[str]:
        return frozenset(fold(word) for language in languages for word in table.get(language, ()))

    negation = document["negation"]
    return _Turning(words(negation["before"]), words(negation["after"]), words(document["condition"]))


def _phrase(signal: Signal, text: str) -> Phrase:
    places: list[tuple[bool, Words]] = []
    gap = False
    for part in text.split():
        if part == _GAP:
            gap = True
            continue
        places.append((gap, _words(part)))
        gap = False
    return Phrase(signal, text, places[0][1], tuple(places[1:]))


def _words(part: str) -> Words:
    alternatives = [fold(word) for word in part.split("|")]
    if any(not word.removesuffix("*") or "*" in word[:-1] for word in alternatives):
        raise ValueError(f"'{part}' is no place of a phrase: a '*' stands at the end of a stem only")
    return Words(
        frozenset(word for word in alternatives if not word.endswith("*")),
        tuple(word.removesuffix("*") for word in alternatives if word.endswith("*")),
    )


@dataclass(frozen=True, slots=True)
class Quantities:
    """Numbers of things in a text. From `large` on, people negotiate."""

    large: int
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Quantities":
        units = "|".join(map(re.escape, map(fold, document["units"])))
        unspaced = "|".join(map(re.escape, map(fold, document["cjk_units"])))
        number = r"(?<![\d.,])(\d{1,3}(?:[.,  ]\d{3}){1,2}|\d{1,7})"
        return cls(int(document["large"]), re.compile(rf"{number}(?: ?(?:{unspaced})| (?:\w{{1,30}} )?(?:{units})\b)"))

    def greatest(self, text: str) -> int:
        """The largest quantity that the text names; 0 where it names none."""
        found = self.pattern.findall(fold(text))
        return max((int(re.sub(r"\D", "", number)) for number in found), default=0)


@dataclass(frozen=True, slots=True)
class Market:
    """Where the tenant sells. An empty `served` is everywhere; `applied` are countries that may follow."""

    served: frozenset[str]
    applied: frozenset[str]

    def serves(self, country: str | None) -> bool:
        """An unknown country counts as served."""
        return not self.served or not country or country.upper() in self.served


@dataclass(frozen=True, slots=True)
class Lexicon:
    """`lexicon.yaml`, compiled; the calendar's words are taken as they are by `wishes.py`."""

    phrases: Phrasebook
    quantities: Quantities
    market: Market
    free_mail: frozenset[str]
    disposable_mail: frozenset[str]
    fillers: frozenset[str]
    unimportant: tuple[str, ...]
    calendar: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path = PATH) -> "Lexicon":
        # The C loader reads the file in a tenth of the time, which a start is made of.
        return cls.of(yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Lexicon":
        """Raises ValueError for a signal that `signals.py` does not declare, KeyError for a missing part."""
        market, mail = document["market"], document["mail"]
        calendar = ("weekdays", "months", "tomorrow", "not_tomorrow", "next_week", "until", "zones", "seasons")
        return cls(
            phrases=Phrasebook(document),
            quantities=Quantities.of(document["quantity"]),
            market=Market(frozenset(market["served"]), frozenset(market["applied"])),
            free_mail=frozenset(mail["free"]),
            disposable_mail=frozenset(mail["disposable"]),
            fillers=frozenset(map(fold, document["fillers"])),
            unimportant=tuple(document["unimportant"]),
            calendar={part: document[part] for part in calendar},
        )
