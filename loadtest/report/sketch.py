"""Quantiles of a stream in little memory."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final, Self

ACCURACY: Final = 0.01
"""A quantile is at most this share away from the value at its rank."""
_GROWTH: Final = (1 + ACCURACY) / (1 - ACCURACY)
_LEAST: Final = 1e-6


class Sketch:
    """Counts of values in buckets whose edges grow by a constant factor.

    Masson, Rim, Lee: DDSketch, a fast and fully-mergeable quantile sketch with relative-error guarantees (VLDB 2019).
    Values below a millionth count as that.
    """

    __slots__ = ("_counts", "count", "highest", "total")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count, self.total, self.highest = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self._counts[math.ceil(math.log(max(value, _LEAST), _GROWTH))] += 1
        self.count += 1
        self.total += value
        self.highest = max(self.highest, value)

    def quantile(self, part: float) -> float:
        """The value below which `part` (0 to 1) of them are; nan where there are none."""
        rank, seen = part * (self.count - 1), 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen > rank:
                return min(2 * _GROWTH**bucket / (_GROWTH + 1), self.highest)
        return math.nan

    @classmethod
    def merged(cls, several: Iterable[Self]) -> Self:
        whole = cls()
        for each in several:
            whole._counts.update(each._counts)
            whole.count += each.count
            whole.total += each.total
            whole.highest = max(whole.highest, each.highest)
        return whole
