"""A model's text on its way to the reader: unknown `[n]` and made-up links are taken out, also when split over tokens.

What may still become a marker, a link or an image is held back until it is whole: at most a word as a rule.
"""

import re
from collections.abc import Callable, Iterable

from app.conversation.evidence import Evidence
from app.governance.links import has_links, links, without_links

_MARK = re.compile(r"[ \t]*\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]")
_NUMBER = re.compile(r"\d+")
_OPEN = re.compile(
    r"!(?:\[[^\]\[]{0,300}(?:\](?:\([^)]{0,2000})?)?)?\Z"
    r"|[ \t]*(?:\[[\d\s,;]{0,40})?\Z"
    r"|(?:[A-Za-z][A-Za-z0-9+-]{1,14}:/|[Ww]{3}\.)[^\s<>()\[\]\"']*\Z"
    r"|[A-Za-z0-9_.+@:/?=&%~#-]{1,300}\Z"
)


class CitedText:
    """The text of one answer, piece by piece.

    Args:
        evidence: whose numbers may be cited; it may grow while the text comes.
        sources: other texts whose links may be repeated (the question, results of tools), read when a link comes.
    """

    def __init__(self, evidence: Evidence, sources: Callable[[], Iterable[str]] = tuple) -> None:
        self._evidence = evidence
        self._sources = sources
        self._held = ""
        self._sent: list[str] = []
        self.cited: dict[int, None] = {}
        """The numbers cited so far, in the order of their first use."""

    @property
    def text(self) -> str:
        """All that was let through."""
        return "".join(self._sent).strip()

    def feed(self, piece: str, *, last: bool = False) -> tuple[str, list[int]]:
        """What can be sent now, and the numbers in it that were not cited before. `last`: nothing follows."""
        ready = self._held + piece
        self._held = ""
        if not last:
            match = _OPEN.search(ready)
            end = match.start() if match else len(ready)
            ready, self._held = ready[:end], ready[end:]
        return self._checked(ready)

    def end(self) -> tuple[str, list[int]]:
        """The rest."""
        return self.feed("", last=True)

    def reset(self) -> None:
        """What came so far was not the answer."""
        self._held = ""
        self._sent.clear()
        self.cited.clear()

    def _checked(self, text: str) -> tuple[str, list[int]]:
        if not text:
            return "", []
        if has_links(text):
            text = without_links(text, self._known_links())
        fresh: list[int] = []
        if "[" in text:
            text = _MARK.sub(lambda match: self._marker(match, fresh), text)
        self._sent.append(text)
        return text, fresh

    def _marker(self, match: re.Match[str], fresh: list[int]) -> str:
        numbers = [int(number) for number in _NUMBER.findall(match[1])]
        known = [number for number in numbers if number in self._evidence]
        new = [number for number in dict.fromkeys(known) if number not in self.cited]
        self.cited.update(dict.fromkeys(new))
        fresh += new
        if len(known) == len(numbers):
            return match[0]
        space = match[0][: match[0].index("[")]
        return f"{space}[{', '.join(map(str, known))}]" if known else ""

    def _known_links(self) -> frozenset[str]:
        return links([*self._evidence.texts, *self._sources()])
