"""Prices at which the relaxation proves nearly as much as it can, found with linear programs of bounded size."""

import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from app.packs.treatments.allocation.bound import Prices, Relaxed, relax
from app.packs.treatments.allocation.classes import Ints
from app.packs.treatments.allocation.milp import Box, Part, Program, solve_relaxed
from app.packs.treatments.allocation.model import UNLIMITED, Model

PRICED: Final = 8_000
"""Options whose linear program is solved at a time."""
_ROUNDS: Final = 80
_STEPS: Final = (1.0, 0.5, 0.2)
_REACH: Final = 2.0
_WIDE: Final = 0.02
_NARROWER: Final = 0.1
_WIDER: Final = 2.0
_ENOUGH: Final = 1e-9
_DEAREST: Final = 100.0

Priced = tuple[Prices, Relaxed]


@dataclass(frozen=True, slots=True)
class Pricing:
    """At most `missing` units may lack in floors; it ends at `deadline` (of time.monotonic)."""

    model: Model
    missing: int
    seed: int
    deadline: float

    def best(self) -> Relaxed:
        """The relaxation at the best prices found.

        A small model is one linear program. Of a large one, a sample begins; then the classes whose choice is nearest
        to change are solved while the others keep theirs, again and again, as in sifting (Bixby et al. 1992,
        Operations Research 40:885-897). The bound only ever falls, and holds wherever this stops.
        """
        model = self.model
        none = Prices.none(model)
        found = (none, relax(model, none, self.missing))
        if model.bound_by_nothing or self._left() <= 0:
            return found[1]
        if model.options <= PRICED:
            everything = Part(np.arange(model.options), model.units, np.zeros(model.options, np.int64), self.missing)
            return self._lower(found, solve_relaxed(Program(model, everything), self.seed, self._left()))[1]
        found = self._lower(found, self._sampled())
        reach = _WIDE * float(np.abs(model.score).mean())
        least = reach * _NARROWER
        for _ in range(_ROUNDS):
            lower = self._lower(found, self._moved(*found, reach))
            idle = found[1].scaled - lower[1].scaled <= _ENOUGH * abs(found[1].scaled)
            found = lower
            if idle and reach <= least:
                break
            # A sample that misleads leaves a way of many steps: as long as they lead on, they get longer.
            reach *= _NARROWER if idle else _WIDER
        return found[1]

    def _left(self) -> float:
        return self.deadline - time.monotonic()

    def _lower(self, found: Priced, prices: Prices | None) -> Priced:
        """The lowest bound on the way from the prices that are found to others."""
        if prices is None:
            return found
        for part in _STEPS:
            moved = found[0].toward(prices, part)
            relaxed = relax(self.model, moved, self.missing)
            if relaxed.scaled < found[1].scaled:
                return moved, relaxed
        return found

    def _sampled(self) -> Prices | None:
        """The prices of a sample of the classes that shares the limits by its part of the customers."""
        model = self.model
        draw = np.random.default_rng(self.seed).permutation(model.count.size)
        lengths = np.diff(model.first)[draw]
        classes = draw[: max(1, int(np.searchsorted(np.cumsum(lengths), PRICED // 2)))]
        part = float(model.count[classes].sum() / model.count.sum())
        limited = model.capacity != UNLIMITED
        small = replace(
            model,
            capacity=np.where(limited, np.floor(model.capacity * part).astype(np.int64), UNLIMITED),
            budget=None if model.budget is None else int(model.budget * part),
            floors=tuple(replace(floor, need=max(1, round(floor.need * part))) for floor in model.floors),
        )
        nothing = np.zeros(model.options, np.int64)
        program = Program(small, _part(model, classes, nothing, self.missing))
        highest = _DEAREST * float(np.abs(model.score).max())
        none = Prices.none(model)
        program.bounded(Box(none, Prices(none.unit + highest, highest, none.floor + highest)))
        return solve_relaxed(program, self.seed, self._left())

    def _moved(self, prices: Prices, relaxed: Relaxed, reach: float) -> Prices | None:
        """The prices of the classes nearest to another choice, kept about where the others hold to theirs, or within
        `reach` where that is less: many classes may be about to change at once."""
        if self._left() <= 0:
            return None
        model = self.model
        classes = nearest(model, relaxed, np.arange(model.count.size), PRICED)
        inside = np.zeros(model.count.size, np.bool_)
        inside[classes] = True
        set_plan = np.where(relaxed.chosen & ~inside[model.owner], model.units, 0)
        program = Program(model, _part(model, classes, set_plan, self.missing))
        held = _REACH * float(relaxed.margin[classes].max()) / 2.0**relaxed.shift
        program.bounded(_around(model, prices, max(held, reach)))
        return solve_relaxed(program, self.seed, self._left())


def nearest(model: Model, relaxed: Relaxed, among: Ints, options: int) -> Ints:
    """Of some classes those whose members lose least by another choice: as many as have about `options` options."""
    order = among[np.argsort(relaxed.margin[among], kind="stable")]
    lengths = np.diff(model.first)[order]
    return order[: max(1, int(np.searchsorted(np.cumsum(lengths), options, side="right")))]


def _part(model: Model, classes: Ints, set_plan: Ints, missing: int) -> Part:
    inside = np.zeros(model.count.size, np.bool_)
    inside[classes] = True
    options = np.flatnonzero(inside[model.owner])
    return Part(options, model.units[options], set_plan, missing)


def _around(model: Model, prices: Prices, reach: float) -> Box:
    money = reach / max(1.0, float(model.cost.mean()))
    return Box(
        Prices(np.maximum(0, prices.unit - reach), max(0.0, prices.money - money), np.maximum(0, prices.floor - reach)),
        Prices(prices.unit + reach, prices.money + money, prices.floor + reach),
    )
