from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.packs.leads.scoring.features import (
    POST_OUTCOME,
    Binning,
    CategoricalFeature,
    FeatureSpec,
    LeakingFeature,
    NumericFeature,
    as_level,
    as_number,
    learn_spec,
)

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.decimals(), st.binary())
ANYTHING = st.one_of(SCALARS, st.lists(st.integers()), st.dictionaries(st.text(), st.integers()))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        ("3", 3.0),
        (" 1,200.5 ", 1200.5),
        (True, 1.0),
        (Decimal("2.5"), 2.5),
        ("", None),
        ("a few", None),
        ("1,2", None),
        (None, None),
        ([1], None),
        (float("nan"), None),
        ("inf", None),
        (10**400, None),
    ],
)
def test_a_number_is_read_from_what_holds_one_and_from_nothing_else(value, number):
    assert as_number(value) == number


def test_a_level_folds_case_and_spacing_and_refuses_what_is_no_scalar():
    assert as_level("  New   York ") == "new york"
    assert as_level(True) == "true"
    assert as_level(7) == "7"
    assert as_level("x" * 500) == "x" * 64
    assert [as_level(value) for value in ("  ", None, [], {}, float("nan"))] == [None] * 5


@given(ANYTHING)
def test_any_value_falls_into_a_bin_that_exists(value):
    for feature in (NumericFeature("n", (0.0, 10.0)), CategoricalFeature("c", ("a", "b")), NumericFeature("e", ())):
        assert 0 <= feature.bin(value) < feature.size


def test_edges_belong_to_the_bin_below_them_and_missing_has_its_own():
    feature = NumericFeature("n", (0.0, 10.0))
    assert [feature.bin(value) for value in (-1, 0, 0.1, 10, 11, "??")] == [0, 0, 1, 1, 2, 3]
    levels = CategoricalFeature("c", ("a", "b"))
    assert [levels.bin(value) for value in ("A", "b ", "z", None)] == [0, 1, 2, 3]


def test_edges_that_fall_and_levels_that_repeat_are_refused():
    with pytest.raises(ValueError, match="edges of 'n' must rise"):
        NumericFeature("n", (1.0, 1.0))
    with pytest.raises(ValueError, match="levels of 'c' must differ"):
        CategoricalFeature("c", ("a", "a"))


@given(st.lists(st.one_of(st.integers(-5, 5), st.floats(-1e9, 1e9), st.none()), min_size=40, max_size=200))
def test_learned_edges_rise_and_leave_no_empty_last_bin(values):
    spec = learn_spec([{"x": value} for value in values], outcome="won", binning=Binning(min_rows=5))
    for feature in spec.features:
        if isinstance(feature, NumericFeature):
            assert list(feature.edges) == sorted(set(feature.edges))
            assert any(feature.bin(value) == len(feature.edges) for value in values)


def test_a_sentinel_value_gets_a_bin_of_its_own():
    rows = [{"pdays": -1}] * 300 + [{"pdays": day} for day in range(1, 200)]
    (feature,) = learn_spec(rows, outcome="won").features
    assert feature.bin(-1) == 0
    assert 0 not in {feature.bin(day) for day in range(1, 200)}
    middle = [{"balance": value} for value in [*range(-100, 0), *([0] * 100), *range(1, 101)]]
    (feature,) = learn_spec(middle, outcome="won").features
    assert len({feature.bin(-1), feature.bin(0), feature.bin(1)}) == 3


def test_rare_levels_are_other_and_columns_of_names_are_skipped():
    rows = [{"source": "web" if index % 2 else "event", "name": f"person {index}"} for index in range(200)]
    rows += [{"source": "pigeon", "name": "last"}]
    spec = learn_spec(rows, outcome="won")
    assert [feature.name for feature in spec.features] == ["source"]
    assert spec.features[0].levels == ("event", "web")
    assert dict(spec.skipped) == {"name": "no value is common enough"}


def test_a_column_is_numeric_only_where_nearly_all_values_are_numbers():
    rows = [
        {"n": str(index % 50), "mixed": index % 3 if index % 2 else "many", "flag": index % 2} for index in range(300)
    ]
    kinds = {feature.name: feature.kind for feature in learn_spec(rows, outcome="won").features}
    assert kinds == {"n": "numeric", "mixed": "categorical", "flag": "categorical"}


def test_post_outcome_calendar_excluded_and_constant_columns_are_no_features():
    row = {"Duration": 5, "closed-at": "x", "month": "may", "same": 1, "secret": 1, "won": "yes"}
    rows = [{**row, "Duration": index, "month": index, "secret": index} for index in range(100)]
    spec = learn_spec(rows, outcome="won", exclude=["secret"])
    assert spec.features == ()
    assert dict(spec.skipped) == {
        "Duration": "known only after the outcome",
        "closed-at": "known only after the outcome",
        "month": "a calendar column: it would learn a period's luck",
        "same": "the same in every row",
        "secret": "left out by the caller",
        "won": "left out by the caller",
    }


def test_a_calendar_column_is_taken_when_it_is_asked_for():
    rows = [{"month": ["may", "jun"][index % 2]} for index in range(100)]
    assert [f.name for f in learn_spec(rows, outcome="won", include=["month"]).features] == ["month"]


@pytest.mark.parametrize("name", [*sorted(POST_OUTCOME), "Close Date", "DURATION", "lost-reason"])
def test_a_spec_refuses_a_column_that_is_known_only_after_the_outcome(name):
    with pytest.raises(LeakingFeature, match="known only after the outcome"):
        FeatureSpec((NumericFeature(name, (1.0,)),))


def test_encoding_ignores_unknown_columns_and_takes_absent_ones_as_missing():
    spec = FeatureSpec((NumericFeature("n", (1.0,)), CategoricalFeature("c", ("a",))))
    assert spec.encode({"n": 5, "c": "a", "unknown": object()}) == (1, 0)
    assert spec.encode({}) == (2, 2)
