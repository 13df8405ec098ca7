"""Burn rates: what fires, how soon, and that every line can be reached."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.generate import rule_files
from alerts.model import Pace, Severity, Site
from alerts.slo import availability
from alerts.windows import BURNS, DAY, HOUR, MINUTE, Burn
from infra.phases import PHASES, Phase, PhaseName
from tests.support.alert_cases import rule_sets
from tests.support.examples import examples

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def _line(phase: PhaseName, window: str) -> float:
    """The share above which the committed rule of a window fires."""
    rules = rule_sets()[phase.value].alerts("availability")
    burn = next(rule for rule in rules if rule["labels"].get("window") == window)
    lines = {float(line) for line in re.findall(r"ratio_rate\w+ > ([\d.]+)", burn["expr"])}
    assert len(lines) == 1, "both windows are held against the same line"
    return lines.pop()


def _detected_after(share: float, line: float, burn: Burn) -> float | None:
    """Seconds from a sudden, constant share of failures until both windows, full of good requests before, are over."""
    step = 6
    for elapsed in range(0, burn.long_s + step, step):
        if all(share * min(elapsed, window) / window > line for window in (burn.long_s, burn.short_s)):
            return elapsed
    return None


# Google's SRE workbook, chapter 5: (1 - SLO) / error ratio * window * burn rate.
@pytest.mark.parametrize("burn", BURNS, ids=lambda burn: f"{burn.factor:g}x")
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.05])
def test_a_constant_share_of_failures_is_detected_when_the_workbook_says(burn: Burn, share: float) -> None:
    line = _line(PhaseName.MULTI_REGION, Pace()(burn.long_s))
    expected = 0.001 / share * burn.long_s * burn.factor
    shortest = burn.short_s * line / share
    found = _detected_after(share, line, burn)
    assert found == pytest.approx(max(expected, shortest), abs=6)


@settings(max_examples=examples(50))
@given(st.sampled_from(BURNS), st.sampled_from([*PHASES.values()]), st.floats(0, 1))
def test_a_share_that_lasts_is_told_of_exactly_where_it_is_over_the_line(
    burn: Burn, phase: Phase, share: float
) -> None:
    line = _line(phase.name, Pace()(burn.long_s))
    assert (_detected_after(share, line, burn) is not None) == (share > line)
    assert math.isclose(line, burn.factor * phase.targets.failed_share)


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name.value)
def test_every_line_of_every_phase_can_be_passed(phase: Phase) -> None:
    objective = availability(Site(phase))
    assert all(burn.factor * objective.share < 1 for burn in BURNS)


def test_a_slower_burn_has_longer_windows_and_never_a_higher_severity() -> None:
    order = [Severity.PAGE, Severity.TICKET]
    for fast, slow in pairwise(BURNS):
        assert fast.factor > slow.factor
        assert (fast.long_s, fast.short_s) < (slow.long_s, slow.short_s)
        assert order.index(fast.severity) <= order.index(slow.severity)
    # 2 %, 5 %, 10 % and 10 % of the budget are gone when a window is full, as in the workbook.
    gone = [burn.factor * burn.long_s / (30 * DAY) for burn in BURNS]
    assert gone == pytest.approx([0.02, 0.05, 0.1, 0.1])
    assert all(burn.short_s * 12 == burn.long_s for burn in BURNS)


@pytest.mark.parametrize(
    "burn", [burn for burn in BURNS if burn.severity is Severity.PAGE], ids=lambda b: f"{b.factor:g}x"
)
def test_chance_alone_pages_a_quiet_service_less_than_once_in_three_years(burn: Burn) -> None:
    """A service that fails exactly as often as it may; so few requests that `least` failures just reach the line."""
    expected = burn.least / burn.factor
    odds = 1 - sum(math.exp(-expected) * expected**k / math.factorial(k) for k in range(burn.least))
    windows_in_three_years = 3 * 365 * DAY / burn.long_s
    assert odds * windows_in_three_years < 1


@settings(max_examples=examples(100))
@given(st.integers(1, 90 * DAY), st.sampled_from([1, 10, 60, 100]))
def test_a_paced_duration_is_the_nominal_one_divided(seconds: int, divisor: int) -> None:
    number, unit = re.fullmatch(r"(\d+)(\D+)", Pace(divisor)(seconds)).groups()  # type: ignore[union-attr]
    assert int(number) * _UNITS[unit] == pytest.approx(seconds / divisor, abs=0.0006)


@pytest.mark.parametrize("seconds", [5 * MINUTE, HOUR, 3 * DAY])
def test_durations_are_written_as_people_write_them(seconds: int) -> None:
    assert Pace()(seconds) == {300: "5m", 3600: "1h", 259_200: "3d"}[seconds]


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name.value)
def test_faster_rules_record_the_same_names_and_no_window_of_theirs_is_too_short(phase: Phase) -> None:
    nominal, fast = rule_files(Site(phase)), rule_files(Site(phase, pace=Pace(60)))
    names = re.compile(r"^\s*- (?:record|alert): (\S+)$", re.MULTILINE)
    for name, text in nominal.items():
        assert names.findall(text) == names.findall(fast[name])
    # At a sample a second, a rate needs two of them.
    windows = {window for text in fast.values() for window in re.findall(r"\[(\w+)\]", text)}
    assert all(_length(window) >= 2 for window in windows), windows


def _length(window: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(\D+)", window).groups()  # type: ignore[union-attr]
    return float(int(number) * _UNITS[unit])
