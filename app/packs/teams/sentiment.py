"""How a message sounds, by a list of words: a rule, not a model. The same text always gives the same mood.

A text is cut into words without case and accents. At each place the longest entry of the lexicon counts. A friendly
entry with a negation up to three words before it (in German also after it), within the same clause, counts as an
unhappy one; an unhappy entry that is negated counts as nothing ("no problems" says little). What remains is a balance
between -1 and 1: (friendly - unhappy) / (friendly + unhappy). Above 0.2 the message is friendly, below -0.2 unhappy,
else neutral, and so is one without any such word. It reads English, German and Spanish (`sentiment.yaml`); a text that
looks like another language has no mood. It sees neither irony nor what is said between the lines.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from app.knowledge.language import LanguageGuess, fold

PATH: Final = Path(__file__).with_name("sentiment.yaml")
SOURCE: Final = "rule"
CLEAR: Final = 0.2
MOST_READ: Final = 4000
_NEAR: Final = 3
_TOKEN = re.compile(r"\w+|[.!?;:,\n]")
_SHORT_NOT = re.compile(r"(ca)?n['’]t\b", re.IGNORECASE)
_BREAKS: Final = frozenset(".!?;:,\n")


class Mood(StrEnum):
    FRIENDLY = "friendly"
    NEUTRAL = "neutral"
    UNHAPPY = "unhappy"


@dataclass(frozen=True, slots=True)
class Judged:
    """`mood` is None for a text that cannot be read. `friendly` and `unhappy` are the words behind it."""

    mood: Mood | None
    friendly: tuple[str, ...] = ()
    unhappy: tuple[str, ...] = ()
    source: str = SOURCE


@dataclass(frozen=True, slots=True)
class _Entry:
    words: tuple[str, ...]
    friendly: bool
    turns: bool
    """Whether a negation before it turns it round."""

    def stands_at(self, tokens: Sequence[str], start: int) -> bool:
        found = tokens[start : start + len(self.words)]
        return len(found) == len(self.words) and all(map(_fits, self.words, found))


def _fits(word: str, token: str) -> bool:
    return token.startswith(word[:-1]) if word.endswith("*") else token == word


@dataclass(frozen=True, slots=True)
class _Language:
    """`by_start` groups entries by their first two letters, the longest entry first."""

    by_start: Mapping[str, Sequence[_Entry]]
    before: frozenset[str]
    after: frozenset[str]

    def entry_at(self, tokens: Sequence[str], start: int) -> _Entry | None:
        entries = self.by_start.get(tokens[start][:2], ())
        return next((entry for entry in entries if entry.stands_at(tokens, start)), None)

    def negated(self, tokens: Sequence[str], start: int, end: int) -> bool:
        near = tokens[max(0, start - _NEAR) : start]
        return _meets(reversed(near), self.before) or _meets(tokens[end : end + _NEAR], self.after)


def _meets(tokens: Iterable[str], wanted: frozenset[str]) -> bool:
    """Whether a wanted word comes before the clause ends."""
    for token in tokens:
        if token in _BREAKS:
            return False
        if token in wanted:
            return True
    return False


class SentimentLexicon:
    """Read and compiled with the first message, in some 80 ms: most processes never judge one."""

    def __init__(self, path: Path = PATH) -> None:
        self._path = path

    @cached_property
    def _languages(self) -> Mapping[str, _Language]:
        document: Mapping[str, Any] = yaml.safe_load(self._path.read_text("utf-8"))
        return {name: _compiled(table) for name, table in document["languages"].items()}

    @cached_property
    def _guess(self) -> LanguageGuess:
        return LanguageGuess.load()

    def judge(self, text: str) -> Judged:
        """The mood of a message's first 4,000 characters; none for an empty one."""
        text = text[:MOST_READ]
        if not text.strip():
            return Judged(None)
        guessed = self._guess(text)
        if guessed is not None and guessed not in self._languages:
            return Judged(None)
        tokens = _TOKEN.findall(fold(_SHORT_NOT.sub(_spelled_out, text)))
        wanted = [self._languages[guessed]] if guessed else list(self._languages.values())
        found = {pair for language in wanted for pair in _felt(tokens, language)}
        friendly = tuple(words for _, words, good in sorted(found) if good)
        unhappy = tuple(words for _, words, good in sorted(found) if not good)
        return Judged(_mood(len(friendly), len(unhappy)), friendly, unhappy)


def _spelled_out(found: re.Match[str]) -> str:
    return "can not" if found[1] else " not"


def _felt(tokens: Sequence[str], language: _Language) -> Iterator[tuple[int, str, bool]]:
    """Each place where something is felt, the words there, and whether they are friendly."""
    place = 0
    while place < len(tokens):
        entry = language.entry_at(tokens, place)
        if entry is None:
            place += 1
            continue
        end = place + len(entry.words)
        turned = entry.turns and language.negated(tokens, place, end)
        if entry.friendly or not turned:
            words = " ".join(tokens[place:end])
            yield place, f"negated: {words}" if turned else words, entry.friendly and not turned
        place = end


def _mood(friendly: int, unhappy: int) -> Mood:
    if friendly + unhappy == 0:
        return Mood.NEUTRAL
    balance = (friendly - unhappy) / (friendly + unhappy)
    if balance > CLEAR:
        return Mood.FRIENDLY
    return Mood.UNHAPPY if balance < -CLEAR else Mood.NEUTRAL


def _compiled(table: Mapping[str, Sequence[str]]) -> _Language:
    before, after = (frozenset(map(fold, table[name])) for name in ("before", "after"))
    negations = before | after
    entries = [
        _entry(text, friendly, negations)
        for friendly, texts in ((True, table["positive"]), (False, table["negative"]))
        for text in texts
    ]
    by_start: dict[str, list[_Entry]] = {}
    for entry in sorted(entries, key=lambda one: len(one.words), reverse=True):
        by_start.setdefault(entry.words[0][:2], []).append(entry)
    return _Language(by_start, before, after)


def _entry(text: str, friendly: bool, negations: frozenset[str]) -> _Entry:
    words = tuple(word if word.endswith("*") else fold(word) for word in text.split())
    if any(len(word.removesuffix("*")) < 2 for word in words[:1]):
        raise ValueError(f"'{text}' is no entry of the lexicon: its first word needs two letters")
    return _Entry(words, friendly, negations.isdisjoint(words))
