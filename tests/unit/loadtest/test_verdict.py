"""Judging: by the phase's limits, only what there is enough of, and never better where it is worse."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.phases import PHASES
from loadtest.k6 import Run
from loadtest.plan import P50_SAMPLES, P99_SAMPLES, mix, steady
from loadtest.results import Check, Kind, Outcome, PartUse, Quantiles
from loadtest.samples import Sample, quantiles
from loadtest.verdict import FULL, K6, WHOLE, doubts, judge
from tests.support.examples import examples

PHASE = PHASES["medium"]
SCENARIO = steady("average", mix(PHASE), 1.0, 60)
BETTER_FIRST = [Outcome.PASSED, Outcome.FAILED]


def sample(kind: Kind = Kind.CHAT, answer_s: float = 0.2, status: int = 200, **more: object) -> Sample:
    return Sample(kind, 0.0, answer_s, status, **{"own_s": 0.02, **more})  # type: ignore[arg-type]


def run(samples: Sequence[Sample], **more: object) -> Run:
    found = Run(SCENARIO, 0.0, 60.0, tuple(samples), 0, (), "", Path("series"))
    return replace(found, **more)  # type: ignore[arg-type]


def judged(found: Run, own: Quantiles | None = None) -> dict[str, Check]:
    checks = judge(found, PHASE, own)
    assert len({each.name for each in checks}) == len(checks)
    return {each.name: each for each in checks}


def test_a_healthy_run_passes() -> None:
    found = judged(run([sample()] * P99_SAMPLES))
    assert found["question answer p99"].outcome is Outcome.PASSED
    assert found["question own share p99"].outcome is Outcome.PASSED
    assert not [each for each in found.values() if each.outcome is Outcome.FAILED]


@given(count=st.integers(0, P99_SAMPLES + 5), slow=st.booleans())
@settings(max_examples=examples(30))
def test_a_p99_of_fewer_than_a_thousand_is_never_judged(count: int, slow: bool) -> None:
    found = judged(run([sample(answer_s=9.0 if slow else 0.1)] * count))
    for name in ("question answer p99", "chat answer p99", "question own share p99"):
        assert (found[name].outcome is Outcome.NOT_JUDGED) is (count < P99_SAMPLES)
        if count < P99_SAMPLES:
            assert found[name].seen is None
            assert found[name].why == f"{count:,} of the 1,000 samples that it takes"
    assert (found["chat answer p50"].outcome is Outcome.NOT_JUDGED) is (count < P50_SAMPLES)


@given(
    times=st.lists(st.floats(0.001, 5), min_size=20, max_size=60),
    failed=st.integers(0, 5),
    dropped=st.integers(0, 3),
    more=st.floats(0, 5),
)
@settings(max_examples=examples(60))
def test_a_run_that_is_worse_is_never_judged_better(times: list[float], failed: int, dropped: int, more: float) -> None:
    samples = [*(sample(answer_s=each, own_s=each / 3) for each in times), *[sample(status=500)] * failed]
    worse = [replace(each, answer_s=each.answer_s + more) for each in samples] + [sample(status=503)]
    before, after = judged(run(samples, dropped=dropped)), judged(run(worse, dropped=dropped + 1))
    for name, check in before.items():
        if name in after and Outcome.NOT_JUDGED not in (check.outcome, after[name].outcome):
            assert BETTER_FIRST.index(after[name].outcome) >= BETTER_FIRST.index(check.outcome), name


def test_questions_are_judged_together_and_by_kind() -> None:
    quick = [sample(kind) for kind in (Kind.CHAT, Kind.STREAM, Kind.KNOWN, Kind.KNOWN_STREAM) for _ in range(250)]
    found = judged(run([*quick, *[sample(Kind.KNOWN, answer_s=3.0)] * 300, sample(Kind.LEAD, answer_s=9.0)]))
    assert found["question answer p99"].seen == pytest.approx(3.0)
    assert found["known answer p50"].why == "was 3 s, at most 0.5 s is promised"
    assert found["chat answer p50"].outcome is Outcome.PASSED
    assert found["chat answer p99"].outcome is Outcome.NOT_JUDGED


def test_what_failed_has_no_time_and_counts_by_kind() -> None:
    found = judged(run([sample()] * 99 + [sample(status=500, answer_s=30.0, code="internal")]))
    assert found["failed"].why == "was 1 % (1 of 100), at most 0.5 % is promised"
    assert found["chat failed"].outcome is Outcome.FAILED
    assert found["stream failed"].why == "nothing was asked"
    assert found["chat answer p50"].outcome is Outcome.PASSED


def test_an_answer_with_status_200_that_is_none_has_failed() -> None:
    assert not sample(code="refused").ok
    assert not sample(code="cut-off").ok
    assert sample().ok


def test_our_share_is_judged_from_inside_too() -> None:
    slow = quantiles([0.2] * P99_SAMPLES)
    assert judged(run([]), slow)["own share p99"].outcome is Outcome.FAILED
    assert judged(run([]), quantiles([0.2] * 10))["own share p99"].outcome is Outcome.NOT_JUDGED
    assert judged(run([]))["own share p99"].why == "0 of the 1,000 samples that it takes"


def test_one_dropped_iteration_fails() -> None:
    assert judged(run([sample()], dropped=1))["dropped"].outcome is Outcome.FAILED


def test_a_hopeless_run_fails_though_too_little_was_asked_to_judge_it() -> None:
    found = judged(run([], aborted="http_req_failed rate<0.5", crossed=("http_req_failed rate<0.5",)))
    assert found[WHOLE].outcome is Outcome.FAILED
    assert "http_req_failed rate<0.5" in found[WHOLE].why


def test_what_k6_alone_finds_wrong_fails() -> None:
    found = judged(run([sample()], crossed=("http_req_duration{kind:lead} p(50)<=500",)))
    assert found[K6].outcome is Outcome.FAILED
    assert K6 not in judged(run([sample()], dropped=1, crossed=("dropped_iterations count<=0",)))


def test_beyond_what_the_phase_promises_nothing_is_judged() -> None:
    far = replace(SCENARIO, promised=False, stages=steady("x", {}, 6.0, 10).stages)
    checks = judge(run([sample(status=500)] * 30, scenario=far, dropped=9, aborted="it"), PHASE, None)
    assert {each.outcome for each in checks} == {Outcome.NOT_JUDGED}
    assert checks[0].why == "phase medium promises its targets up to 5 times its load, and this is 6 times"


def test_figures_are_doubted_where_what_measures_takes_much_of_the_machine() -> None:
    parts = [PartUse("api", 1, 0.3, 10), PartUse("k6", 1, 0.3, 10), PartUse("model stub", 1, 0.05, 10)]
    (only,) = doubts("average", parts)
    assert only.startswith("average: k6 used 30%")
    full = doubts("average", [PartUse("api", 1, FULL + 0.01, 10)])
    assert len(full) == 1
    assert "everything together" in full[0]


def test_a_miss_that_three_figures_do_not_show_is_said_with_more() -> None:
    found = judged(run([sample(Kind.KNOWN, answer_s=0.50004)] * 30))
    assert found["known answer p50"].why == "was 0.50004 s, at most 0.5 s is promised"
