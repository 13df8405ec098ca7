"""What is to be allocated, and what comes of it. Money and scores are whole micro-USD throughout: nothing is rounded.

Arrays are one-dimensional. Those named `option_*` and `fixed` have one entry for each option: a treatment that a
customer may have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.errors import InvalidInput

Array = npt.NDArray[Any]
SUM_LIMIT: Final = 2**61
"""Sums of scores or costs stay below it: 64 bits hold them exactly."""


@dataclass(frozen=True, slots=True)
class FloorLimit:
    """Of the group's customers with any option (with one for `treatment`, where named), at least
    ceil(`share` * count) get one. `share` is from 0 to 1."""

    group: str
    share: float
    treatment: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """`capacity` in units by treatment (one not named has no limit); `per_customer` treatments a customer in all."""

    capacity: Mapping[str, int]
    budget_micros: int | None
    per_customer: int
    floors: tuple[FloorLimit, ...]

    def __post_init__(self) -> None:
        short = sorted(name for name, units in self.capacity.items() if units < 0)
        _require(not short, f"The capacity of '{short[0]}' is below 0." if short else "")
        _require(self.budget_micros is None or self.budget_micros >= 0, "The budget is below 0.")
        _require(self.per_customer >= 1, "A customer may have at least one treatment: per_customer is below 1.")
        for floor in self.floors:
            _require(0 <= floor.share <= 1, f"The floor for group '{floor.group}' is a share from 0 to 1.")


@dataclass(frozen=True, slots=True)
class Problem:
    """`customers` customers, named by index; `groups` is the index into `group_names` of each.

    `option_score` is what is maximised (net value times the treatment's priority), `option_net` what is really gained,
    `option_cost` (0 or more) what counts against the budget. `fixed` options are chosen already: they stay, and count
    in every limit. A customer has at most one option for a treatment. Raises InvalidInput where it does not fit.
    """

    customers: int
    groups: npt.NDArray[np.int16]
    group_names: tuple[str, ...]
    treatments: tuple[str, ...]
    option_customer: npt.NDArray[np.int32]
    option_treatment: npt.NDArray[np.int16]
    option_net: npt.NDArray[np.int64]
    option_score: npt.NDArray[np.int64]
    option_cost: npt.NDArray[np.int64]
    fixed: npt.NDArray[np.bool_]
    limits: Limits

    def __post_init__(self) -> None:
        _require(self.customers >= 0, "The number of customers is below 0.")
        _require(len(set(self.treatments)) == len(self.treatments), "A treatment is named twice.")
        _require(len(set(self.group_names)) == len(self.group_names), "A group is named twice.")
        _whole("groups", self.groups, self.customers)
        _within("groups", self.groups, len(self.group_names))
        self._check_options()
        self._check_names()

    @property
    def options(self) -> int:
        return int(self.option_customer.shape[0])

    def _check_options(self) -> None:
        count = self.option_customer.size
        for name in ("option_customer", "option_treatment", "option_net", "option_score", "option_cost"):
            _whole(name, getattr(self, name), count)
        _require(self.fixed.dtype == np.bool_, "fixed is an array of booleans.")
        _require(self.fixed.shape == (count,), f"fixed has the shape {self.fixed.shape}, not ({count},).")
        _within("option_customer", self.option_customer, self.customers)
        _within("option_treatment", self.option_treatment, len(self.treatments))
        _require(count == 0 or int(self.option_cost.min()) >= 0, "option_cost has a cost below 0.")
        for name in ("option_net", "option_score", "option_cost"):
            total = float(np.abs(getattr(self, name).astype(np.float64)).sum())
            _require(total < SUM_LIMIT, f"{name} sums up to {total:.3g}: more than 64 bits hold exactly.")
        pairs = self.option_customer.astype(np.int64) * max(1, len(self.treatments)) + self.option_treatment
        pairs.sort()
        _require(not bool((pairs[1:] == pairs[:-1]).any()), "A customer has two options for one treatment.")

    def _check_names(self) -> None:
        named = [*self.limits.capacity, *(floor.treatment for floor in self.limits.floors if floor.treatment)]
        unknown = [name for name in named if name not in self.treatments]
        _require(not unknown, f"A limit names the treatment '{unknown[0]}', which is none here." if unknown else "")


class Method(StrEnum):
    EXACT = "exact"
    GREEDY = "greedy"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Which constraint cannot be met: `constraint` is its name, `sentence` says it with figures.

    `needed` and `available` are units, or micro-USD where the budget is what lacks.
    """

    constraint: str
    needed: float
    available: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Solution:
    """Which options are `chosen`, and how good that surely is.

    `score` and `net` are sums over the chosen. No allocation has a score above `bound`; `gap` is (bound - score) /
    |bound|. `optimal`: no better one exists. `method` is greedy where the greedy rule's answer is what is returned and
    nothing proves it best. `usage` is units by treatment, `core_options` how many options the exact search had to
    look at.

    `feasible` is False where floors or fixed options cannot all be met: `conflicts` says which and why. `chosen` then
    breaks the floors by the fewest units, and is the best of those. No capacity, budget or limit of a customer is ever
    broken, save where fixed options alone do so: nothing is added there.
    """

    chosen: npt.NDArray[np.bool_]
    score: int
    net: int
    bound: float
    gap: float
    method: Method
    feasible: bool
    conflicts: tuple[Conflict, ...]
    usage: Mapping[str, int]
    spent_micros: int
    seconds: float
    optimal: bool
    core_options: int


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise InvalidInput(sentence)


def _whole(name: str, values: Array, count: int) -> None:
    _require(np.issubdtype(values.dtype, np.integer), f"{name} is an array of whole numbers, not of {values.dtype}.")
    _require(values.shape == (count,), f"{name} has the shape {values.shape}, not ({count},).")


def _within(name: str, values: Array, end: int) -> None:
    fits = values.size == 0 or (int(values.min()) >= 0 and int(values.max()) < end)
    _require(fits, f"{name} has an index outside 0 to {end - 1}.")
