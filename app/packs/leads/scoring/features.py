"""Lead attributes as bins: the only view of a lead that the score has.

A number falls into a quantile bin, a text into one of the common levels or `other`; both have a bin of their own
for a missing value. An additive model over bins needs no scaling, is not moved by outliers, takes any input, and
each weight can be read aloud.
"""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from app.errors import InvalidInput

Attributes = Mapping[str, object]

MISSING = "missing"
MAX_TEXT = 64

# Known only once the contact is over: a model that reads one of these predicts the past.
POST_OUTCOME = frozenset(
    {
        "duration",
        "call_duration",
        "call_seconds",
        "call_length",
        "outcome",
        "result",
        "converted",
        "conversion",
        "won",
        "lost",
        "closed",
        "closed_at",
        "close_date",
        "closed_reason",
        "won_at",
        "lost_at",
        "lost_reason",
        "deal_stage",
        "deal_value",
        "contract_value",
        "signed_at",
        "revenue",
        "invoice_total",
        "csat",
        "feedback",
        "churned",
    }
)
# In a short history each of these names one campaign or one week, so its weight is that week's luck.
CALENDAR = frozenset(
    {"day", "weekday", "week", "month", "quarter", "year", "date", "time", "timestamp", "created_at", "updated_at"}
)

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")


class LeakingFeature(InvalidInput):
    """A feature that tells the outcome because it is known only after it."""

    code, title = "leaking-feature", "A feature leaks the outcome"


def column_key(name: str) -> str:
    """A column's name as the two sets above spell it: lower case, underscores."""
    return re.sub(r"\W+", "_", name.strip().casefold())


def as_number(value: object) -> float | None:
    """The finite number that a value holds (`1200`, `"1,200"`, `True` is 1), or None."""
    if isinstance(value, str):
        value = value.replace(",", "") if _THOUSANDS.fullmatch(value.strip()) else value
    elif not isinstance(value, int | float | Decimal):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_level(value: object) -> str | None:
    """A value as a category: case and spacing folded, at most 64 characters; None where it holds no scalar."""
    if isinstance(value, str):
        return " ".join(value.casefold().split())[:MAX_TEXT] or None
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if as_number(value) is None else str(value)[:MAX_TEXT]


def shown(value: object) -> str:
    """A value as an explanation prints it: at most 64 characters, `missing` for none."""
    return MISSING if value is None or value == "" else str(value)[:MAX_TEXT]


@dataclass(frozen=True, slots=True)
class NumericFeature:
    """Bins (.., e0], (e0, e1], .., (ek, ..) and one for a missing or unreadable value.

    Raises:
        ValueError: the edges do not rise.
    """

    name: str
    edges: tuple[float, ...]
    kind: Literal["numeric"] = "numeric"

    def __post_init__(self) -> None:
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError(f"the edges of {self.name!r} must rise")

    @property
    def size(self) -> int:
        return len(self.edges) + 2

    def bin(self, value: object) -> int:
        number = as_number(value)
        return len(self.edges) + 1 if number is None else bisect_left(self.edges, number)


@dataclass(frozen=True, slots=True)
class CategoricalFeature:
    """One bin a level, one for any other text, one for a missing value.

    Raises:
        ValueError: a level is listed twice.
    """

    name: str
    levels: tuple[str, ...]
    kind: Literal["categorical"] = "categorical"

    def __post_init__(self) -> None:
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"the levels of {self.name!r} must differ")

    @property
    def size(self) -> int:
        return len(self.levels) + 2

    def bin(self, value: object) -> int:
        level = as_level(value)
        if level is None:
            return len(self.levels) + 1
        return self.levels.index(level) if level in self.levels else len(self.levels)


Feature = NumericFeature | CategoricalFeature


@dataclass(frozen=True, slots=True)
class Binning:
    """How a spec is learned.

    Attributes:
        bins: quantile bins of a numeric feature.
        top_levels: levels of a categorical feature at most.
        min_rows: rows that a bin or level needs; None: a 600th of the rows, within 10 and 50.
        numeric_share: share of the given values that must read as numbers for a numeric feature.
    """

    bins: int = 8
    top_levels: int = 20
    min_rows: int | None = None
    numeric_share: float = 0.95

    def rows_needed(self, rows: int) -> int:
        return self.min_rows if self.min_rows is not None else max(10, min(50, rows // 600))


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """The features, and the columns left out with the reason for each.

    Raises:
        LeakingFeature: a feature is known only after the outcome.
    """

    features: tuple[Feature, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for feature in self.features:
            if column_key(feature.name) in POST_OUTCOME:
                raise LeakingFeature(f"{feature.name!r} is known only after the outcome: take it out of the features.")

    def encode(self, attributes: Attributes) -> tuple[int, ...]:
        """The bin of each feature; columns outside the spec are ignored, absent ones are missing."""
        return tuple(feature.bin(attributes.get(feature.name)) for feature in self.features)


def learn_spec(
    rows: Sequence[Attributes],
    *,
    outcome: str,
    exclude: Iterable[str] = (),
    include: Iterable[str] = (),
    binning: Binning | None = None,
) -> FeatureSpec:
    """Choose the features and their bins from the rows, without looking at the outcomes.

    Args:
        rows: flat mappings; any may lack any column.
        outcome: the outcome's column, never a feature.
        exclude: columns to leave out.
        include: calendar columns to take all the same.
        binning: how many bins and levels.
    """
    how = binning or Binning()
    excluded, included = {outcome, *exclude}, set(include)
    features: list[Feature] = []
    skipped: list[tuple[str, str]] = []
    for name in sorted({key for row in rows for key in row}):
        reason = _reason_to_skip(name, excluded, included)
        feature = reason or _learn_feature(name, [row.get(name) for row in rows], how)
        if isinstance(feature, str):
            skipped.append((name, feature))
        else:
            features.append(feature)
    return FeatureSpec(tuple(features), tuple(skipped))


def _reason_to_skip(name: str, excluded: set[str], included: set[str]) -> str | None:
    key = column_key(name)
    if name in excluded:
        return "left out by the caller"
    if key in POST_OUTCOME:
        return "known only after the outcome"
    if key in CALENDAR and name not in included:
        return "a calendar column: it would learn a period's luck"
    return None


def _learn_feature(name: str, values: list[object], how: Binning) -> Feature | str:
    """The feature, or the reason why the column is none."""
    present = [level for value in values if (level := as_level(value)) is not None]
    counts = Counter(present)
    if not counts or (len(counts) == 1 and len(present) == len(values)):
        return "the same in every row"
    min_rows = how.rows_needed(len(values))
    numbers = [number for value in values if (number := as_number(value)) is not None]
    if len(counts) > 2 and len(numbers) >= how.numeric_share * len(present):
        return NumericFeature(name, _edges(numbers, how.bins, min_rows))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    levels = tuple(level for level, count in ranked[: how.top_levels] if count >= min_rows)
    return CategoricalFeature(name, levels) if levels else "no value is common enough"


def _edges(numbers: list[float], bins: int, min_rows: int) -> tuple[float, ...]:
    """Quantile cuts, with each value that fills a bin by itself (a sentinel such as -1, a zero) alone in its bin."""
    counts = Counter(numbers)
    distinct = sorted(counts)
    spikes = {value for value, count in counts.items() if count * bins > len(numbers)}
    below_spikes = {low for low, high in pairwise(distinct) if high in spikes}
    rest = sorted(number for number in numbers if number not in spikes)
    groups = min(bins, len(rest) // min_rows)
    quantiles = {rest[len(rest) * index // groups] for index in range(1, groups)}
    return tuple(sorted(cut for cut in spikes | below_spikes | quantiles if cut < distinct[-1]))
