"""From a problem to its solution: what is left once fixed options are taken, the greedy rule, then the exact search."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.packs.treatments.allocation.classes import Ints
from app.packs.treatments.allocation.conflicts import broken_by_fixed, explained, least_lack
from app.packs.treatments.allocation.exact import Found, Search
from app.packs.treatments.allocation.greedy import best, fill, greedy, ordered
from app.packs.treatments.allocation.model import Model, build, parted
from app.packs.treatments.allocation.problem import Conflict, Method, Problem, Solution


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is chosen besides the fixed options. At most `bound` can be scored there."""

    plan: Ints
    bound: int
    exact: bool
    missing: int
    certain: bool
    core_options: int


def solve(problem: Problem, *, time_limit_s: float = 30.0, seed: int = 0) -> Solution:
    """The allocation with the highest score within all limits; see `Solution` for what is said of it.

    Exact where the time is enough, else the best that was found, with `optimal` False and the gap. The same problem and
    seed give the same answer, unless the time limit cuts in. With `time_limit_s` 0 it is the greedy rule's answer. It
    computes for about that long at most: call it in a thread of its own.
    """
    began = time.monotonic()
    model = build(problem, seed)
    decided = _decide(problem, model, seed, began + time_limit_s)
    conflicts = broken_by_fixed(problem)
    if decided.missing:
        conflicts += explained(problem, seed)
    chosen = problem.fixed.copy()
    chosen[model.dealt(decided.plan)] = True
    bound = decided.bound + int(problem.option_score[problem.fixed].sum())
    return _solution(problem, chosen, bound, decided, conflicts, time.monotonic() - began)


def _decide(problem: Problem, model: Model, seed: int, deadline: float) -> _Decided:
    if model.options == 0:
        missing = sum(floor.need for floor in model.floors)
        return _Decided(np.zeros(0, np.int64), 0, exact=True, missing=missing, certain=True, core_options=0)
    plan, missing, certain = _begun(problem, model, seed)
    finer = parted(model, seed)
    found = Search(finer, missing, seed, deadline).best(plan)
    score, bound = model.score_of(found.plan), _bound(model, finer, found)
    exact = found.improved or bound <= score
    return _Decided(found.plan, max(score, bound), exact, missing, certain, found.core_options)


def _begun(problem: Problem, model: Model, seed: int) -> tuple[Ints, int, bool]:
    """A plan by the greedy rule that lacks as little in floors as can be, what it lacks, and whether that is certain to
    be the least."""
    plan = greedy(model, seed)
    if not (missing := model.shortfall(plan)):
        return plan, 0, True
    lack = least_lack(problem, seed)
    if lack.missing < missing:
        order = ordered(model, model.score, seed)
        plan = best(model, [plan, fill(model, order, model.gathered(lack.chosen))])
    return plan, model.shortfall(plan), lack.proven


def _bound(model: Model, finer: Model, found: Found) -> int:
    """The bound in whole grains of the model, from one on the model with ties broken."""
    return found.bound // finer.grain * model.grain


def _solution(
    problem: Problem,
    chosen: npt.NDArray[np.bool_],
    bound: int,
    decided: _Decided,
    conflicts: tuple[Conflict, ...],
    seconds: float,
) -> Solution:
    score = int(problem.option_score[chosen].sum())
    used = np.bincount(problem.option_treatment[chosen], minlength=len(problem.treatments)).tolist()
    return Solution(
        chosen=chosen,
        score=score,
        net=int(problem.option_net[chosen].sum()),
        bound=float(bound),
        gap=(bound - score) / max(1, abs(bound)),
        method=Method.EXACT if decided.exact else Method.GREEDY,
        feasible=not conflicts,
        conflicts=conflicts,
        usage=dict(zip(problem.treatments, used, strict=True)),
        spent_micros=int(problem.option_cost[chosen].sum()),
        seconds=seconds,
        optimal=decided.certain and bound <= score,
        core_options=decided.core_options,
    )
