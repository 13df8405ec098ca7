"""Problems of allocation for tests, and a solver so plain that it can be trusted."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from app.packs.treatments.allocation.model import needs, served
from app.packs.treatments.allocation.problem import FloorLimit, Limits, Problem

TREATMENTS = ("call_back", "email", "visit")
GROUPS = ("", "rural", "old")
Option = tuple[int, int, int, int, bool]


def problem(
    options: list[Option], limits: Limits, groups: list[int], treatments: tuple[str, ...] = TREATMENTS
) -> Problem:
    """Options are (customer, treatment, score, cost, fixed); groups name each customer's by index."""
    columns = [np.array(column) for column in zip(*options, strict=True)] or [np.zeros(0, np.int64)] * 5
    customer, treatment, score, cost, fixed = columns
    return Problem(
        customers=len(groups),
        groups=np.array(groups, np.int16),
        group_names=GROUPS,
        treatments=treatments,
        option_customer=customer.astype(np.int32),
        option_treatment=treatment.astype(np.int16),
        option_net=score.astype(np.int64),
        option_score=score.astype(np.int64),
        option_cost=cost.astype(np.int64),
        fixed=fixed.astype(np.bool_),
        limits=limits,
    )


@st.composite
def problems(draw: st.DrawFn, *, customers: int = 4, fixed: bool = True) -> Problem:
    """Small problems, many of them with ties, tight limits, or floors that cannot be met."""
    count = draw(st.integers(1, customers))
    scores = draw(st.sampled_from([st.integers(-5, 30), st.sampled_from([4, 5, 10]), st.integers(1, 10**9)]))
    costs = draw(st.sampled_from([st.just(0), st.sampled_from([2, 3, 5]), st.integers(0, 40)]))
    marks = st.sampled_from([False, False, False, True]) if fixed else st.just(False)
    pairs = [pair for pair in itertools.product(range(count), range(3)) if draw(st.integers(0, 3))]
    by_treatment = [draw(costs) for _ in TREATMENTS]
    alike = draw(st.booleans())
    options = [(c, t, draw(scores), by_treatment[t] if alike else draw(costs), draw(marks)) for c, t in pairs]
    groups = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    return problem(options, draw(limits()), groups)


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    capacity = draw(st.dictionaries(st.sampled_from(TREATMENTS), st.integers(0, 4)))
    shares = st.sampled_from([0.1, 0.3, 0.5, 1.0])
    floor = st.builds(FloorLimit, st.sampled_from(GROUPS[1:]), shares, st.sampled_from([None, *TREATMENTS]))
    # As the catalogue has them: one for a group and a treatment.
    floors = tuple(draw(st.lists(floor, max_size=3, unique_by=lambda one: (one.group, one.treatment))))
    return Limits(capacity, draw(st.none() | st.integers(0, 60)), draw(st.integers(1, 2)), floors)


def lacking(given: Problem, chosen: np.ndarray) -> int:
    """Units missing from all floors."""
    rows = zip(given.limits.floors, needs(given), strict=True)
    return sum(max(0, need - served(given, floor, chosen)) for floor, need in rows)


def broken(given: Problem, chosen: np.ndarray) -> list[str]:
    """Limits that are passed, where the fixed options do not pass them by themselves; a fixed option left out."""
    found = [] if bool(chosen[given.fixed].all()) else ["fixed"]
    limits = given.limits
    measures = [
        (name, np.where(given.option_treatment == given.treatments.index(name), 1, 0), units)
        for name, units in limits.capacity.items()
    ]
    if limits.budget_micros is not None:
        measures.append(("budget", given.option_cost, limits.budget_micros))
    for customer in range(given.customers):
        ours = np.where(given.option_customer == customer, 1, 0)
        measures.append((f"customer {customer}", ours, limits.per_customer))
    for name, weight, most in measures:
        if weight[chosen].sum() > max(most, weight[given.fixed].sum()):
            found.append(name)
    return found


def every(given: Problem) -> Iterator[np.ndarray]:
    """All allocations that break no capacity, budget or limit of a customer."""
    free = np.flatnonzero(~given.fixed)
    for picks in itertools.product([False, True], repeat=free.size):
        chosen = given.fixed.copy()
        chosen[free[np.array(picks, bool)]] = True
        if not broken(given, chosen):
            yield chosen


def brute(given: Problem) -> tuple[int, int]:
    """The fewest units that floors must lack, and the highest score at that."""
    found = [(lacking(given, chosen), -int(given.option_score[chosen].sum())) for chosen in every(given)]
    missing, score = min(found)
    return missing, -score


def with_floors(given: Problem, floors: tuple[FloorLimit, ...]) -> Problem:
    return replace(given, limits=replace(given.limits, floors=floors))
