"""How the cost of a question grows with tenants, documents and turns: the shape, the rows, who is asked."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.capacity.fit import Shape, fit
from loadtest.capacity.growth import TURNS, UNITS, Axis, levels, read_tokens, rows, with_page
from loadtest.capacity.stage import large_bot
from loadtest.capacity.written import growth_json, growth_tables
from tests.support.examples import examples


@settings(max_examples=examples(60))
@given(base=st.floats(0.5, 100), slope=st.floats(0.2, 50), seed=st.integers(0, 1000))
def test_the_shape_of_a_growth_is_told_through_a_little_noise(base, slope, seed):
    chance = random.Random(seed)

    def points(of):
        return {amount: of(amount) * chance.uniform(0.98, 1.02) for amount in (1, 10, 100, 1000)}

    assert fit(points(lambda _amount: base)).shape is Shape.FLAT
    linear = fit(points(lambda amount: base * (1 + slope * amount / 100)))
    assert linear.shape is Shape.LINEAR
    assert linear.slope == pytest.approx(base * slope / 100, rel=0.05)
    log = fit(points(lambda amount: base * (1 + slope * math.log10(amount))))
    assert log.shape is Shape.LOG
    assert log.slope == pytest.approx(base * slope, rel=0.2)


def test_what_is_within_its_noise_is_flat_and_nothing_stays_nothing():
    assert fit({1: 1.0, 10: 1.2, 100: 1.4}, noise=0.2).shape is Shape.FLAT
    assert fit({1: 1.0, 10: 1.2, 100: 1.4}, noise=0.01).shape is not Shape.FLAT
    assert fit({1: 0.0, 10: 0.0}).shape is Shape.FLAT
    assert fit({1: 1.0, 10: 10.0, 100: 100.0}).told("ms", "tenant") == "linear, +1 ms a tenant"
    assert fit({1: 1.0, 10: 2.0, 100: 3.0}).told("ms", "tenant") == "log, +1 ms for ten times the tenant"


def test_rows_are_medians_of_rounds_with_a_growth_each():
    def a_round(cost):
        return dict.fromkeys(UNITS, 5.0) | {"api CPU": cost}

    seen = {
        (axis, amount): [a_round(amount * 1.0), a_round(amount * 1.0), a_round(900.0)]
        for axis, amounts in ((Axis.TENANTS, (1, 10, 100)), (Axis.DOCUMENTS, (100, 1000)), (Axis.TURNS, (1, 10)))
        for amount in amounts
    }
    found = {(row.axis, row.figure): row for row in rows(seen)}
    assert found[Axis.TENANTS, "api CPU"].values == {1: 1.0, 10: 10.0, 100: 100.0}
    assert found[Axis.TENANTS, "api CPU"].told == "linear, +1 ms a tenant"
    assert found[Axis.TENANTS, "memory"].told == "flat"
    assert [table.row_count for table in growth_tables(rows(seen))] == [len(UNITS)] * len(Axis)
    assert growth_json(rows(seen))["tenants"]["api CPU, ms"] == {
        "at": {"1": 1.0, "10": 10.0, "100": 100.0},
        "growth": "linear, +1 ms a tenant",
    }


def test_levels_ask_new_tenants_in_turn_and_conversations_of_their_own():
    keys = [f"key-{number}" for number in range(1000)]
    by_level = {(level.axis, level.amount): level for level in levels(keys)}
    assert {ask.key for ask in by_level[Axis.TENANTS, 1].asks(0)} == {"key-0"}
    every = [ask.key for number in range(3) for ask in by_level[Axis.TENANTS, 1000].asks(number)]
    assert len(set(every)) == len(every)
    assert {ask.bot for ask in by_level[Axis.DOCUMENTS, 100].asks(0)} == {large_bot(100)}
    talking = [ask.key for amount in TURNS for ask in by_level[Axis.TURNS, amount].asks(0)]
    assert len(set(talking)) == len(talking)
    assert max(int(key.removeprefix("key-")) for key in [*every, *talking]) < with_page()


def test_tokens_and_money_are_read_from_the_exposition():
    text = (
        'trellis_model_tokens_total{provider="a",direction="input"} 10\n'
        'trellis_model_tokens_total{provider="b",direction="input"} 5\n'
        'trellis_model_tokens_total{provider="a",direction="output"} 3\n'
        'trellis_model_tokens_total{provider="a",direction="cached"} 7\n'
        'trellis_model_cost_usd_total{provider="a"} 0.000002\n'
    )
    assert read_tokens(text) == {"input tokens": 15, "output tokens": 3, "model cost": 2.0}
