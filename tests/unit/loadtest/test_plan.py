"""What the plan of loads must always say of a phase."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.phases import PHASES, Load, Phase
from loadtest.plan import (
    BATCH_EVERY_S,
    DOCUMENT_EVERY_S,
    P99_SAMPLES,
    SHARES,
    WARM_UP_S,
    Figure,
    Scenario,
    Stage,
    chosen,
    hopeless_s,
    mix,
    questions_s,
    scenarios,
    smoke,
    soak,
    steady,
    thresholds,
)
from loadtest.results import Kind
from tests.support.examples import examples

EVERY = pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
PROMISED = [phase for phase in PHASES.values() if phase.headroom]


def named(phase: Phase) -> dict[str, Scenario]:
    return {each.name: each for each in (*scenarios(phase), soak(phase))}


@given(
    phase=st.sampled_from(list(PHASES.values())),
    replicas=st.integers(1, 60),
    leads=st.integers(1, 10**7),
    conversations=st.integers(1, 10**5),
)
@settings(max_examples=examples(50))
def test_the_rates_of_all_replicas_add_up_to_the_phase(
    phase: Phase, replicas: int, leads: int, conversations: int
) -> None:
    phase = replace(phase, load=Load(leads, conversations, 1_000), fleet=replace(phase.fleet, least=replicas))
    rates = mix(phase)
    assert questions_s(rates) * replicas == pytest.approx(conversations / 10)
    assert rates[Kind.LEAD] * replicas == pytest.approx(phase.load.leads_s)


@EVERY
def test_every_kind_is_asked_for_and_what_is_rare_is_at_least_under_way(phase: Phase) -> None:
    rates = mix(phase)
    assert set(rates) == set(Kind) - {Kind.QUESTION}
    assert all(rate > 0 for rate in rates.values())
    assert rates[Kind.DOCUMENT] >= 1 / DOCUMENT_EVERY_S
    assert rates[Kind.BATCH] == 1 / BATCH_EVERY_S
    assert sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("phase", PROMISED, ids=lambda phase: phase.name)
@pytest.mark.parametrize("name", ["average", "stress-2x", "stress-5x"])
def test_what_is_promised_is_asked_often_enough_to_be_judged(phase: Phase, name: str) -> None:
    scenario = named(phase)[name]
    if scenario.promised:
        assert scenario.expected(*SHARES) >= P99_SAMPLES


@EVERY
def test_a_stress_beyond_the_headroom_is_not_promised(phase: Phase) -> None:
    found = {name: each.promised for name, each in named(phase).items()}
    assert all(found[name] for name in ("smoke", "average", "soak"))
    assert found["stress-2x"] is ((phase.headroom or 1) >= 2)
    assert found["stress-5x"] is ((phase.headroom or 1) >= 5)


@pytest.mark.parametrize(("name", "minutes"), [("poc", 4), ("small", 18), ("medium", 8), ("multi-region", 6)])
def test_a_gate_ends_within_minutes(name: str, minutes: float) -> None:
    phase = next(phase for phase in PHASES.values() if phase.name == name)
    assert sum(each.seconds for each in scenarios(phase)) <= minutes * 60


@EVERY
def test_the_thresholds_are_the_phases_own(phase: Phase) -> None:
    targets = phase.targets
    for scenario in scenarios(phase):
        found = {(each.figure, each.kind): each.limit for each in thresholds(phase, scenario)}
        assert found[Figure.DROPPED, None] == 0
        assert found[Figure.FAILED, None] == targets.failed_share
        assert found[Figure.OWN_P99, None] == found[Figure.OWN_P99, Kind.QUESTION] == targets.own_share_p99_s
        for kind in (*scenario.rates, Kind.QUESTION):
            assert found[Figure.ANSWER_P50, kind] == targets.answer_p50_s
            assert found.get((Figure.ANSWER_P99, kind)) == targets.answer_p99_s
        assert all(found[Figure.FAILED, kind] == targets.failed_share for kind in scenario.rates)


@EVERY
def test_names_of_thresholds_are_unique(phase: Phase) -> None:
    names = [each.name for each in thresholds(phase, soak(phase))]
    assert len(names) == len(set(names))


def test_what_is_hopeless_is_far_beyond_what_is_promised() -> None:
    assert all(hopeless_s(phase) > 2 * (phase.targets.answer_p99_s or 0) for phase in PHASES.values())


def test_the_warm_up_is_not_among_what_is_expected() -> None:
    assert steady("x", {Kind.CHAT: 2.0}, 3.0, 10).expected(Kind.CHAT) == pytest.approx(60)
    two = Scenario("x", {Kind.CHAT: 1.0}, (Stage(1, WARM_UP_S + 1), Stage(4, 2)))
    assert two.expected() == pytest.approx(1 + 8)
    assert two.factor == 4


def test_a_smoke_asks_for_a_few_of_everything() -> None:
    for phase in PHASES.values():
        scenario = smoke(mix(phase))
        assert all(scenario.expected(kind) >= 3 for kind in scenario.rates)


def test_names_choose_scenarios_and_stress_stands_for_all_of_its_loads() -> None:
    phase = PHASES["small"]
    assert [each.name for each in chosen(phase, ["stress"])] == ["stress-2x", "stress-5x"]
    assert [each.name for each in chosen(phase, ["soak", "smoke"])] == ["smoke", "soak"]
    assert chosen(phase, []) == scenarios(phase)
    with pytest.raises(ValueError, match=r"There is no scenario 'strss': choose of smoke, .*replay"):
        chosen(phase, ["strss"])
