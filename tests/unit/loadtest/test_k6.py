"""What k6 is told, and what it says."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.phases import PHASES, Phase
from loadtest import k6 as module
from loadtest.k6 import K6Error, find_k6, read_summary
from loadtest.plan import P50_SAMPLES, P99_SAMPLES, SHARES, Scenario, Stage, mix, scenarios, soak, steady
from loadtest.results import Kind
from loadtest.samples import read_line
from loadtest.script import HOUR_S, Target, jitter_s, native, options, told
from tests.support.examples import examples

MEDIUM = PHASES["medium"]
QUESTIONS = ("What is leave?", "Who pays?")


def target(address: str = "http://127.0.0.1:1") -> Target:
    return Target(address, ("one", "two"), "handbook", "notes", QUESTIONS, QUESTIONS)


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_every_scenario_asks_at_the_rates_of_the_plan(phase: Phase) -> None:
    for scenario in (*scenarios(phase), soak(phase)):
        executors = options(scenario, phase)["scenarios"]
        assert set(executors) == set(scenario.rates)
        for kind, rate in scenario.rates.items():
            found = executors[kind]
            assert found["executor"] == "ramping-arrival-rate"
            assert found["startRate"] == pytest.approx(rate * scenario.stages[0].factor * HOUR_S, abs=0.5)
            held = [each for each in found["stages"] if each["duration"] != "0s"]
            assert [each["target"] for each in held] == [
                round(rate * stage.factor * HOUR_S) for stage in scenario.stages
            ]
            assert sum(float(each["duration"].removesuffix("ms")) for each in held) == scenario.seconds * 1000


def test_another_rate_begins_in_one_moment() -> None:
    spike = Scenario("spike", {Kind.CHAT: 1.0}, (Stage(1, 5), Stage(5, 5), Stage(1, 5)))
    stages = options(spike, MEDIUM)["scenarios"]["chat"]["stages"]
    assert [(each["duration"], each["target"]) for each in stages] == [
        ("5000ms", 3600),
        ("0s", 18000),
        ("5000ms", 18000),
        ("0s", 3600),
        ("5000ms", 3600),
    ]


@given(rate=st.floats(0.01, 200), factor=st.floats(0.5, 5))
@settings(max_examples=examples(40))
def test_there_are_virtual_users_enough_for_answers_as_slow_as_promised(rate: float, factor: float) -> None:
    scenario = steady("x", {Kind.CHAT: rate}, factor, 10)
    found = options(scenario, MEDIUM)["scenarios"]["chat"]
    slowest = (MEDIUM.targets.answer_p99_s or 0) + jitter_s(rate * factor)
    assert found["preAllocatedVUs"] > rate * factor * slowest
    assert found["maxVUs"] > found["preAllocatedVUs"]


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_k6_judges_by_the_phase_only_what_it_asks_often_enough(phase: Phase) -> None:
    for scenario in scenarios(phase):
        found = native(scenario, phase)
        said = [each for every in found.values() for each in every if isinstance(each, str)]
        assert bool(said) is scenario.promised
        for kind in scenario.rates:
            durations = found.get(f"http_req_duration{{kind:{kind}}}", [])
            p99 = f"p(99)<={(phase.targets.answer_p99_s or 0) * 1000:g}"
            assert (p99 in durations) <= (scenario.expected(kind) >= P99_SAMPLES)
            if scenario.promised and scenario.expected(kind) >= P50_SAMPLES:
                assert f"p(50)<={phase.targets.answer_p50_s * 1000:g}" in durations
                assert f"rate<={phase.targets.failed_share:g}" in found[f"http_req_failed{{kind:{kind}}}"]


def test_a_hopeless_run_is_ended_in_every_scenario() -> None:
    for scenario in scenarios(PHASES["poc"]):
        for metric in ("dropped_iterations", "http_req_failed", "http_req_duration"):
            ending = [each for each in native(scenario, PHASES["poc"])[metric] if not isinstance(each, str)]
            assert [each["abortOnFail"] for each in ending] == [True]


def test_a_replayed_trace_is_shared_out_among_the_kinds_of_questions() -> None:
    lengths = tuple((number, number) for number in range(10))
    scenario = Scenario("replay", mix(MEDIUM), (Stage(1, 10),), lengths=lengths)
    found = told(scenario, MEDIUM, target(), "run", Path("summary"))["lengths"]
    assert sorted(length for each in found.values() for length in each) == list(lengths)
    assert len(found) == len(SHARES)


def test_lines_that_are_not_the_scripts_are_no_samples() -> None:
    line = {"kind": "stream", "measured": False, "began": 1500, "ms": 250, "first": 50, "own": 20, "status": 200}
    found = read_line(orjson.dumps(line))
    assert found is not None
    sample, measured = found
    assert (sample.began, sample.answer_s, sample.first_token_s, sample.own_s) == (1.5, 0.25, 0.05, 0.02)
    assert not measured
    assert read_line(b"running (0m01s)") is None
    assert read_line(b'{"kind": "unheard-of", "measured": true}') is None


def test_a_summary_tells_what_was_dropped_and_what_did_not_hold() -> None:
    metrics = {
        "dropped_iterations": {"values": {"count": 3}, "thresholds": {"count<=0": {"ok": False}}},
        "http_req_failed": {"values": {"rate": 0}, "thresholds": {"rate<=0.01": {"ok": True}}},
    }
    assert read_summary({"metrics": metrics}) == (3, ("dropped_iterations count<=0",))
    assert read_summary({"metrics": {}}) == (0, ())


def test_a_missing_k6_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda *_, **__: None)
    with pytest.raises(K6Error, match=r"k6 is neither on the PATH nor in \.venv/bin"):
        find_k6()
