import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.compare import (
    FALSE_ALARMS,
    BaselineError,
    Figure,
    Pair,
    accept,
    against,
    compared,
    paired,
    reference_s,
    remarks,
)
from loadtest.results import GateResult, PartUse, read
from tests.support.examples import examples
from tests.support.gate_results import quantiles, result, scenario

PAIRS = 6


def noisy(chance: random.Random, figures: int, slower: float, sigma: float = 0.08) -> list[Figure]:
    """Figures of two revisions in pairs: the machine's mood is a pair's own, and one run in ten is disturbed."""

    def once() -> float:
        return chance.lognormvariate(0.0, sigma) * (1.3 if chance.random() < 0.1 else 1.0)

    found = []
    for number in range(figures):
        moods = [chance.lognormvariate(0.0, 0.5) for _ in range(PAIRS)]
        pairs = tuple(Pair(mood * once(), mood * once() * slower) for mood in moods)
        found.append(Figure(f"figure {number}", "s", pairs))
    return found


def alarms(slower: float, comparisons: int = 400) -> float:
    """The share of comparisons of eight figures in which any is called worse."""
    chance = random.Random(11)
    raised = [any(row.worse for row in compared(noisy(chance, 8, slower))) for _ in range(comparisons)]
    return sum(raised) / comparisons


def test_where_nothing_differs_an_alarm_is_as_rare_as_promised() -> None:
    assert alarms(slower=1.0) <= FALSE_ALARMS


def test_a_slowdown_of_30_percent_is_found() -> None:
    assert alarms(slower=1.3) >= 0.9


def test_what_became_faster_is_never_worse() -> None:
    assert alarms(slower=0.7, comparisons=100) == 0.0


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.floats(0.9, 1.1), min_size=3, max_size=8),
    st.floats(1e-4, 1e4),
    st.floats(0.5, 2.0),
)
def test_a_comparison_knows_no_unit_and_a_pairs_mood_does_not_matter(
    ratios: list[float], unit: float, mood: float
) -> None:
    plain = Figure("a", "s", tuple(Pair(1.0, ratio) for ratio in ratios))
    moody = Figure("a", "s", tuple(Pair(unit * mood**n, unit * mood**n * ratio) for n, ratio in enumerate(ratios)))
    (one,), (other,) = compared([plain]), compared([moody])
    assert (other.ratio, other.tolerance) == pytest.approx((one.ratio, one.tolerance))


@given(st.lists(st.floats(0.5, 2.0), min_size=3, max_size=8))
@settings(max_examples=examples(100), deadline=None)
def test_worse_is_what_lies_beyond_its_tolerance_and_small_differences_never_do(ratios: list[float]) -> None:
    (row,) = compared([Figure("a", "s", tuple(Pair(1.0, ratio) for ratio in ratios))])
    assert row.tolerance >= 0.05
    assert row.worse == (row.ratio > 1 + row.tolerance)
    assert min(ratios) * 0.999 <= row.ratio <= max(ratios) * 1.001


def test_two_pairs_say_nothing_of_noise_and_are_not_judged() -> None:
    assert compared([Figure("a", "s", (Pair(1.0, 9.0), Pair(1.0, 9.0)))]) == ()


def test_pairs_that_lack_a_side_are_left_out() -> None:
    assert paired("a", "s", [(1.0, 2.0), (None, 2.0), (1.0, 0.0)]).pairs == (Pair(1.0, 2.0),)


def test_noise_that_hides_a_slowdown_is_said() -> None:
    wild = Figure("chat answer p50", "s", (Pair(1, 3), Pair(1, 0.4), Pair(1, 1), Pair(1, 2)))
    (said,) = remarks(compared([wild]))
    assert "30%" in said
    assert "chat answer p50" in said
    assert remarks(compared([Figure("a", "s", (Pair(1, 1),) * 4)])) == ()


def run(cpu_s: float, reference: float | None = 0.03, **changes: object) -> GateResult:
    """Four scenarios in which the app's processes took so much a request."""
    names = {"smoke": 0.2, "average": 1.0, "stress-2x": 2.0, "spike": 3.0}
    parts = (PartUse("api", cpu_s * 2_440, 0.1, 200), PartUse("k6", 99, 0.1, 80))
    scenarios = [replace(scenario(name, parts=parts), factor=factor, **changes) for name, factor in names.items()]
    return result(*scenarios, reference_s=reference)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baselines" / "small.json"
    accept(run(0.010), path)
    return path


def test_without_a_baseline_nothing_is_compared(tmp_path: Path) -> None:
    assert against(run(0.01), tmp_path / "none.json") == ()


def test_processor_time_counts_in_loops_of_its_own_machine(baseline: Path) -> None:
    (row,) = against(run(0.020, reference=0.06), baseline)
    assert (row.figure, row.ratio, row.worse) == ("processor of a request", pytest.approx(1.0), False)
    (slow,) = against(run(0.014, reference=0.03), baseline)
    assert (slow.ratio, slow.worse) == (pytest.approx(1.4), True)


def test_times_beside_a_baseline_are_not_compared(baseline: Path) -> None:
    slower = tuple(replace(each, answer=quantiles(4.0)) for each in scenario().endpoints)
    assert not any(row.worse for row in against(run(0.010, endpoints=slower), baseline))


def test_what_was_ended_early_is_compared_with_nothing(baseline: Path) -> None:
    assert against(run(0.020, aborted="hopeless"), baseline) == ()


def test_more_model_calls_of_a_question_are_worse(tmp_path: Path) -> None:
    path, asked = tmp_path / "b.json", replace(scenario().endpoints[0], asked=1_000)
    accept(run(0.01, questions=asked, model_calls=600), path)
    rows = {row.figure: row for row in against(run(0.01, questions=asked, model_calls=1_200), path)}
    assert rows["model calls of a question"].worse
    assert rows["model calls of a question"].ratio == pytest.approx(2.0)


def test_an_accepted_result_is_read_again_without_its_comparison(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    accept(replace(run(0.01), compared=compared([Figure("a", "s", (Pair(1, 1),) * 3)])), path)
    assert read(path) == run(0.01)


@pytest.mark.parametrize("told", [{"reference": None}, {"parts": ()}])
def test_a_result_without_processor_time_cannot_be_accepted(tmp_path: Path, told: dict[str, object]) -> None:
    with pytest.raises(BaselineError, match="cannot be a baseline"):
        accept(run(0.01, **told), tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()


def test_a_baseline_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text("{}")
    with pytest.raises(BaselineError, match=r"small\.json holds no result of the gate"):
        against(run(0.01), path)


def test_a_run_whose_loop_was_not_timed_stands_beside_nothing(baseline: Path) -> None:
    assert against(run(0.02, reference=None), baseline) == ()


def test_the_loop_takes_time_of_the_processor() -> None:
    assert 0.0 < reference_s() < 10.0
