"""Values as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.render.units import SCALES, TIMES, humane, parts

LONGEST = 9
"""Characters of a number, sign included; its scale and its unit come on top."""
UNITS = [*SCALES, *TIMES, "percentunit"]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0123, "s", "12.3 ms"),
        (0.5, "s", "500 ms"),
        (1.0, "s", "1 s"),
        (90, "s", "1.5 min"),
        (250, "ms", "250 ms"),
        (1500, "ms", "1.5 s"),
        (0.001, "percentunit", "0.1 %"),
        (0.9995, "percentunit", "100 %"),
        (3.456, "percent", "3.46 %"),
        (1234, "short", "1.23K"),
        (999, "short", "999"),
        (2_500_000, "none", "2.5M"),
        (0, "reqps", "0 req/s"),
        (12.34, "reqps", "12.3 req/s"),
        (1536, "bytes", "1.5 KiB"),
        (0, "bytes", "0 B"),
        (1_500_000, "decbytes", "1.5 MB"),
        (12_345.678, "currencyUSD", "$12.3K"),
        (-3.5, "currencyUSD", "-$3.5"),
        (0.000012, "currencyUSD", "$1.2e-05"),
        (3, "suffix:pods", "3 pods"),
        (3, "furlongs", "3 furlongs"),
        (1, "bool_yes_no", "yes"),
        (0, "bool", "false"),
        (1_700_000_000_000, "dateTimeAsIso", "2023-11-14 22:13:20"),
        (math.nan, "s", "no value"),
        (math.inf, "s", "∞"),
        (-math.inf, "short", "-∞"),
    ],
)
def test_a_value_is_written_as_its_unit_is_read(value: float, unit: str, shown: str) -> None:
    assert humane(value, unit) == shown


def test_decimals_that_a_panel_asks_for_are_kept() -> None:
    assert humane(0.12345, "percentunit", 2) == "12.35 %"
    assert humane(3.0, "short", 0) == "3"
    assert humane(-0.001, "short", 1) == "0.0", "no minus before what is written as nothing"


@given(value=st.floats(-1e290, 1e290), unit=st.sampled_from(UNITS))
def test_what_is_written_is_the_value_to_three_digits_and_never_long(value: float, unit: str) -> None:
    shown = humane(value, unit)
    scale, before, behind = parts("percent" if unit == "percentunit" else unit)
    assert shown.startswith(("-" if value < 0 else "") + before) or float(parsed(shown, unit)) == 0
    assert len(shown) <= LONGEST + len(before) + len(behind) + max(len(name) for _factor, name in scale)
    assert parsed(shown, unit) == pytest.approx(value, rel=0.051 if "e" in shown else 0.0051, abs=1e-300)


def parsed(shown: str, unit: str) -> float:
    """The value of what was written: the number times its scale."""
    scale, before, behind = parts("percent" if unit == "percentunit" else unit)
    sign = -1 if shown.startswith("-") else 1
    rest = shown.removeprefix("-").removeprefix(before)
    rest = rest[: len(rest) - len(behind)] if behind else rest
    # The longest name first: "min" ends in nothing else, but "B" ends "KiB" too.
    factor, name = max(((f, n) for f, n in scale if rest.endswith(n)), key=lambda pair: len(pair[1]))
    number = float(rest.removesuffix(name))
    return sign * number * factor / (100 if unit == "percentunit" else 1) / TIMES.get(unit, 1.0)
