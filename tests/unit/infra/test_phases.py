"""The declaration itself: complete, frozen, growing."""

import dataclasses
from itertools import pairwise

import pytest

from app.telemetry.metrics import CATALOGUE
from infra.phases import PHASES, Phase, PhaseName


def test_every_phase_is_declared_under_its_name() -> None:
    assert list(PHASES) == list(PhaseName)
    assert all(phase.name is name for name, phase in PHASES.items())


def test_a_phase_carries_more_faster_and_more_reliably_than_the_one_before() -> None:
    for smaller, larger in pairwise(PHASES.values()):
        assert larger.load.leads_per_month > smaller.load.leads_per_month
        assert larger.load.documents > smaller.load.documents
        assert larger.targets.answer_p50_s < smaller.targets.answer_p50_s
        assert larger.targets.failed_share <= smaller.targets.failed_share
        assert larger.budget_usd_month > smaller.budget_usd_month


def test_a_p99_is_not_below_its_p50() -> None:
    for phase in PHASES.values():
        assert phase.targets.answer_p99_s is None or phase.targets.answer_p99_s >= phase.targets.answer_p50_s


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name)
def test_every_latency_target_is_an_edge_of_the_latency_buckets(phase: Phase) -> None:
    times = {phase.targets.answer_p50_s, phase.targets.answer_p99_s, phase.targets.own_share_p99_s} - {None}
    histogram = next(spec for spec in CATALOGUE if spec.attribute == "http_request_duration_seconds")
    assert times <= set(histogram.buckets)


def test_the_declaration_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        PHASES[PhaseName.POC] = PHASES[PhaseName.SMALL]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        PHASES[PhaseName.POC].budget_usd_month = 1  # type: ignore[misc]
