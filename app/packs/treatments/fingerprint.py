"""Which customers look alike: words for what they are like, one fingerprint of the words, and a place among others.

Only words that many share go in: never a name, an address, an exact amount or a text that somebody wrote.
"""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from app.packs.treatments.features import BANDS, NEVER

SEGMENT: Final = "segment"
ABSENT: Final = "unknown"
OTHER: Final = "other"
LENGTH: Final = 64
"""Of a vector. Its layout: first the words of `BANDS` in their order, each 0 (`never`), else its place among its
words up to 1. Then every other trait by feature hashing (Weinberger and others, ICML 2009): `WEIGHT` at the slot that
name and value hash to. So traits that a catalogue adds later need no other length, and two customers who differ in
one trait are 0.7 apart."""
WEIGHT: Final = 0.5
_SLOTS: Final = LENGTH - len(BANDS)
_PREFIX: Final = "is."
_WORD: Final = re.compile(r"\w[\w .+/&-]{0,29}")
_TEN: Final = 10
_HIGHEST: Final = 12
_DIGITS: Final = 4
"""As many as a word may have: a longer number is an amount, a date or somebody's."""


def traits_of(
    words: Mapping[str, str], segment: str, attributes: Mapping[str, Any], names: Sequence[str]
) -> dict[str, str]:
    """All that a customer is told by: `words` of the journey, the segment, and the attributes of these names, which
    are written `is.<name>` so that none takes another's place."""
    told = {f"{_PREFIX}{name}": word_of(attributes[name]) if name in attributes else ABSENT for name in names}
    return dict(sorted({**words, SEGMENT: word_of(segment) if segment else ABSENT, **told}.items()))


def word_of(value: str | int | float | bool) -> str:
    """A coarse word for an attribute: yes or no, a stretch of numbers, a short text as it is, else `other`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _stretch(float(value))
    text = " ".join(value.split()).lower()
    few = sum(character.isdigit() for character in text) <= _DIGITS
    return text if few and _WORD.fullmatch(text) else OTHER


def fingerprint_of(traits: Mapping[str, str]) -> str:
    """Of the traits alone: the same ones, in whatever order, the same fingerprint; 32 hexadecimal digits."""
    return hashlib.sha256(orjson.dumps(dict(traits), option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def vector_of(traits: Mapping[str, str]) -> list[float]:
    """`LENGTH` numbers from 0 to 1; the layout stands there."""
    vector = [0.0] * LENGTH
    for place, (name, (_, words)) in enumerate(BANDS.items()):
        vector[place] = _rank(traits.get(name, NEVER), words)
    for name, value in traits.items():
        if name not in BANDS:
            vector[len(BANDS) + _slot(name, value)] = WEIGHT
    return vector


def _rank(word: str, words: Sequence[str]) -> float:
    return (words.index(word) + 1) / len(words) if word in words else 0.0


def _slot(name: str, value: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}\0{value}".encode()).digest()[:4], "big") % _SLOTS


def _stretch(number: float) -> str:
    """`100 to 1000` for 512: a stretch a power of ten, `below 0`, `0 to 10`."""
    if not math.isfinite(number):
        return OTHER
    if number < 0:
        return "below 0"
    if number < _TEN:
        return f"0 to {_TEN}"
    power = _TEN ** min(math.floor(math.log10(number)), _HIGHEST)
    return f"{power} to {_TEN * power}"
