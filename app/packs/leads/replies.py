"""The offline model's e-mails: templates by language around quotations of pages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from app.knowledge.language import LanguageGuess
from app.knowledge.quoting import Quote
from app.packs.leads.planning import SLOT_PLACEHOLDER

PATH = Path(__file__).parent / "replies.yaml"
FALLBACK = "en"
MAX_SUBJECT = 200
_NAME = re.compile(r"[^\W\d_]+(?:(?:\.? |['’-])[^\W\d_]+){0,4}\.?")
_MAX_NAME = 60


@dataclass(frozen=True, slots=True)
class Letter:
    subject: str
    body: str


class Replies:
    """Writes in the lead's language where there are templates for it, else in English."""

    def __init__(self, templates: Mapping[str, Mapping[str, Any]], guess: LanguageGuess) -> None:
        self._templates = templates
        self._guess = guess

    @classmethod
    def load(cls, guess: LanguageGuess, path: Path = PATH) -> "Replies":
        return cls(yaml.safe_load(path.read_text("utf-8")), guess)

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._templates)

    def respond(self, language: str | None, name: str, quotes: Sequence[Quote]) -> Letter:
        """An answer made of quotations; `quotes` has at least one."""
        chosen = self._chosen(language)
        title = quotes[0].passage.title
        parts = [*self._quoted("respond", chosen, quotes), self._text(chosen, "invite")]
        return self._letter(chosen, name, self._text(chosen, "subject_respond", title=title), parts, "closing_quoted")

    def schedule(self, language: str | None, name: str, quotes: Sequence[Quote]) -> Letter:
        """Tells the time that is booked, in place of `{slot}`, and quotes what was asked besides."""
        chosen = self._chosen(language)
        parts = [self._text(chosen, "schedule", slot=SLOT_PLACEHOLDER)]
        if quotes:
            parts += self._quoted("also", chosen, quotes)
        closing = "closing_quoted" if quotes else "closing"
        return self._letter(chosen, name, self._text(chosen, "subject_schedule"), parts, closing)

    def later(self, language: str | None, name: str, when: date) -> Letter:
        """Thanks, and names the month in which we come back."""
        chosen = self._chosen(language)
        month = self._text(chosen, "month", month=self._templates[chosen]["months"][when.month - 1], year=when.year)
        return self._letter(
            chosen, name, self._text(chosen, "subject_later"), [self._text(chosen, "later", month=month)]
        )

    def ask_back(self, language: str | None, name: str) -> Letter:
        chosen = self._chosen(language)
        return self._letter(chosen, name, self._text(chosen, "subject_vague"), [self._text(chosen, "vague")])

    def not_yet(self, language: str | None, name: str) -> Letter:
        chosen = self._chosen(language)
        return self._letter(chosen, name, self._text(chosen, "subject_later"), [self._text(chosen, "not_yet")])

    def _chosen(self, language: str | None) -> str:
        return language if language is not None and language in self._templates else FALLBACK

    def _quoted(self, template: str, language: str, quotes: Sequence[Quote]) -> list[str]:
        lines = "\n".join(f"- “{quote.text}” ({quote.passage.title})" for quote in quotes)
        spoken = self._guess(" ".join(quote.text for quote in quotes))
        parts = [self._text(language, template, quotes=lines)]
        return parts if spoken in (language, None) else [*parts, self._text(language, "other_language")]

    def _letter(self, language: str, name: str, subject: str, parts: Sequence[str], closing: str = "closing") -> Letter:
        spoken = spoken_name(name)
        hello = self._text(language, "hello", name=spoken) if spoken else self._text(language, "hello_nameless")
        thanks = self._text(language, "thanks")
        body = "\n\n".join([hello, thanks, *parts, self._text(language, closing)])
        return Letter(subject[:MAX_SUBJECT], body)

    def _text(self, language: str, template: str, **values: object) -> str:
        text: str = self._templates[language][template]
        return text.format_map(values) if values else text


def spoken_name(name: str) -> str | None:
    """The name where it reads as one; None for what may be a slogan, an address or an order to somebody."""
    first_line = " ".join(name.split())
    return first_line if len(first_line) <= _MAX_NAME and _NAME.fullmatch(first_line) else None
