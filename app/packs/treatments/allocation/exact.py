"""The best plan, and the proof of it: prices, then a core of options that is solved in whole units.

Memory stays nearly flat in the number of customers, because only cores are handed to HiGHS.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from app.packs.treatments.allocation.bound import Relaxed
from app.packs.treatments.allocation.classes import Ints
from app.packs.treatments.allocation.greedy import fill, ordered
from app.packs.treatments.allocation.milp import Answer, Part, Program, solve_whole
from app.packs.treatments.allocation.model import UNLIMITED, Model
from app.packs.treatments.allocation.pricing import Pricing, nearest

_CORES: Final = (600, 3_000, 12_000, 48_000)
"""Options of a core: one size after the other while there is no proof."""
_NODES: Final = 500
"""Looked at in a core that can prove nothing: it is there for a better plan, which makes the next core smaller."""
_SHARE_OF_TIME: Final = 0.2
_BLOCK: Final = 3_000
_NEAR: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Found:
    """`plan` scores `score`, none scores more than `bound`. `improved`: it is better than the first one."""

    plan: Ints
    score: int
    bound: int
    improved: bool
    core_options: int

    @property
    def optimal(self) -> bool:
        return self.bound <= self.score


@dataclass(frozen=True, slots=True)
class Search:
    """At most `missing` units may lack in floors; it ends at `deadline` (of time.monotonic)."""

    model: Model
    missing: int
    seed: int
    deadline: float

    def best(self, start: Ints) -> Found:
        """The best plan that is found, at least as good as `start`, which must keep all limits."""
        relaxed = Pricing(self.model, self.missing, self.seed, self.deadline).best()
        score = self.model.score_of(start)
        found = Found(start, score, max(score, relaxed.bound), improved=False, core_options=0)
        found = self._better(found, fill(self.model, ordered(self.model, relaxed.worth, self.seed)))
        for size in _CORES:
            if found.optimal or self._left() <= 0:
                break
            found, finished = self._core(found, relaxed, size)
            if finished:
                break
            if size == _CORES[0]:
                found = self._swept(found, relaxed)
        return found

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _better(self, found: Found, plan: Ints | None) -> Found:
        if plan is None or self.model.shortfall(plan) > self.missing:
            return found
        score = self.model.score_of(plan)
        if score <= found.score:
            return found
        return replace(found, plan=plan, score=score, bound=max(found.bound, score), improved=True)

    def _core(self, found: Found, relaxed: Relaxed, size: int) -> tuple[Found, bool]:
        """Solves all that may still be better, where that is at most `size` options, else the nearest of it. Says also
        whether that ends the search."""
        slack = relaxed.slack(found.score)
        part = self._part(relaxed, np.flatnonzero(relaxed.margin <= slack), slack)
        if part.options.size > size:
            if size == _CORES[-1]:
                return replace(found, core_options=int(part.options.size)), True
            return self._improved(found, relaxed, size), False
        answer = self._solved(part, self._left(), None)
        better = replace(self._better(found, answer.plan), core_options=int(part.options.size))
        bound = better.score if answer.proven else better.bound
        if not answer.proven and math.isfinite(answer.bound):
            bound = max(better.score, min(bound, math.ceil(answer.bound)))
        return replace(better, bound=bound), True

    def _improved(self, found: Found, relaxed: Relaxed, size: int) -> Found:
        """Looks for a better plan among those that differ from what the prices say only in the classes nearest to
        another choice."""
        slack = relaxed.slack(found.score)
        near = nearest(self.model, relaxed, np.flatnonzero(relaxed.margin <= slack), size)
        part = self._part(relaxed, near, slack)
        answer = self._solved(part, self._left() * _SHARE_OF_TIME, _NODES)
        return self._better(replace(found, core_options=int(part.options.size)), answer.plan)

    def _swept(self, found: Found, relaxed: Relaxed) -> Found:
        """Decides block after block of the classes anew while the others keep to the plan. A block drawn by chance has
        about its share of what the plan uses, gets its share of what the plan leaves, and puts both to their best use.
        For models where the prices leave thousands of choices equal, so that no small core can settle them."""
        model = self.model
        draw = np.random.default_rng(self.seed).permutation(model.count.size)
        blocks = -(-model.options // _BLOCK)
        for done, classes in enumerate(np.array_split(draw, blocks)):
            if self._left() <= 0 or relaxed.bound - found.score <= _NEAR * abs(relaxed.bound):
                break
            ours = np.isin(model.owner, classes)
            options = np.flatnonzero(ours)
            part = Part(options, model.units[options], np.where(ours, 0, found.plan), self.missing)
            shared = _shared(model, found.plan, blocks - done)
            answer = solve_whole(Program(shared, part), self.seed, self._left() * _SHARE_OF_TIME, _NODES)
            found = self._better(found, answer.plan)
        return found

    def _solved(self, part: Part, seconds: float, nodes: int | None) -> Answer:
        return solve_whole(Program(self.model, part), self.seed, seconds, nodes)

    def _part(self, relaxed: Relaxed, classes: Ints, slack: int) -> Part:
        """Some classes are decided; the others do what the prices say. An option of which even one unit loses more
        than `slack` is left out, another has no more units than that allows."""
        model, units = self.model, self.model.units
        inside = np.zeros(model.count.size, np.bool_)
        inside[classes] = True
        within = inside[model.owner]
        affordable = np.where(relaxed.chosen, units, slack // np.maximum(relaxed.loss, 1))
        upper = np.minimum(units, np.where(relaxed.loss == 0, units, affordable))
        options = np.flatnonzero(within & (upper > 0))
        return Part(options, upper[options], np.where(relaxed.chosen & ~within, units, 0), self.missing)


def _shared(model: Model, plan: Ints, among: int) -> Model:
    """The model with as much of each limit as the plan uses, and one part in `among` of what it leaves."""
    used = model.used(plan)
    limited = model.capacity != UNLIMITED
    capacity = np.where(limited, used + -(-(model.capacity - used) // among), UNLIMITED)
    spent = int(model.cost @ plan)
    budget = None if model.budget is None else spent + -(-(model.budget - spent) // among)
    return replace(model, capacity=capacity, budget=budget)
