"""Part of a model as a linear or integer program for HiGHS: some classes are decided there, the others are set.

HiGHS: Huangfu and Hall 2018, Mathematical Programming Computation 10:119-142.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import highspy
import numpy as np

from app.packs.treatments.allocation.bound import Floats, Prices
from app.packs.treatments.allocation.classes import Ints
from app.packs.treatments.allocation.model import ANY, UNLIMITED, Model
from app.packs.treatments.allocation.problem import Array

_INF: Final = float(highspy.kHighsInf)
_KINDS: Final = 60
_HIGHEST: Final = 1e3
"""Scores are scaled to this: HiGHS' tolerances are meant for numbers about 1."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is decided: `options` (in order) up to `upper` units each. `set_plan` holds the units of the classes that
    are not, and 0 for all options of those that are. `missing` units in all may lack in floors, each at the price of
    `lack_price` micro-USD of score."""

    options: Ints
    upper: Ints
    set_plan: Ints
    missing: int
    lack_price: float = 0.0


@dataclass(frozen=True, slots=True)
class Box:
    """Where prices may move (Marsten, Hogan and Blankenship 1975, Operations Research 23:389-405)."""

    low: Prices
    high: Prices


@dataclass(frozen=True, slots=True)
class Answer:
    """`plan` is of the whole model, None where none was found. No plan that differs from the part's settings only in
    its options scores more than `bound`; `proven` says that none scores more than `plan`."""

    plan: Ints | None
    bound: float
    proven: bool


class Program:
    """Columns are the part's options, then others that its rows need. Costs are minimised, in units of `scale`.

    `coupling` tells the rows that customers compete for: (kind, index, row, unit), where the row counts in `unit`.
    """

    def __init__(self, model: Model, part: Part) -> None:
        self.model, self.part = model, part
        self.scale = float(np.abs(model.score[part.options]).max(initial=1)) / _HIGHEST
        self.costs: list[Floats] = [-model.score[part.options] / self.scale]
        self.column_upper: list[Floats] = [part.upper.astype(np.float64)]
        self.columns = int(part.options.size)
        self.whole = np.arange(self.columns)
        self.row_lower: list[Floats] = []
        self.row_upper: list[Floats] = []
        self.row_count = 0
        self.entries: list[tuple[Array, Array, Floats]] = []
        self.coupling: list[tuple[str, int, int, float]] = []
        self.owners, self.place = np.unique(model.owner[part.options], return_inverse=True)
        self._classes()
        self._capacities()
        self._budget()
        if model.floors:
            self._floors()

    def _add_columns(self, costs: Array, upper: Array) -> Ints:
        self.costs.append(np.asarray(costs, np.float64))
        self.column_upper.append(np.asarray(upper, np.float64))
        self.columns += len(costs)
        return np.arange(self.columns - len(costs), self.columns)

    def _add_rows(self, lower: Array, upper: Array) -> Ints:
        self.row_lower.append(np.asarray(lower, np.float64))
        self.row_upper.append(np.asarray(upper, np.float64))
        self.row_count += len(lower)
        return np.arange(self.row_count - len(lower), self.row_count)

    def _put(self, rows: Array, columns: Array, values: Array | float) -> None:
        filled = np.broadcast_to(np.asarray(values, np.float64), columns.shape)
        self.entries.append((np.broadcast_to(rows, columns.shape), columns, filled))

    def _couple(self, kind: str, index: int, lower: float, upper: float, unit: float = 1.0) -> int:
        row = int(self._add_rows(np.array([lower]), np.array([upper]))[0])
        self.coupling.append((kind, index, row, unit))
        return row

    def _classes(self) -> None:
        places = (self.model.count * self.model.quota)[self.owners]
        rows = self._add_rows(np.full(places.size, -_INF), places)
        self._put(rows[self.place], np.arange(self.place.size), 1.0)

    def _capacities(self) -> None:
        left = self.model.capacity - self.model.used(self.part.set_plan)
        treatment = self.model.treatment[self.part.options]
        for index in np.flatnonzero(self.model.capacity != UNLIMITED).tolist():
            row = self._couple("unit", index, -_INF, float(left[index]))
            self._put(np.array(row), np.flatnonzero(treatment == index), 1.0)

    def _budget(self) -> None:
        if self.model.budget is None:
            return
        cost = self.model.cost[self.part.options]
        unit = int(np.gcd.reduce(cost)) or 1
        left = (self.model.budget - int(self.model.cost @ self.part.set_plan)) // unit
        row = self._couple("money", 0, -_INF, float(left), float(unit))
        columns = np.flatnonzero(cost)
        self._put(np.array(row), columns, cost[columns] // unit)
        kinds, kind = np.unique(self.model.treatment[self.part.options] + 2**16 * cost, return_inverse=True)
        if kinds.size <= _KINDS:
            self._counted(kind, kinds.size)

    def _counted(self, kind: Ints, kinds: int) -> None:
        """A column for how many units each kind of option has in all. Once these are whole, the rest is a flow in a
        network, which is whole by itself (Hoffman and Kruskal 1956): only these have to be searched over."""
        columns = self._add_columns(np.zeros(kinds), np.bincount(kind, self.part.upper, kinds))
        rows = self._add_rows(np.zeros(kinds), np.zeros(kinds))
        self._put(rows[kind], np.arange(kind.size), 1.0)
        self._put(rows, columns, -1.0)
        self.whole = columns

    def _floors(self) -> None:
        served, reached = self._served(), self.model.reached(self.part.set_plan)
        rows = []
        for index, floor in enumerate(self.model.floors):
            rows.append(self._couple("floor", index, float(floor.need - reached[index]), _INF))
            helping = np.flatnonzero(self.model.counts_for(floor)[self.part.options])
            self._put(np.array(rows[-1]), np.unique(served[helping]) if floor.treatment == ANY else helping, 1.0)
        if self.part.missing:
            needs = np.array([floor.need for floor in self.model.floors])
            lacking = self._add_columns(np.full(len(rows), self.part.lack_price / self.scale), needs)
            self.whole = np.append(self.whole, lacking)
            self._put(np.array(rows), lacking, 1.0)
            self._put(self._add_rows(np.array([-_INF]), np.array([self.part.missing])), lacking, 1.0)

    def _served(self) -> Ints:
        """By option, the column that counts towards a floor for any treatment: the option itself where a member may
        take one only, else a column of the class, for its members served."""
        several = np.flatnonzero(self.model.quota[self.owners] > 1)
        column, row = np.full(self.owners.size, -1), np.full(self.owners.size, -1)
        column[several] = self._add_columns(np.zeros(several.size), self.model.count[self.owners[several]])
        row[several] = self._add_rows(np.full(several.size, -_INF), np.zeros(several.size))
        self._put(row[several], column[several], 1.0)
        ours = np.flatnonzero(column[self.place] >= 0)
        self._put(row[self.place[ours]], ours, -1.0)
        return np.where(column[self.place] >= 0, column[self.place], np.arange(self.place.size))

    def bounded(self, box: Box) -> None:
        """Lets what customers compete for be bought at its highest price and sold at its lowest."""
        rows = np.array([row for _, _, row, _ in self.coupling])
        more = np.array([1.0 if kind == "floor" else -1.0 for kind, _, _, _ in self.coupling])
        for prices, direction in ((box.high, 1.0), (box.low, -1.0)):
            at = np.array([_price(prices, kind, index) * unit for kind, index, _, unit in self.coupling])
            columns = self._add_columns(direction * at / self.scale, np.full(at.size, _INF))
            self._put(rows, columns, direction * more)

    def prices(self, row_duals: list[float]) -> Prices:
        """The duals of the rows as prices."""
        found = Prices.none(self.model)
        money = 0.0
        for kind, index, row, unit in self.coupling:
            price = max(0.0, row_duals[row] * self.scale * (1.0 if kind == "floor" else -1.0))
            if kind == "money":
                money = price / unit
            else:
                (found.unit if kind == "unit" else found.floor)[index] = price
        return Prices(found.unit, money, found.floor)

    def handed(self, *, whole: bool) -> Any:
        """The program as HiGHS takes it; `whole`: options are taken in whole units."""
        rows, columns, values = (np.concatenate(parts) for parts in zip(*self.entries, strict=True))
        order = np.lexsort((rows, columns))
        program: Any = highspy.HighsLp()
        program.num_col_, program.num_row_ = self.columns, self.row_count
        program.col_cost_, program.col_upper_ = np.concatenate(self.costs), np.concatenate(self.column_upper)
        program.col_lower_ = np.zeros(self.columns)
        program.row_lower_, program.row_upper_ = np.concatenate(self.row_lower), np.concatenate(self.row_upper)
        program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        program.a_matrix_.start_ = np.append(0, np.cumsum(np.bincount(columns, minlength=self.columns)))
        program.a_matrix_.index_, program.a_matrix_.value_ = rows[order], values[order]
        if whole:
            kinds = [highspy.HighsVarType.kContinuous] * self.columns
            for column in self.whole.tolist():
                kinds[column] = highspy.HighsVarType.kInteger
            program.integrality_ = kinds
        return program


def _price(prices: Prices, kind: str, index: int) -> float:
    if kind == "money":
        return prices.money
    return float((prices.unit if kind == "unit" else prices.floor)[index])


def solve_relaxed(program: Program, seed: int, seconds: float) -> Prices | None:
    """Prices of the program with fractions allowed; None where there was no time."""
    solver = _solver(seed, seconds)
    solver.passModel(program.handed(whole=False))
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return program.prices(solver.getSolution().row_dual)


def solve_whole(program: Program, seed: int, seconds: float, nodes: int | None = None) -> Answer:
    """The best plan of the program in whole units, looking at no more than `nodes` nodes of the search tree. Its limits
    are checked in whole numbers: where HiGHS' tolerances broke one, there is no plan."""
    model, part = program.model, program.part
    solver = _solver(seed, seconds)
    # A plan that no other passes by half a grain is the best: see `model.parted`.
    solver.setOptionValue("mip_abs_gap", model.grain / 2 / program.scale)
    if nodes is not None:
        solver.setOptionValue("mip_max_nodes", nodes)
    solver.passModel(program.handed(whole=True))
    solver.run()
    base = model.score_of(part.set_plan)
    info = solver.getInfo()
    bound = base - info.mip_dual_bound * program.scale if math.isfinite(info.mip_dual_bound) else math.inf
    if solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
        return Answer(None, -math.inf, proven=True)
    values = solver.getSolution().col_value
    if not values or info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Answer(None, bound, proven=False)
    plan = part.set_plan.copy()
    plan[part.options] = np.rint(values[: part.options.size]).astype(np.int64)
    if not model.allows(plan) or model.shortfall(plan) > part.missing:
        return Answer(None, bound, proven=False)
    return Answer(plan, bound, solver.getModelStatus() == highspy.HighsModelStatus.kOptimal)


def _solver(seed: int, seconds: float) -> Any:
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    settings: dict[str, Any] = {
        "output_flag": False,
        "threads": 1,
        "random_seed": seed % 2**31,
        "time_limit": max(0.01, seconds),
        "mip_rel_gap": 0.0,
        # Presolve made these programs 10 to 1000 times slower: the search for ties in their few rows does not end.
        "presolve": "off",
        "primal_feasibility_tolerance": 1e-9,
        "dual_feasibility_tolerance": 1e-9,
        "mip_feasibility_tolerance": 1e-9,
    }
    for name, value in settings.items():
        solver.setOptionValue(name, value)
    return solver
