"""Which floors and fixed options cannot be met, and why, in sentences with figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from app.packs.treatments.allocation.milp import Part, Program, solve_whole
from app.packs.treatments.allocation.model import build, needs, served
from app.packs.treatments.allocation.problem import Conflict, FloorLimit, Problem
from app.storage.base import MICROS

_SECONDS: Final = 5.0
"""For one elastic model: it has a column for each kind of customer only, and takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Lack:
    """`missing` units are all that floors must lack, `chosen` options lack no more. `proven`: less cannot be."""

    chosen: npt.NDArray[np.bool_]
    missing: int
    proven: bool


def least_lack(problem: Problem, seed: int) -> Lack:
    """The elastic model: floors may lack units, and lack as few as can be. Scores play no part, so customers fall into
    few classes."""
    limits = problem.limits
    model = build(
        replace(
            problem,
            option_score=np.zeros_like(problem.option_score),
            option_cost=problem.option_cost if limits.budget_micros is not None else np.zeros_like(problem.option_cost),
        ),
        seed,
    )
    chosen = np.zeros(problem.options, np.bool_)
    most = sum(floor.need for floor in model.floors)
    if model.options == 0:
        return Lack(chosen, most, proven=True)
    nothing = np.zeros(model.options, np.int64)
    part = Part(np.arange(model.options), model.units, nothing, most, lack_price=1.0)
    answer = solve_whole(Program(model, part), seed, _SECONDS)
    if answer.plan is None:
        return Lack(chosen, most, proven=False)
    chosen[model.dealt(answer.plan)] = True
    return Lack(chosen, model.shortfall(answer.plan), answer.proven)


def explained(problem: Problem, seed: int) -> tuple[Conflict, ...]:
    """Sets of floors that cannot be met together, each as small as can be: without any one of them the others can
    (the deletion filter of Chinneck and Dravnieks 1991, ORSA Journal on Computing 3:157-168)."""
    pool = list(problem.limits.floors)
    conflicts = []
    while pool and (missing := _missing(problem, pool, seed)):
        small = list(pool)
        for floor in pool:
            rest = [other for other in small if other is not floor]
            if rest and (less := _missing(problem, rest, seed)):
                small, missing = rest, less
        conflicts.append(_conflict(problem, small, missing, seed))
        pool = [floor for floor in pool if not any(floor is met for met in small)]
    return tuple(conflicts)


def broken_by_fixed(problem: Problem) -> tuple[Conflict, ...]:
    """Limits that the fixed options alone pass."""
    fixed, limits = problem.fixed, problem.limits
    used = np.bincount(problem.option_treatment[fixed], minlength=len(problem.treatments))
    conflicts = [
        _fixed(f"capacity:{name}", f"{units} units of {name}", int(used[problem.treatments.index(name)]), units)
        for name, units in limits.capacity.items()
        if used[problem.treatments.index(name)] > units
    ]
    spent = int(problem.option_cost[fixed].sum())
    if limits.budget_micros is not None and spent > limits.budget_micros:
        sentence = f"Fixed options cost {_usd(spent)}; the budget is {_usd(limits.budget_micros)}."
        conflicts.append(Conflict("budget", spent, limits.budget_micros, sentence))
    held = np.bincount(problem.option_customer[fixed], minlength=1)
    if (over := int((held > limits.per_customer).sum())) > 0:
        sentence = (
            f"Fixed options give {over} customers up to {int(held.max())} treatments; "
            f"a customer may have {limits.per_customer}."
        )
        conflicts.append(Conflict("per_customer", int(held.max()), limits.per_customer, sentence))
    return tuple(conflicts)


def _fixed(constraint: str, limit: str, used: int, units: int) -> Conflict:
    return Conflict(constraint, used, units, f"Fixed options take {used} units; the limit is {limit}.")


def _missing(
    problem: Problem, floors: Sequence[FloorLimit], seed: int, *, capacity: bool = True, budget: bool = True
) -> int:
    """What these floors alone must lack, with some limits left out."""
    limits = replace(
        problem.limits,
        floors=tuple(floors),
        capacity=problem.limits.capacity if capacity else {},
        budget_micros=problem.limits.budget_micros if budget else None,
    )
    return least_lack(replace(problem, limits=limits), seed).missing


def _conflict(problem: Problem, floors: Sequence[FloorLimit], missing: int, seed: int) -> Conflict:
    alone = replace(problem, limits=replace(problem.limits, floors=tuple(floors)))
    reached = [served(problem, floor, problem.fixed) for floor in floors]
    needed = sum(max(0, need - got) for need, got in zip(needs(alone), reached, strict=True))
    available = needed - missing
    named = " and ".join(map(_named, floors))
    asks = "needs" if len(floors) == 1 else "together need"
    reason = _reason(problem, floors, available, seed)
    constraint = " + ".join(":".join(("floor", floor.group, floor.treatment or "any")) for floor in floors)
    return Conflict(constraint, needed, available, f"{named} {asks} {_units(floors, needed)}; {reason}.")


def _reason(problem: Problem, floors: Sequence[FloorLimit], available: int, seed: int) -> str:
    if not _missing(problem, floors, seed, capacity=False):
        return f"{available} are left"
    if not _missing(problem, floors, seed, budget=False):
        spent = int(problem.option_cost[problem.fixed].sum())
        left = max(0, (problem.limits.budget_micros or 0) - spent)
        return f"the {_usd(left)} left of the budget pay for {available}"
    return f"capacity, budget and what a customer may still have allow {available}"


def _named(floor: FloorLimit) -> str:
    return f"The floor of {floor.share * 100:g} % for group '{floor.group}'"


def _units(floors: Sequence[FloorLimit], needed: int) -> str:
    names = list(dict.fromkeys(floor.treatment or "any treatment" for floor in floors))
    return f"{needed} {'unit' if needed == 1 else 'units'} of {' and '.join(names)}"


def _usd(micros: int) -> str:
    return f"{micros / MICROS:,.2f} USD"
