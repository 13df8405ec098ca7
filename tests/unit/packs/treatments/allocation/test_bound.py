"""At any prices: no allocation passes the bound, nor the bound less what one of its choices loses."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.packs.treatments.allocation.bound import Prices, relax
from app.packs.treatments.allocation.model import build, parted
from app.packs.treatments.allocation.problem import FloorLimit, Limits, Problem
from tests.support.allocation import every, lacking, problem, problems
from tests.support.examples import examples


@st.composite
def priced(draw: st.DrawFn) -> tuple[Problem, list[float]]:
    asked = draw(problems(customers=3))
    return asked, draw(st.lists(st.floats(0, 20), min_size=7, max_size=7))


@settings(max_examples=examples(250), deadline=None)
@given(priced(), st.integers(0, 2))
def test_what_a_choice_loses_is_lost_in_every_allocation_that_makes_it(
    given_prices: tuple[Problem, list[float]], missing: int
) -> None:
    asked, numbers = given_prices
    model = build(asked, 0)
    if model.options == 0:
        return
    prices = Prices(np.array(numbers[:3]), numbers[3], np.array(numbers[4 : 4 + len(model.floors)]))
    relaxed = relax(model, prices, missing)
    offered = np.zeros(asked.options, np.bool_)
    offered[model.dealt(model.units)] = True
    for chosen in every(asked):
        if (chosen & ~asked.fixed & ~offered).any() or lacking(asked, chosen) > missing:
            continue
        plan = model.gathered(chosen)
        score = model.score_of(plan) << relaxed.shift
        others = np.where(relaxed.chosen, model.units - plan, plan)
        assert score + int((others * relaxed.loss).max()) <= relaxed.scaled


def test_a_bound_at_prices_of_nothing_is_what_all_would_take() -> None:
    options = [(0, 0, 10, 0, False), (0, 1, 9, 0, False), (1, 0, 8, 0, False)]
    model = build(problem(options, Limits({"call_back": 1}, None, 1, ()), [0, 0]), 0)
    assert relax(model, Prices.none(model), 0).bound == 18
    assert relax(model, Prices(np.array([1.0, 0.0, 0.0]), 0.0, np.zeros(0)), 0).bound == 17


def test_parting_ties_changes_no_score_by_a_grain() -> None:
    options = [(customer, 0, 50_000 * (1 + customer % 3), 0, False) for customer in range(500)]
    floors = (FloorLimit("rural", 0.5),)
    model = build(problem(options, Limits({"call_back": 40}, None, 1, floors), [1] * 500), 0)
    finer = parted(model, 0)
    everyone = model.units
    assert finer.grain > model.grain == 50_000
    assert finer.score_of(everyone) // finer.grain * model.grain == model.score_of(everyone)
    assert finer.score_of(everyone) % finer.grain < finer.grain / 2
