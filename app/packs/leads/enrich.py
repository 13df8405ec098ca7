"""What is read off a lead's message and address without a model: language, kind of address, signals, wished time."""

import re
from datetime import datetime
from typing import Protocol

from app.governance.privacy import mask
from app.knowledge.language import LanguageGuess, fold
from app.packs.leads.facts import Enrichment
from app.packs.leads.lexicon import Lexicon
from app.packs.leads.signals import Signal
from app.packs.leads.wishes import Wishes

UNKNOWN_LANGUAGE = "und"
MAX_CHARACTERS = 20_000
_WISH_CHARACTERS = 4_000
_TAG = re.compile(r"([A-Za-z]{2,3})((?:[-_][A-Za-z0-9]{2,8})*)")
_QUESTION_MARKS = "?？؟"
_WORD = re.compile(r"\w+")
_CARD_LENGTH = re.compile(r"(?:\d[ \u00a0-]?){13}")
_FEW_WORDS, _FEWEST_WORDS = 6, 2
_FEW_CHARACTERS = 60
_ASKING = frozenset({Signal.ASKS_PRICE, Signal.ASKS_PRODUCT})


class Enrich(Protocol):
    def __call__(self, *, message: str, email: str, language: str | None, now: datetime) -> Enrichment: ...


class Enricher:
    """Built once by the pack; `zone` is the zone that a time without one is meant in."""

    def __init__(self, lexicon: Lexicon, guess: LanguageGuess, zone: str = "UTC") -> None:
        self._lexicon = lexicon
        self._guess = guess
        self._wishes = Wishes(lexicon.calendar, zone)

    def __call__(self, *, message: str, email: str, language: str | None, now: datetime) -> Enrichment:
        """Pure: the same message at the same time gives the same enrichment. Never raises for any text.

        Args:
            language: as declared, if it was; a BCP 47 tag in any case.
            now: aware; wished times before it are not wishes.
        """
        text = message[:MAX_CHARACTERS]
        declared, guessed = language_tag(language), self._guess(text)
        # A guess from a few words is good enough for a reply, not to leave the other languages unread.
        unsure = declared is None and len(text) < _FEW_CHARACTERS
        signals = self._signals(text, set() if unsure else {primary(declared), guessed})
        domain = email.rpartition("@")[2].strip().lower()
        return Enrichment(
            language=declared or guessed or UNKNOWN_LANGUAGE,
            email_kind=self._email_kind(domain),
            domain=domain,
            signals=tuple(sorted(signals)),
            wished=self._wishes.find(text[:_WISH_CHARACTERS], now) if Signal.WANTS_MEETING in signals else None,
        )

    def _signals(self, text: str, languages: set[str | None]) -> set[Signal]:
        signals = set(self._lexicon.phrases.find(text, languages))
        if not _ASKING & signals and any(mark in text for mark in _QUESTION_MARKS):
            signals.add(Signal.ASKS_PRODUCT)
        if self._lexicon.quantities.greatest(text) >= self._lexicon.quantities.large:
            signals.add(Signal.LARGE_DEAL)
        if _CARD_LENGTH.search(text) and mask(text).count("[card]") > text.count("[card]"):
            signals.add(Signal.PAYMENT_DATA)
        if not signals - _ASKING and self._says_nothing(text, asks=bool(signals)):
            signals = {Signal.VAGUE}
        return signals

    def _says_nothing(self, text: str, *, asks: bool) -> bool:
        """Greetings alone, or a word or two that ask nothing."""
        words = _WORD.findall(fold(text))
        if len(words) <= _FEWEST_WORDS and not asks and text.isascii():
            return True
        return len(words) <= _FEW_WORDS and all(word in self._lexicon.fillers for word in words)

    def _email_kind(self, domain: str) -> str:
        parents = {domain, ".".join(domain.split(".")[-2:]), ".".join(domain.split(".")[-3:])}
        if parents & self._lexicon.disposable_mail:
            return "disposable"
        return "free" if parents & self._lexicon.free_mail else "company"


def language_tag(declared: str | None) -> str | None:
    """The tag as BCP 47 writes it (`en-GB`, `zh-Hans`); None for what is no tag."""
    match = _TAG.fullmatch(declared.strip()) if declared else None
    if match is None:
        return None
    parts = [_subtag(part) for part in re.split("[-_]", match[2]) if part]
    return "-".join([match[1].lower(), *parts])


def _subtag(part: str) -> str:
    if len(part) == 2 and part.isalpha():
        return part.upper()
    return part.title() if len(part) == 4 and part.isalpha() else part.lower()


def primary(tag: str | None) -> str | None:
    """The language of a tag without country or script; None for no tag and for an unknown language."""
    language = tag.partition("-")[0] if tag else None
    return None if language == UNKNOWN_LANGUAGE else language
