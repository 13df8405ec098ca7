"""The few sentences of an assistant's own: refusals, greetings, thanks, in the language of the question."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import yaml

from app.knowledge.language import LanguageGuess, fold

HERE: Final = Path(__file__).parent
_ENGLISH: Final = "en"
_LONGEST_SMALL_TALK: Final = 60
_PUNCTUATION: Final = re.compile(r"[\W_]+")


class SmallTalk(StrEnum):
    GREETING = "greeting"
    THANKS = "thanks"


@dataclass(frozen=True, slots=True)
class _Own:
    refusal: str
    quotes: str
    replies: Mapping[SmallTalk, str]


class Phrases:
    """Raises KeyError at construction for a language that lacks a phrase."""

    def __init__(self, languages: Mapping[str, Mapping[str, Any]], guess: LanguageGuess) -> None:
        self._guess = guess
        self._own: dict[str, _Own] = {}
        self._small_talk: dict[str, tuple[SmallTalk, str]] = {}
        for language, said in languages.items():
            replies = {SmallTalk.GREETING: said["greeted"], SmallTalk.THANKS: said["thanked"]}
            self._own[language] = _Own(said["refusal"], said["quotes"], replies)
            for kind, messages in ((SmallTalk.GREETING, said["greetings"]), (SmallTalk.THANKS, said["thanks"])):
                for message in messages:
                    self._small_talk.setdefault(_plain(message), (kind, language))

    @classmethod
    def load(cls, guess: LanguageGuess, path: Path = HERE / "phrases.yaml") -> "Phrases":
        return cls(yaml.safe_load(path.read_text("utf-8")), guess)

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._own)

    def small_talk(self, message: str) -> SmallTalk | None:
        """What the whole message is, where it is no question at all."""
        found = self._found(message)
        return found[0] if found else None

    def reply(self, message: str) -> str:
        """To small talk. Raises KeyError where the message is none."""
        kind, language = self._small_talk[_plain(message)]
        return self._own[language].replies[kind]

    def refusal(self, question: str) -> str:
        """In the question's language, English where it is unknown."""
        return self._in_language_of(question).refusal

    def quotes(self, question: str) -> str:
        """The words before quotations."""
        return self._in_language_of(question).quotes

    def _found(self, message: str) -> tuple[SmallTalk, str] | None:
        return self._small_talk.get(_plain(message)) if len(message) <= _LONGEST_SMALL_TALK else None

    def _in_language_of(self, question: str) -> _Own:
        return self._own.get(self._guess(question) or _ENGLISH, self._own[_ENGLISH])


def _plain(message: str) -> str:
    return _PUNCTUATION.sub(" ", fold(message)).strip()
