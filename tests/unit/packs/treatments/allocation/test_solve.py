"""The allocation: what always holds, and what a plain search over everything finds too."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.packs.treatments.allocation.greedy import greedy
from app.packs.treatments.allocation.model import build
from app.packs.treatments.allocation.problem import FloorLimit, Limits, Method, Problem
from app.packs.treatments.allocation.solve import solve
from tests.support.allocation import broken, brute, lacking, problem, problems, with_floors
from tests.support.examples import examples

SEEDS = st.integers(0, 2**40)


@settings(max_examples=examples(300), deadline=None)
@given(problems(), SEEDS)
def test_it_is_as_good_as_the_best_of_all_allocations(asked: Problem, seed: int) -> None:
    missing, score = brute(asked)
    found = solve(asked, seed=seed)
    assert not broken(asked, found.chosen)
    assert lacking(asked, found.chosen) == missing
    assert found.score == int(asked.option_score[found.chosen].sum()) == score
    assert found.optimal
    assert found.method is Method.EXACT
    assert found.bound == score
    assert found.gap == 0


@settings(max_examples=examples(60), deadline=None)
@given(problems(customers=40), SEEDS)
def test_no_limit_is_ever_broken_and_it_is_never_worse_than_greedy(asked: Problem, seed: int) -> None:
    found = solve(asked, seed=seed)
    quick = solve(asked, seed=seed, time_limit_s=0)
    for solution in (found, quick):
        assert not broken(asked, solution.chosen)
        assert solution.bound >= solution.score
        names = [asked.treatments[index] for index in asked.option_treatment[solution.chosen]]
        assert dict(solution.usage) == {name: names.count(name) for name in asked.treatments}
        assert solution.spent_micros == asked.option_cost[solution.chosen].sum()
    assert lacking(asked, found.chosen) == lacking(asked, quick.chosen)
    assert quick.score <= found.score <= quick.bound


@settings(max_examples=examples(60), deadline=None)
@given(problems(customers=12), SEEDS)
def test_the_same_seed_gives_the_same_answer(asked: Problem, seed: int) -> None:
    first, second = solve(asked, seed=seed), solve(asked, seed=seed)
    assert np.array_equal(first.chosen, second.chosen)
    assert first.conflicts == second.conflicts


@settings(max_examples=examples(150), deadline=None)
@given(problems())
def test_floors_hold_or_a_true_conflict_is_told(asked: Problem) -> None:
    found = solve(asked)
    floors = {":".join(("floor", floor.group, floor.treatment or "any")): floor for floor in asked.limits.floors}
    assert found.feasible == (not found.conflicts)
    if not any(conflict.constraint.startswith("floor") for conflict in found.conflicts):
        assert lacking(asked, found.chosen) == 0
    for conflict in found.conflicts:
        assert conflict.needed > conflict.available
        if conflict.constraint.startswith("floor"):
            blamed = tuple(floors[name] for name in conflict.constraint.split(" + "))
            assert brute(with_floors(asked, blamed))[0] > 0
            for floor in blamed:
                rest = tuple(other for other in blamed if other is not floor)
                assert brute(with_floors(asked, rest))[0] == 0


@settings(max_examples=examples(100), deadline=None)
@given(problems(customers=30, fixed=False), SEEDS)
def test_the_greedy_rule_keeps_every_limit(asked: Problem, seed: int) -> None:
    model = build(asked, seed)
    plan = greedy(model, seed)
    chosen = np.zeros(asked.options, np.bool_)
    chosen[model.dealt(plan)] = True
    assert model.allows(plan)
    assert not broken(asked, chosen)
    assert np.array_equal(model.gathered(chosen), plan)


def test_the_last_unit_goes_where_two_customers_gain_most_together() -> None:
    """Greedy gives the call to the first; the best is the other way round."""
    options = [(0, 0, 10, 0, False), (0, 1, 9, 0, False), (1, 0, 8, 0, False)]
    asked = problem(options, Limits({"call_back": 1}, None, 1, ()), [0, 0])
    assert solve(asked, time_limit_s=0).score == 10
    found = solve(asked)
    assert found.score == 17
    assert found.chosen.tolist() == [False, True, True]


def test_a_floor_beyond_capacity_is_told_with_its_figures() -> None:
    options = [(customer, 0, 100, 0, False) for customer in range(30)]
    floors = (FloorLimit("rural", 0.4, "call_back"), FloorLimit("old", 0.0))
    found = solve(problem(options, Limits({"call_back": 5}, None, 1, floors), [1] * 30))
    assert not found.feasible
    assert found.usage["call_back"] == 5
    (conflict,) = found.conflicts
    assert conflict.sentence == "The floor of 40 % for group 'rural' needs 12 units of call_back; 5 are left."
    assert (conflict.constraint, conflict.needed, conflict.available) == ("floor:rural:call_back", 12, 5)


def test_a_floor_beyond_the_budget_is_told_with_its_figures() -> None:
    options = [(customer, 0, 100, 2_000_000, False) for customer in range(10)]
    found = solve(problem(options, Limits({}, 7_500_000, 1, (FloorLimit("rural", 1.0),)), [1] * 10))
    (conflict,) = found.conflicts
    assert conflict.sentence == (
        "The floor of 100 % for group 'rural' needs 10 units of any treatment; "
        "the 7.50 USD left of the budget pay for 3."
    )
    assert found.spent_micros == 6_000_000


def test_two_floors_that_compete_are_blamed_together() -> None:
    options = [(customer, 0, 100, 0, False) for customer in range(10)]
    floors = (FloorLimit("rural", 0.6, "call_back"), FloorLimit("old", 0.6, "call_back"))
    found = solve(problem(options, Limits({"call_back": 4}, None, 1, floors), [1] * 5 + [2] * 5))
    (conflict,) = found.conflicts
    assert conflict.constraint == "floor:rural:call_back + floor:old:call_back"
    assert conflict.sentence.endswith("together need 6 units of call_back; 4 are left.")


def test_fixed_options_beyond_a_limit_stay_and_nothing_is_added() -> None:
    options = [(customer, 0, 10, 5, customer < 3) for customer in range(6)]
    found = solve(problem(options, Limits({"call_back": 2}, 9, 1, ()), [0] * 6))
    assert found.chosen.tolist() == [True, True, True, False, False, False]
    assert [conflict.sentence for conflict in found.conflicts] == [
        "Fixed options take 3 units; the limit is 2 units of call_back.",
        "Fixed options cost 0.00 USD; the budget is 0.00 USD.",
    ]
    assert not found.feasible


def test_alike_customers_are_served_in_an_order_drawn_with_the_seed() -> None:
    options = [(customer, 0, 7, 0, False) for customer in range(200)]
    asked = problem(options, Limits({"call_back": 20}, None, 1, ()), [0] * 200)
    first, second = (np.flatnonzero(solve(asked, seed=seed).chosen) for seed in (1, 2))
    assert first.size == second.size == 20
    assert first.tolist() != second.tolist()
    assert first.max() > 40


def test_ties_among_many_customers_are_proven_at_once() -> None:
    draw = np.random.default_rng(3)
    kinds = draw.integers(1, 40, (8, 3)) * 1_000_000
    options = [(c, t, int(kinds[c % 8, t]), (30, 2, 70)[t] * 10_000, False) for c in range(1500) for t in range(3)]
    limits = Limits({"call_back": 70, "visit": 31}, 130_000_000, 2, (FloorLimit("rural", 0.3),))
    found = solve(problem(options, limits, [c % 3 for c in range(1500)]))
    assert found.optimal
    assert found.core_options < 100


def test_a_share_is_taken_as_it_is_written() -> None:
    """0.07 * 100 is 7.000000000000001 in floating point: that would ask for eight."""
    options = [(customer, 0, -1, 0, False) for customer in range(100)]
    found = solve(problem(options, Limits({}, None, 1, (FloorLimit("rural", 0.07),)), [1] * 100))
    assert found.chosen.sum() == 7


def test_nothing_to_allocate_is_an_answer() -> None:
    found = solve(problem([], Limits({}, 0, 1, (FloorLimit("rural", 0.5),)), [1, 1]))
    assert found.feasible
    assert found.optimal
    assert found.score == found.bound == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"groups": np.zeros(3, np.int16)}, "groups has the shape (3,), not (2,)"),
        ({"option_customer": np.array([0, 2], np.int32)}, "option_customer has an index outside 0 to 1"),
        ({"option_score": np.array([1.5, 2.0])}, "option_score is an array of whole numbers"),
        ({"option_cost": np.array([-1, 0])}, "option_cost has a cost below 0"),
        ({"option_score": np.array([2**61, 1])}, "option_score sums up to"),
        ({"option_customer": np.array([1, 1], np.int32)}, "two options for one treatment"),
        ({"fixed": np.zeros(2, np.int8)}, "fixed is an array of booleans"),
        ({"treatments": ("a", "a")}, "named twice"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict, says: str) -> None:
    fits = problem([(0, 0, 1, 0, False), (1, 0, 1, 0, False)], Limits({}, None, 1, ()), [0, 0])
    with pytest.raises(InvalidInput) as refused:
        replace(fits, **change)
    assert says in refused.value.detail


@pytest.mark.parametrize(
    "limits", [lambda: Limits({"a": -1}, None, 1, ()), lambda: Limits({}, -1, 1, ()), lambda: Limits({}, 0, 0, ())]
)
def test_limits_below_nothing_are_refused(limits) -> None:
    with pytest.raises(InvalidInput):
        limits()


def test_a_limit_on_an_unknown_treatment_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'fax'"):
        problem([], Limits({"fax": 1}, None, 1, ()), [])
