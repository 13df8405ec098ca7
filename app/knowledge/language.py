"""Which language a text is in, and the English words that a question in another one is asking about."""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

HERE = Path(__file__).parent

_SCRIPTS = tuple(
    (language, re.compile(pattern))
    for language, pattern in (
        ("ja", r"[\u3040-\u30ff]"),
        ("zh", r"[\u4e00-\u9fff]"),
        ("ko", r"[\uac00-\ud7af]"),
        ("ru", r"[\u0400-\u04ff]"),
        ("el", r"[\u0370-\u03ff]"),
        ("ar", r"[\u0600-\u06ff]"),
        ("he", r"[\u0590-\u05ff]"),
    )
)
_SCRIPT_SHARE = 0.2
_LEAD = 1.1
_WORD = re.compile(r"\w+")
_UNMARKED = str.maketrans({"ł": "l", "ß": "ss", "ø": "o", "æ": "ae"})


class LanguageGuess:
    """Tells languages apart by their small words, or by their script."""

    def __init__(self, small_words: Mapping[str, str]) -> None:
        words = {language: frozenset(text.casefold().split()) for language, text in small_words.items()}
        shared = Counter(word for known in words.values() for word in known)
        self._languages = tuple(words)
        self._weights = {
            word: (1 / number, [language for language, known in words.items() if word in known])
            for word, number in shared.items()
        }

    @classmethod
    def load(cls, path: Path = HERE / "languages.yaml") -> "LanguageGuess":
        return cls(yaml.safe_load(path.read_text("utf-8")))

    def is_small(self, word: str) -> bool:
        """Whether some language counts the word among those that say nothing by themselves."""
        return word.casefold() in self._weights

    def __call__(self, text: str) -> str | None:
        """A two-letter code, or None where nothing tells."""
        letters = sum(character.isalpha() for character in text)
        for language, script in _SCRIPTS:
            if letters and len(script.findall(text)) > _SCRIPT_SHARE * letters:
                return language
        points = dict.fromkeys(self._languages, 0.0)
        for word in _WORD.findall(text.casefold()):
            weight, languages = self._weights.get(word, (0.0, ()))
            for language in languages:
                points[language] += weight
        (best, most), (_, second) = sorted(points.items(), key=lambda entry: -entry[1])[:2]
        return best if most > _LEAD * second else None


@dataclass(frozen=True, slots=True)
class _Stems:
    pattern: re.Pattern[str]
    english: Mapping[str, Sequence[str]]


class Glossary:
    """Sales vocabulary of other languages to English search words; its own page explains the file's form."""

    def __init__(self, concepts: Mapping[str, Mapping[str, object]]) -> None:
        by_language: dict[str, dict[str, list[str]]] = {}
        for concept in concepts.values():
            for language, stems in concept.items():
                if isinstance(stems, list):
                    known = by_language.setdefault(language, {})
                    for stem in stems:
                        known.setdefault(fold(str(stem)), []).append(str(concept["english"]))
        self._stems = {language: _compile(known) for language, known in by_language.items()}

    @classmethod
    @lru_cache(maxsize=1)  # a tenth of a second, and several rooms read the same file; a glossary never changes
    def load(cls, path: Path = HERE / "glossary.yaml") -> "Glossary":
        return cls(yaml.safe_load(path.read_text("utf-8")))

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._stems)

    def english(self, text: str, language: str | None) -> str:
        """The English words of the concepts that `text` names, in its order; empty where it names none.

        `language` None tries every language, for a text too short to tell.
        """
        folded = fold(text)
        tried = self._stems.values() if language is None else filter(None, [self._stems.get(language)])
        found: dict[str, None] = {}
        for stems in tried:
            for match in stems.pattern.findall(folded):
                found.update(dict.fromkeys(stems.english[match]))
        return " ".join(found)


def fold(text: str) -> str:
    """Lower case without accents, Japanese kept composed: 'Prüfung' and 'prufung' are one."""
    apart = unicodedata.normalize("NFKD", text.casefold().translate(_UNMARKED))
    kept = "".join(mark for mark in apart if unicodedata.combining(mark) == 0 or "\u3099" <= mark <= "\u309a")
    return unicodedata.normalize("NFC", kept)


def _compile(known: Mapping[str, Sequence[str]]) -> _Stems:
    bare = {stem.lstrip("*"): english for stem, english in known.items()}
    inside = {stem.lstrip("*") for stem in known if stem.startswith("*") or not stem.isascii()}
    # By first letter: at most places no stem can begin, and the engine then tries none of the hundreds.
    by_letter: dict[str, list[str]] = {}
    for stem in sorted(bare, key=len, reverse=True):
        at_start = "" if stem in inside else r"(?<!\w.)"
        by_letter.setdefault(stem[0], []).append(at_start + re.escape(stem[1:]))
    pattern = "|".join(f"{re.escape(letter)}(?:{'|'.join(rests)})" for letter, rests in by_letter.items())
    return _Stems(re.compile(pattern, re.DOTALL), bare)
