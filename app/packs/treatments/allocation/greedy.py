"""The greedy rule: floors first, then one option after the other while there is room."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from app.packs.treatments.allocation.classes import Ints
from app.packs.treatments.allocation.model import ANY, Floor, Model
from app.packs.treatments.allocation.problem import Array

_BLOCK: Final = 4096


@dataclass(slots=True)
class _Taking:
    """A plan that grows, and what is left of the limits. `places` is how many treatments a class may still take."""

    model: Model
    plan: Ints
    places: list[int]
    taken: list[int]
    capacity: list[int]
    budget: int | None

    @staticmethod
    def begin(model: Model, plan: Ints) -> "_Taking":
        taken = np.zeros(model.count.size, np.int64)
        np.add.at(taken, model.owner, plan)
        return _Taking(
            model,
            plan.copy(),
            (model.count * model.quota - taken).tolist(),
            taken.tolist(),
            (model.capacity - model.used(plan)).tolist(),
            None if model.budget is None else model.budget - int(model.cost @ plan),
        )

    def take(self, order: Ints, wanted: int | None = None, *, newly: bool = False) -> None:
        """Takes as many units of each option as there is room for, in this order, up to `wanted` in all. `newly`: only
        for members who have nothing yet."""
        model = self.model
        for start in range(0, order.size, _BLOCK):
            block = order[start : start + _BLOCK]
            if wanted == 0:
                return
            rows = zip(
                block.tolist(),
                model.owner[block].tolist(),
                model.treatment[block].tolist(),
                model.cost[block].tolist(),
                model.count[model.owner[block]].tolist(),
                strict=True,
            )
            for option, owner, treatment, cost, members in rows:
                room = min(self.places[owner], self.capacity[treatment])
                if room <= 0:
                    continue
                if wanted is not None:
                    room = min(room, wanted)
                if newly:
                    room = min(room, members - self.taken[owner])
                room = min(room, members - int(self.plan[option]))
                if cost and self.budget is not None:
                    room = min(room, self.budget // cost)
                if room > 0:
                    self._put(option, owner, treatment, cost, room)
                    wanted = None if wanted is None else wanted - room

    def _put(self, option: int, owner: int, treatment: int, cost: int, units: int) -> None:
        self.plan[option] += units
        self.places[owner] -= units
        self.taken[owner] += units
        self.capacity[treatment] -= units
        if self.budget is not None:
            self.budget -= cost * units


def greedy(model: Model, seed: int) -> Ints:
    """The better of two plans: by score, and, where there is a budget, by score for each unit of cost (Dantzig 1957,
    Operations Research 5:266-277). Equal options are taken in an order drawn with `seed`."""
    plans = [fill(model, ordered(model, model.score, seed))]
    if model.budget is not None:
        plans.append(fill(model, ordered(model, model.score / np.maximum(model.cost, 1), seed)))
    return best(model, plans)


def best(model: Model, plans: list[Ints]) -> Ints:
    """The plan that lacks least in floors, and of those the one with the highest score; the first of equals."""
    return min(plans, key=lambda plan: (model.shortfall(plan), -model.score_of(plan)))


def ordered(model: Model, key: Array, seed: int) -> Ints:
    """Options from the highest key down; equal ones as drawn."""
    draw = np.random.default_rng(seed).permutation(model.options)
    order: Ints = draw[np.argsort(-key[draw], kind="stable")]
    return order


def fill(model: Model, order: Ints, plan: Ints | None = None) -> Ints:
    """A plan by the greedy rule, on top of `plan`. Floors come first, the one with the fewest customers for each unit
    it needs before the others; then options with a score, both in `order`."""
    taking = _Taking.begin(model, np.zeros(model.options, np.int64) if plan is None else plan)
    for floor in sorted(model.floors, key=lambda floor: _plenty(model, floor)):
        missing = floor.need - model.reached(taking.plan)[model.floors.index(floor)]
        if missing > 0:
            helping = model.counts_for(floor)
            taking.take(order[helping[order]], missing, newly=floor.treatment == ANY)
    taking.take(order[(model.score > 0)[order]])
    return taking.plan


def _plenty(model: Model, floor: Floor) -> float:
    """Units of options that could help a floor, for each one that it needs."""
    helping: npt.NDArray[np.bool_] = model.counts_for(floor)
    return float(model.units[helping].sum()) / floor.need
