"""What is left to decide once the fixed options are taken: classes of customers, their options, and what is left of
each limit."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
import numpy.typing as npt

from app.packs.treatments.allocation.classes import Classes, Ints, Rows, classify, spans
from app.packs.treatments.allocation.problem import Array, FloorLimit, Problem

UNLIMITED: Final = np.iinfo(np.int64).max
ANY: Final = -1
_PART_BITS: Final = 20
_SCORE_BITS: Final = 46
_SUM_BITS: Final = 60
_FINEST: Final = 2**32
"""Parts of a score below this fraction of it are lost on a solver that counts in floating point."""


@dataclass(frozen=True, slots=True)
class Floor:
    """`need` more of the group's customers must get `treatment` (an index, or ANY). At least 1."""

    limit: FloorLimit
    group: int
    treatment: int
    need: int


@dataclass(frozen=True, slots=True)
class Model:
    """Options of class c are `first[c]` to `first[c + 1]`; `owner` is an option's class.

    Each of the `count` members of a class may take `quota` more treatments. `group` is the index of the members' group
    where a floor speaks of it, else the index after the last; `fresh` members have nothing yet, so the first treatment
    counts towards a floor for any. `capacity` (units by treatment) and `budget` are what is left, UNLIMITED or None
    where no choice could pass them. `candidates` and `candidate_first` lead back to the problem's options.
    Scores of plans differ by multiples of `grain`, but for less than half of it (`parted`).
    A plan is an array of units by option.
    """

    owner: npt.NDArray[np.int32]
    treatment: npt.NDArray[np.int16]
    score: Ints
    cost: Ints
    first: Ints
    count: Ints
    quota: Ints
    group: npt.NDArray[np.int32]
    fresh: npt.NDArray[np.bool_]
    groups: int
    capacity: Ints
    budget: int | None
    floors: tuple[Floor, ...]
    classes: Classes
    candidates: Ints
    candidate_first: Ints
    grain: int

    @property
    def options(self) -> int:
        return int(self.score.size)

    @property
    def units(self) -> Ints:
        """How many members an option has."""
        return self.count[self.owner]

    @property
    def bound_by_nothing(self) -> bool:
        return self.budget is None and not self.floors and bool((self.capacity == UNLIMITED).all())

    def counts_for(self, floor: Floor) -> npt.NDArray[np.bool_]:
        """Which options can help a floor."""
        apt = self.fresh[self.owner] if floor.treatment == ANY else self.treatment == floor.treatment
        ours: npt.NDArray[np.bool_] = apt & (self.group[self.owner] == floor.group)
        return ours

    def score_of(self, plan: Ints) -> int:
        return int(self.score @ plan)

    def used(self, plan: Ints) -> Ints:
        return _sums(self.treatment, plan, self.capacity.size)

    def covered(self, plan: Ints) -> Ints:
        """How many members of each class get anything."""
        return np.minimum(self.count, _sums(self.owner, plan, self.count.size))

    def reached(self, plan: Ints) -> list[int]:
        """By floor, how many it has."""
        covered = self.covered(plan)
        return [self._reached(floor, plan, covered) for floor in self.floors]

    def _reached(self, floor: Floor, plan: Ints, covered: Ints) -> int:
        if floor.treatment == ANY:
            return int(covered[(self.group == floor.group) & self.fresh].sum())
        return int(plan[self.counts_for(floor)].sum())

    def shortfall(self, plan: Ints) -> int:
        """Units missing from floors, all together."""
        return sum(max(0, floor.need - reached) for floor, reached in zip(self.floors, self.reached(plan), strict=True))

    def allows(self, plan: Ints) -> bool:
        """Whether a plan keeps capacities, budget and the limits of customers."""
        within = bool((plan >= 0).all()) and bool((plan <= self.units).all())
        taken = _sums(self.owner, plan, self.count.size)
        affordable = self.budget is None or int(self.cost @ plan) <= self.budget
        fits = bool((taken <= self.count * self.quota).all()) and bool((self.used(plan) <= self.capacity).all())
        return within and affordable and fits

    def dealt(self, plan: Ints) -> Ints:
        """The problem's options that a plan chooses: the units of a class go round its members, one after the other."""
        taken = np.flatnonzero(plan)
        units = plan[taken]
        owner = self.owner[taken].astype(np.int64)
        before = np.cumsum(units) - units
        opens = np.ones(taken.size, np.bool_)
        opens[1:] = owner[1:] != owner[:-1]
        in_class = before - np.maximum.accumulate(np.where(opens, before, 0))
        turn = spans(in_class, units)
        owners = np.repeat(owner, units)
        member = self.classes.members[self.classes.member_first[owners] + turn % self.count[owners]]
        return self.candidates[self.candidate_first[member] + np.repeat(taken - self.first[owner], units)]

    def gathered(self, chosen: npt.NDArray[np.bool_]) -> Ints:
        """The plan of chosen options of the problem, as far as they are candidates here."""
        lengths = np.diff(self.first)[np.repeat(np.arange(self.count.size), self.count)]
        options = np.repeat(np.repeat(self.first[:-1], self.count), lengths)
        options = options + spans(np.zeros(lengths.size, np.int64), lengths)
        taken = chosen[self.candidates[spans(self.candidate_first[self.classes.members], lengths)]]
        return np.bincount(options[taken], minlength=self.options)


def needs(problem: Problem) -> list[int]:
    """By floor, how many of the group must get it: the ceiling of share times count, exactly as it is written."""
    return [
        math.ceil(Fraction(str(floor.share)) * int(_entitled(problem, floor).sum())) for floor in problem.limits.floors
    ]


def served(problem: Problem, floor: FloorLimit, chosen: npt.NDArray[np.bool_]) -> int:
    """How many of the group get what the floor speaks of."""
    return int(_entitled(problem, floor, chosen).sum())


def _entitled(problem: Problem, floor: FloorLimit, among: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.bool_]:
    """Customers of the floor's group with an option (for its treatment, where named), or with one `among` options."""
    mask = np.ones(problem.options, np.bool_) if among is None else among
    if floor.treatment is not None:
        mask = mask & (problem.option_treatment == problem.treatments.index(floor.treatment))
    has = np.zeros(problem.customers, np.bool_)
    has[problem.option_customer[mask]] = True
    group = problem.group_names.index(floor.group) if floor.group in problem.group_names else ANY
    ours: npt.NDArray[np.bool_] = has & (problem.groups == group)
    return ours


def build(problem: Problem, seed: int) -> Model:
    """What is left of a problem. `seed` draws the order in which alike customers are served."""
    fixed = problem.fixed
    held = np.bincount(problem.option_customer[fixed], minlength=problem.customers)
    quota = np.maximum(0, problem.limits.per_customer - held)
    capacity, budget = _left(problem)
    floors = _floors_left(problem)
    candidates = _candidates(problem, quota, capacity, budget, floors)
    customer = problem.option_customer[candidates]
    opens = np.flatnonzero(np.diff(customer, prepend=-1))
    who, first = customer[opens], np.append(opens, candidates.size).astype(np.int64)
    group = _groups(problem, floors)[who]
    traits = np.stack([group, (held[who] == 0), np.minimum(quota[who], np.diff(first))]).astype(np.int64)
    rows = Rows(
        problem.option_treatment[candidates],
        problem.option_score[candidates],
        problem.option_cost[candidates],
        first,
        traits,
    )
    return _model(rows, classify(rows, seed), candidates, capacity, budget, floors, len(problem.group_names))


def _model(
    rows: Rows,
    classes: Classes,
    candidates: Ints,
    capacity: Ints,
    budget: int | None,
    floors: tuple[Floor, ...],
    groups: int,
) -> Model:
    examples = classes.examples
    lengths = rows.lengths[examples]
    picked = spans(rows.first[examples], lengths)
    owner = np.repeat(np.arange(examples.size, dtype=np.int32), lengths)
    treatment, cost = rows.treatment[picked], rows.cost[picked]
    units = classes.count[owner]
    asked = _sums(treatment, units, capacity.size)
    return Model(
        owner=owner,
        treatment=treatment,
        score=rows.score[picked],
        cost=cost,
        first=np.append(0, np.cumsum(lengths)),
        count=classes.count,
        quota=rows.traits[2][examples],
        group=rows.traits[0][examples].astype(np.int32),
        fresh=rows.traits[1][examples].astype(np.bool_),
        groups=groups,
        capacity=np.where(asked <= capacity, UNLIMITED, capacity),
        budget=None if budget is None or int(cost @ units) <= budget else budget,
        floors=floors,
        classes=classes,
        candidates=candidates,
        candidate_first=rows.first,
        grain=int(np.gcd.reduce(rows.score)) or 1,
    )


def parted(model: Model, seed: int) -> Model:
    """The model with ties between options broken by chance, too little to change which plans are best.

    Scores are multiplied by a power of 2 and each gets a random part on top; those of a whole plan are less than half a
    grain. Without it thousands of options with the same score and price would all have to be looked at.
    """
    most = int((model.count * model.quota).sum())
    highest = int(np.abs(model.score).max())
    shift = min(_PART_BITS, _SCORE_BITS - highest.bit_length(), _SUM_BITS - (highest * most).bit_length())
    if shift <= 0:
        return model
    parts = (model.grain << shift) // (2 * most)
    if parts < 2 or parts * _FINEST < highest << shift:
        return model
    added = np.random.default_rng(seed).integers(0, parts, model.options)
    return replace(model, score=(model.score << shift) + added, grain=model.grain << shift)


def _left(problem: Problem) -> tuple[Ints, int | None]:
    """Capacity by treatment and budget after the fixed options; 0 where those take more than there is."""
    limits, fixed = problem.limits, problem.fixed
    used = np.bincount(problem.option_treatment[fixed], minlength=len(problem.treatments))
    capacity = np.full(len(problem.treatments), UNLIMITED, np.int64)
    for name, units in limits.capacity.items():
        index = problem.treatments.index(name)
        capacity[index] = max(0, units - int(used[index]))
    if limits.budget_micros is None:
        return capacity, None
    return capacity, max(0, limits.budget_micros - int(problem.option_cost[fixed].sum()))


def _floors_left(problem: Problem) -> tuple[Floor, ...]:
    floors = []
    for limit, need in zip(problem.limits.floors, needs(problem), strict=True):
        missing = need - served(problem, limit, problem.fixed)
        if missing > 0:
            treatment = ANY if limit.treatment is None else problem.treatments.index(limit.treatment)
            floors.append(Floor(limit, problem.group_names.index(limit.group), treatment, missing))
    return tuple(floors)


def _candidates(problem: Problem, quota: Ints, capacity: Ints, budget: int | None, floors: tuple[Floor, ...]) -> Ints:
    """Options that may still be chosen, and that a best plan could choose, in the order of customer and treatment."""
    may = ~problem.fixed & (quota[problem.option_customer] > 0) & (capacity[problem.option_treatment] > 0)
    if budget is not None:
        may &= problem.option_cost <= budget
    useful = problem.option_score > 0
    if floors:
        in_floor = _groups(problem, floors) < len(problem.group_names)
        useful |= in_floor[problem.option_customer]
    found = np.flatnonzero(may & useful)
    return found[np.lexsort((problem.option_treatment[found], problem.option_customer[found]))]


def _groups(problem: Problem, floors: tuple[Floor, ...]) -> Array:
    """Each customer's group, the index after the last where no floor speaks of it."""
    names = len(problem.group_names)
    known = np.full(names + 1, names, np.int32)
    for floor in floors:
        known[floor.group] = floor.group
    return known[problem.groups]


def _sums(index: Array, weights: Ints, size: int) -> Ints:
    """Whole sums of weights by index."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, index, weights)
    return sums
