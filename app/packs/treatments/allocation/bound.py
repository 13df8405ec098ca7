"""Prices on what customers compete for, and the bound that they prove.

With a price on every unit of capacity, budget and floor, each customer simply takes what is worth most to them: what
all of them then gain, and the limits at their prices, is more than any allocation can reach (Lagrangian relaxation:
Geoffrion 1974, Mathematical Programming Study 2:82-114). How much a customer would lose by another choice than that
says which choices no best allocation makes (reduced-cost fixing, the core of Balas and Zemel 1980, Operations Research
28:1130-1154, and Pisinger 1995, EJOR 83:394-410). All in whole numbers, so the bound holds to the last micro-USD.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from app.packs.treatments.allocation.classes import Ints
from app.packs.treatments.allocation.model import ANY, UNLIMITED, Model

Floats = npt.NDArray[np.float64]
_LOW: Final = 2**24
_MOST: Final = 2.0**55
_DEEPEST: Final = 20
_SCORE_BITS: Final = 46


@dataclass(frozen=True, slots=True)
class Prices:
    """Micro-USD of score: `unit` by treatment for one of its capacity, `money` for a micro-USD of cost, `floor` by
    floor what one towards it is worth. None is below 0; where there is no limit it is 0."""

    unit: Floats
    money: float
    floor: Floats

    @staticmethod
    def none(model: Model) -> "Prices":
        return Prices(np.zeros(model.capacity.size), 0.0, np.zeros(len(model.floors)))

    def toward(self, other: "Prices", part: float) -> "Prices":
        """From these a part of the way to others."""
        return Prices(
            self.unit + part * (other.unit - self.unit),
            self.money + part * (other.money - self.money),
            self.floor + part * (other.floor - self.floor),
        )


@dataclass(frozen=True, slots=True)
class Relaxed:
    """What customers take at given prices. `scaled` is the bound in units of 2**-`shift` micro-USD; `grain` is the
    model's.

    `chosen` options are what each member of a class takes. `loss` (same units, by option) is what a member loses by
    taking the option after all, or by leaving it if it is chosen; `margin` the least of those by class; `worth` the
    reduced value of an option, for an order in which to take them.
    """

    scaled: int
    shift: int
    grain: int
    chosen: npt.NDArray[np.bool_]
    loss: Ints
    margin: Ints
    worth: Ints

    @property
    def bound(self) -> int:
        """The most that an allocation can score."""
        return (self.scaled >> self.shift) // self.grain * self.grain

    def slack(self, score: int) -> int:
        """What customers may lose together in an allocation that scores more than `score`."""
        return self.scaled - ((score // self.grain + 1) * self.grain << self.shift)


def relax(model: Model, prices: Prices, missing: int) -> Relaxed:
    """The relaxation at `prices`. `missing` units in all may be lacking in floors (0 where the floors can be met)."""
    shift = _shift(model)
    unit = np.where(model.capacity == UNLIMITED, 0, _whole(prices.unit, shift, 1))
    money = (
        0 if model.budget is None else int(_whole(np.array([prices.money]), shift, int(model.cost.max(initial=1)))[0])
    )
    floor = _whole(prices.floor, shift, max(1, len(model.floors)))
    treated, anything = _floor_prices(model, floor)
    worth = (model.score << shift) - unit[model.treatment] - money * model.cost
    if model.floors:
        worth += treated[model.group[model.owner], model.treatment]
    value, chosen, loss = _choices(model, worth, np.where(model.fresh, anything[model.group], 0))
    scaled = _total(value, model.count) + _at_prices(model, unit, money, floor, missing)
    margin = np.minimum.reduceat(loss, model.first[:-1])
    return Relaxed(scaled, shift, model.grain, chosen, loss, margin, worth)


def _shift(model: Model) -> int:
    """How many binary digits a price may have after the point, for products to stay within 64 bits."""
    highest = int(np.abs(model.score).max(initial=1))
    return min(_DEEPEST, max(0, _SCORE_BITS - highest.bit_length()))


def _whole(prices: Floats, shift: int, factor: int) -> Ints:
    most = _MOST / factor
    return np.rint(np.clip(prices * 2.0**shift, 0, most)).astype(np.int64)


def _floor_prices(model: Model, floor: Ints) -> tuple[Ints, Ints]:
    """What a treatment is worth to floors by (group, treatment), and what any is by group."""
    treated = np.zeros((model.groups + 1, model.capacity.size), np.int64)
    anything = np.zeros(model.groups + 1, np.int64)
    for row, price in zip(model.floors, floor.tolist(), strict=True):
        if row.treatment == ANY:
            anything[row.group] += price
        else:
            treated[row.group, row.treatment] += price
    return treated, anything


def _at_prices(model: Model, unit: Ints, money: int, floor: Ints, missing: int) -> int:
    """The limits at their prices, in Python's integers. Of what floors lack, the dearest units are forgiven."""
    total: int = sum(
        price * left for price, left in zip(unit.tolist(), model.capacity.tolist(), strict=True) if left != UNLIMITED
    )
    total += money * (model.budget or 0)
    prices = floor.tolist()
    total -= sum(price * row.need for price, row in zip(prices, model.floors, strict=True))
    forgiven = sorted(zip(prices, (row.need for row in model.floors), strict=True), reverse=True)
    for price, need in forgiven:
        units = min(need, missing)
        total += price * units
        missing -= units
    return total


def _total(value: Ints, count: Ints) -> int:
    """Sum of products without overflow."""
    high, low = np.divmod(value, _LOW)
    return int(high @ count) * _LOW + int(low @ count)


def _choices(model: Model, worth: Ints, bonus: Ints) -> tuple[Ints, npt.NDArray[np.bool_], Ints]:
    """The value of the best choice by class, the options in it, and the loss of any other choice by option.

    A member takes its `quota` best options of positive worth; the first also where only the `bonus` (what getting
    anything is worth to floors) makes it so.
    """
    order = np.lexsort((-worth, model.owner))
    ranked, first = worth[order], model.first
    lengths, last = np.diff(first), first[1:] - 1
    owner = model.owner
    rank = np.arange(ranked.size) - first[owner]
    positive = np.maximum(ranked, 0)
    within = rank < model.quota[owner]
    best = ranked[first[:-1]]
    opening = np.maximum(0, best + bonus)
    taken = np.add.reduceat(np.where(within, positive, 0), first[:-1])
    value = opening + taken - np.maximum(best, 0)
    replaced = positive[np.minimum(first[:-1] + model.quota - 1, last)]
    following = np.where(model.quota < lengths, positive[np.minimum(first[:-1] + model.quota, last)], 0)
    forced = ranked + (bonus + taken)[owner] - np.where(within, positive, replaced[owner])
    chosen = within & ((ranked > 0) | ((rank == 0) & (ranked + bonus[owner] > 0)))
    loss = np.where(chosen, ranked - following[owner], value[owner] - forced)
    heads = chosen[first[:-1]]
    loss[first[:-1][heads]] = _without_best(model, ranked, bonus, opening, following)[heads]
    found, picked = np.empty_like(loss), np.empty_like(chosen)
    found[order], picked[order] = loss, chosen
    return value, picked, found


def _without_best(model: Model, ranked: Ints, bonus: Ints, opening: Ints, following: Ints) -> Ints:
    """By class, what a member loses who must leave the best option."""
    lengths = np.diff(model.first)
    second = ranked[np.minimum(model.first[:-1] + 1, model.first[1:] - 1)]
    there = lengths > 1
    reopening = np.where(there, np.maximum(0, second + bonus), 0)
    moved = np.where(there & (model.quota > 1), np.maximum(second, 0) - following, 0)
    return opening - reopening + moved
