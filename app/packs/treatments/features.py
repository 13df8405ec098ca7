"""What a history amounts to in numbers, and the same in words that alike customers share.

Recency, frequency and monetary value are the three things that Fader, Hardie and Lee found enough to tell what a
customer base is worth ("RFM and CLV", Journal of Marketing Research 42, 2005). Churn risk follows the reasoning of
their BG/NBD model (Marketing Science 24, 2005): what tells a customer who left is not how long they have been silent
but how long against their own rhythm. In place of the model's four fitted parameters stands one rule, `churn_risk`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import numpy as np

from app.packs.treatments.stages import History
from app.storage.base import MICROS

CONTACT: Final = "contact"
"""The kind of an event that was done with the customer: written to, called. Every other kind is the customer's own."""
RESPONSE: Final = "response"
"""The kind of an event in which the customer took up what a contact offered."""
DAY_S: Final = 86_400.0
MONTH_DAYS: Final = 30.0
WEEK_DAYS: Final = 7
_HALF_GONE: Final = 2.0

BANDS: Final[Mapping[str, tuple[tuple[float, ...], tuple[str, ...]]]] = {
    "recency": ((7.0, 30.0), ("this week", "this month", "longer ago")),
    "activity": ((1.0, 4.0), ("low", "medium", "high")),
    "spend": ((0.01, 50.0, 500.0), ("none", "low", "medium", "high")),
    "trend": ((-0.25, 0.25), ("falling", "steady", "rising")),
    "churn": ((0.35, 0.65), ("low", "medium", "high")),
    "contacts": ((1.0, 3.0), ("none", "few", "many")),
    "response": ((0.01, 0.5), ("none", "some", "good")),
}
"""A word for each stretch of a number: below the first limit, from it on, ..."""
NEVER: Final = "never"
_OF: Final[Mapping[str, str]] = {
    "recency": "recency_days",
    "activity": "frequency",
    "spend": "monetary_usd",
    "trend": "trend",
    "churn": "churn_risk",
    "contacts": "contacts",
    "response": "response_rate",
}


def features_of(history: History, as_of: datetime, window_days: int) -> dict[str, float]:
    """The numbers, all of what happened in the window before `as_of`, except the answers to treatments (ever).

    `recency_days` since the customer last did something (the whole window where they did nothing), `frequency` of
    what they did in 30 days, `monetary_usd` of it, `trend` -1 to 1, `churn_risk` 0 to 1, `contacts` how often they
    were contacted, `response_rate` 0 to 1 how often that, or a treatment, was taken up.
    """
    own = sum(history.weeks)
    recency = _days(as_of, history.last_at) if history.last_at else float(window_days)
    tries = history.contacted + sum(history.tries.values())
    taken = history.responded + sum(history.successes.values())
    return {
        "recency_days": round(recency, 2),
        "frequency": round(own * MONTH_DAYS / window_days, 3),
        "monetary_usd": history.amount_micros / MICROS,
        "trend": round(trend(history.weeks), 3),
        "churn_risk": round(churn_risk(recency, _gap(history, own, window_days)), 3),
        "contacts": float(history.contacted),
        "response_rate": round(min(1.0, taken / tries), 3) if tries else 0.0,
    }


def trend(weeks: Sequence[int]) -> float:
    """The slope of weekly counts over the whole window, against twice their mean: -1 (dried up) to 1 (new), 0 where
    there is nothing or only one week. A steady rise from nothing is 1."""
    total = sum(weeks)
    if len(weeks) < 2 or not total:
        return 0.0
    at = np.arange(len(weeks)) - (len(weeks) - 1) / 2
    slope = float(at @ np.asarray(weeks, dtype=float) / (at @ at))
    mean = total / len(weeks)
    return max(-1.0, min(1.0, slope * len(weeks) / (2 * mean)))


def churn_risk(recency_days: float, gap_days: float) -> float:
    """0 to 1: a log-logistic curve of the silence measured in the customer's own gaps, 0.5 at two gaps.

    A daily visitor silent for a week is as good as gone, a yearly one silent for a month is not.
    """
    ratio = recency_days / max(gap_days, 1.0)
    return ratio**2 / (ratio**2 + _HALF_GONE**2)


def words_of(history: History, features: Mapping[str, float]) -> dict[str, str]:
    """The numbers in words; `never` where a customer did nothing in the window, or was never contacted or treated."""
    words = {name: band(name, features[feature]) for name, feature in _OF.items()}
    if history.last_at is None:
        words |= dict.fromkeys(("recency", "activity", "trend", "churn"), NEVER)
    if not history.contacted and not any(history.tries.values()):
        words["response"] = NEVER
    return words


def band(name: str, number: float) -> str:
    """The word for a number of this name."""
    limits, words = BANDS[name]
    return words[sum(number >= limit for limit in limits)]


def _gap(history: History, own: int, window_days: int) -> float:
    """Days between two things that the customer did; half the window where fewer than two tell it."""
    if own < 2 or history.first_at is None or history.last_at is None:
        return window_days / 2
    return _days(history.last_at, history.first_at) / (own - 1)


def _days(later: datetime, earlier: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds() / DAY_S)
