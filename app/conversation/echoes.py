"""Words that an answer took from its question alone: who never said them must not read them in a shared answer."""

import re
from collections.abc import Callable, Iterable
from typing import Final

# Where words stand without spaces between them, each character counts as one.
_CHARACTER: Final = r"\u0e00-\u0eff\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD: Final = re.compile(rf"[{_CHARACTER}]|[^\W{_CHARACTER}]+")


def words(text: str) -> frozenset[str]:
    """The text's words in small letters."""
    return frozenset(_WORD.findall(text.casefold()))


def echoes(question: str, answer: str, sources: Iterable[str], is_small: Callable[[str], bool]) -> frozenset[str]:
    """The question's words that the answer says, inflected or not, and that no source has.

    Args:
        sources: what the answer cites: those words are the documents', whoever asks.
        is_small: whether a word says nothing by itself ("the").
    """
    known = frozenset[str]().union(*(words(source) for source in sources))
    said = words(answer) - known
    asked = [word for word in words(question) - known if not is_small(word)]
    return frozenset(word for word in asked if any(one.startswith(word) for one in said))
