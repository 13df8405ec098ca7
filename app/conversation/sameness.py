"""Whether two questions ask the same, by their words and the likeness of their vectors.

A cosine alone does not tell: WordLlama's is 1.000 of "from Frankfurt to Dublin" and "from Dublin to Frankfurt" in one
question, 0.970 with and without a "not". So the words decide what can be the same at all (whatever carries meaning must
be in both, with the same negations, quantities and directions), and the cosine how sure that is.
docs/decisions/0015 has the figures.
"""

import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
_MEASURED: Final = "en"
_KEPT: Final = 4_096
_MARKS: Final = ".,;:!?…¿¡\"'`´‘’“”„«»()[]{}<>-–—*~。，、！？；：「」『』（）《》؟،؛।"
_APART: Final = str.maketrans(dict.fromkeys("-–—/。，、！？；：", " ") | {"’": "'", "`": "'", "´": "'"})
_SHORTENED: Final = ("'ve", "'re", "'ll", "'d", "'m", "'s")
_ENDINGS: Final = (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("es", "e"), ("s", ""))
_BARE: Final = ("ss", "us", "is")
_TO: Final = "to"
_LONGEST: Final = 12
_SHORTEST_STEM: Final = 3


@dataclass(frozen=True, slots=True)
class Weights:
    """Of a logistic model; fitted by tests/perf/fit_sameness.py on pairs of the training questions of banking77.

    Args:
        cosine: of the cosine's square.
        shared: of the letters of shared words, in twenties; a word counts at most twelve. The longer what two
            questions share, the less likely that the same words are meant in two ways.
    """

    cosine: float
    shared: float
    intercept: float

    def score(self, cosine: float, shared: float) -> float:
        """0 to 1."""
        return 1 / (1 + math.exp(-(self.intercept + self.cosine * cosine**2 + self.shared * shared)))


WORDLLAMA_WEIGHTS: Final = Weights(2.74, 1.53, -0.12)


@dataclass(frozen=True, slots=True)
class _Read:
    """A question's words in their plain forms, and what of them must agree."""

    words: frozenset[str]
    content: frozenset[str]
    quantities: frozenset[str]
    asks: frozenset[str]
    directions: frozenset[str]
    denied: frozenset[str]
    links: frozenset[tuple[str, str, str]]


@dataclass(frozen=True)
class Lexicon:
    """The word lists of sameness.yaml, in plain forms; `same` maps a plain form to the one that stands for it."""

    light: frozenset[str]
    quantities: frozenset[str]
    directions: frozenset[str]
    negations: frozenset[str]
    stances: frozenset[str]
    asks: frozenset[str]
    same: Mapping[str, str]
    contractions: Mapping[str, Sequence[str]]

    @classmethod
    def load(cls, path: Path = HERE / "sameness.yaml") -> "Lexicon":
        data: Mapping[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        groups = [[_stem(word) for word in group.split()] for group in data["same"]]
        same = {word: group[0] for group in groups for word in group}

        def listed(name: str) -> frozenset[str]:
            return frozenset(same.get(_stem(word), _stem(word)) for word in data[name].split())

        contractions = {word: tuple(said.split()) for word, said in data["contractions"].items()}
        names = ("light", "quantities", "directions", "negations", "stances", "asks")
        return cls(**{name: listed(name) for name in names}, same=same, contractions=contractions)

    @cached_property
    def small(self) -> frozenset[str]:
        """All that is no content."""
        return self.light | self.quantities | self.asks | self.directions | self.negations

    def plain(self, tokens: Sequence[str]) -> Iterator[str]:
        """Contractions apart, endings off, one word for those that mean the same."""
        for token in tokens:
            for word in self.contractions.get(token) or _apart(token):
                stem = _stem(word)
                yield self.same.get(stem, stem)


class Sameness:
    """`language` guesses that of a text; questions are compared by sense in English alone."""

    def __init__(
        self, lexicon: Lexicon, language: Callable[[str], str | None], weights: Weights = WORDLLAMA_WEIGHTS
    ) -> None:
        self._lexicon = lexicon
        self._language = language
        self._weights = weights
        self._read = lru_cache(_KEPT)(self._read_anew)

    @classmethod
    def load(cls, language: Callable[[str], str | None]) -> "Sameness":
        return cls(Lexicon.load(), language)

    def score(self, one: str, other: str, cosine: float) -> float:
        """How sure it is that both ask the same, 0 to 1.

        1 where the words are the same in the same order, whatever the punctuation. Beyond that nothing but English
        was measured: questions that are not, or do not tell, are never the same.

        Args:
            cosine: of the questions' WordLlama vectors.
        """
        if tokens(one) == tokens(other):
            return 1.0
        if not (self._is_measured(one) and self._is_measured(other)):
            return 0.0
        shared = self.shared(one, other)
        return 0.0 if shared is None else self._weights.score(cosine, shared)

    def shared(self, one: str, other: str) -> float | None:
        """The letters of the words in both, in twenties; None where the words ask for two things."""
        first, second = self._read(one), self._read(other)
        if not first.content or not _agree(first, second):
            return None
        return sum(min(len(word), _LONGEST) for word in first.words & second.words) / 20

    def _is_measured(self, question: str) -> bool:
        """Whether it is English; where the guess has none, by half of its words."""
        language = self._language(question)
        if language is not None:
            return language == _MEASURED
        words = list(self._lexicon.plain(tokens(question)))
        return sum(word in self._lexicon.small for word in words) * 2 >= len(words)

    def _read_anew(self, question: str) -> _Read:
        lexicon = self._lexicon
        words = list(lexicon.plain(tokens(question)))
        found = frozenset(words)
        content = found - lexicon.small
        return _Read(
            found,
            content,
            found & lexicon.quantities,
            found & lexicon.asks,
            found & lexicon.directions,
            _denied(words, content | lexicon.stances, lexicon.negations),
            _links(words, content, lexicon.directions | {_TO}),
        )


def tokens(text: str) -> tuple[str, ...]:
    """Words in lower case, without the punctuation around them; `c#` and `c++` stay what they are."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_APART)
    return tuple(filter(None, (word.strip(_MARKS) for word in folded.split())))


def _agree(one: _Read, other: _Read) -> bool:
    alike = (one.content, one.quantities, one.directions, one.denied) == (
        other.content,
        other.quantities,
        other.directions,
        other.denied,
    )
    # "My card is lost" and "What do I do when my card is lost?" may be one: only two different words part them.
    asked = one.asks == other.asks or not one.asks or not other.asks
    return alike and asked and not any((after, link, before) in other.links for before, link, after in one.links)


def _denied(words: Sequence[str], deniable: frozenset[str], negations: frozenset[str]) -> frozenset[str]:
    """For each negation the word that it denies, the next one that can be; "" where none is."""
    found, waiting = set(), False
    for word in words:
        if word in negations:
            waiting = True
        elif waiting and word in deniable:
            found.add(word)
            waiting = False
    return frozenset(found | {""}) if waiting else frozenset(found)


def _links(
    words: Sequence[str], content: frozenset[str], directions: frozenset[str]
) -> frozenset[tuple[str, str, str]]:
    """Each direction with the words of content on its two sides."""
    found, before, between = set[tuple[str, str, str]](), "", list[str]()
    for word in words:
        if word in directions:
            between.append(word)
        elif word in content:
            found.update((before, link, word) for link in between if before)
            before, between = word, []
    return frozenset(found)


def _apart(token: str) -> tuple[str, ...]:
    """`isn't` is two words, `card's` is `card`."""
    if token.endswith("n't"):
        return token[:-3], "not"
    for ending in _SHORTENED:
        if token.endswith(ending):
            return (token.removesuffix(ending),)
    return (token,)


@lru_cache(_KEPT)
def _stem(word: str) -> str:
    """Word endings of English off, so that forms of a word meet; nothing a reader would take for a word."""
    for ending, rest in _ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= _SHORTEST_STEM and not word.endswith(_BARE):
            word = stem + rest
            doubled = ending in ("ing", "ed") and word[-1] == word[-2] and word[-1] not in "lsz"
            word = word[:-1] if doubled else word
            break
    return word.removesuffix("e") if len(word) > _SHORTEST_STEM else word
