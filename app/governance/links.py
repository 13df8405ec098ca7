"""Links in what a model wrote: only those that its sources carry stay. The way out for stolen data is closed."""

import re
from collections.abc import Iterable, Set

# Addresses, and bare host names that a mail program or a browser would make a link of.
_HOST = r"(?:[\w-]{1,63}\.){1,8}"
_ENDINGS = (
    "com|net|org|io|ai|app|dev|co|info|biz|example|test|eu|de|at|ch|fr|es|it|nl|be|pl|pt|uk|us|jp|cn|ru|xyz|top|site|"
    "online|link|click|ly|me|cc|tv|gov|edu"
)
_LINK = re.compile(
    rf"(?i)(?:\b[a-z][a-z0-9+-]{{1,14}}:/{{1,2}}|\bwww\.)[^\s<>()\[\]\"']+"
    rf"|[\w.+-]{{1,64}}@{_HOST}[\w-]{{2,63}}"
    rf"|\b{_HOST}(?:(?:{_ENDINGS})\b(?:/[^\s<>()\[\]\"']*|\?[^\s<>()\[\]\"']+)?|[a-z]{{2,24}}/[^\s<>()\[\]\"']+)"
)
_MAYBE = re.compile(r"[\w-]\.\S|:/|@|!\[")
_LINK_END = ".,;:!?…"
_IMAGE = re.compile(r"!\[[^\]\[]{0,300}\]\([^)]{0,2000}\)")
LINK_REMOVED = "[link removed]"


def links(texts: Iterable[str]) -> frozenset[str]:
    """Every link, mail address and bare host name of the texts."""
    return frozenset(match.group().rstrip(_LINK_END) for text in texts for match in _LINK.finditer(text))


def has_links(text: str) -> bool:
    """Whether `without_links` may find anything to cut."""
    # Most texts carry none, and the first look costs a tenth of the whole one.
    return _MAYBE.search(text) is not None and (_LINK.search(text) or _IMAGE.search(text)) is not None


def without_links(text: str, known: Set[str]) -> str:
    """The text with `[link removed]` for each link that is not among `known`, and for every Markdown image."""

    def keep(match: re.Match[str]) -> str:
        found = match.group().rstrip(_LINK_END)
        return match.group() if found in known else LINK_REMOVED + match.group()[len(found) :]

    return _LINK.sub(keep, _IMAGE.sub(LINK_REMOVED, text))
