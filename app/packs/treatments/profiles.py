"""What the model sees of a customer: words that many customers share, and rounded rates of similar past cases.

No name, no identity, no amount, and no text that somebody wrote: a trait that is not a short plain word, or that
reads like an order to the agent, is not shown. Rates are rounded to steps of an eighth and numbers of cases to
powers of four, so that a profile, and with it a shared answer, stays the same while cases trickle in.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from cachetools import LRUCache

from app.governance.injection import suspicious
from app.packs.treatments.rates import Rate
from app.packs.treatments.stages import Journey

NOT_SHOWN: Final = "not shown"
MOST_TRAITS: Final = 40
STEP: Final = 9 / 8
_PLAIN: Final = re.compile(r"[\w][\w .,+/&%-]{0,39}")
_MOST_WORDS: Final = 4
_KNOWN_WORDS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Profile:
    """`options` are rates by treatment that the customer may have, in the catalogue's order; `without` is the rate
    of those who were left alone. All rates are rounded."""

    traits: Mapping[str, str]
    options: Mapping[str, Rate]
    without: Rate

    def shown(self) -> dict[str, Any]:
        """As JSON, for the prompt, for the offline model and for the row of the answer."""
        return {
            "traits": dict(self.traits),
            "cases": {name: _pair(rate) for name, rate in self.options.items()},
            "without": _pair(self.without),
        }

    def key(self, rests_on: str) -> str:
        """A digest of the profile and of `rests_on`: all else that the answer rests on."""
        packed = orjson.dumps([rests_on, self.shown()], option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(packed, digest_size=32).hexdigest()


class PlainWords:
    """Tells words that may be shown from texts that may not; remembers what it was asked."""

    def __init__(self) -> None:
        self._known: LRUCache[str, bool] = LRUCache(_KNOWN_WORDS)

    def traits(self, traits: Mapping[str, str]) -> dict[str, str]:
        """The traits that may be shown; a value that may not says so."""
        named = [(name, traits[name]) for name in sorted(traits) if self._plain(name)]
        return {name: value if self._plain(value) else NOT_SHOWN for name, value in named[:MOST_TRAITS]}

    def _plain(self, text: str) -> bool:
        if len(text) > 40:
            return False
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = _is_plain(text)
        return known


def _is_plain(text: str) -> bool:
    return bool(_PLAIN.fullmatch(text)) and len(text.split()) <= _MOST_WORDS and not suspicious(text)


def profile_of(words: PlainWords, journey: Journey, rates: Mapping[str, Rate], without: Rate) -> Profile:
    """`rates` by treatment that the customer may have."""
    options = {name: rounded(rate) for name, rate in rates.items()}
    return Profile(words.traits(journey.traits), options, rounded(without))


def rounded(rate: Rate) -> Rate:
    """The chance to the nearest power of 9/8, three digits of it; the trials down to a power of four (0 below one)."""
    chance = min(1.0, STEP ** round(math.log(rate.chance, STEP))) if rate.chance > 0 else 0.0
    # A hair under a power must not fall below it.
    power = math.floor(math.log(rate.trials, 4) + 1e-9) if rate.trials >= 1 else -1
    return Rate(float(f"{chance:.3g}"), float(4**power) if power >= 0 else 0.0)


def _pair(rate: Rate) -> list[float | int]:
    return [rate.chance, int(rate.trials)]
