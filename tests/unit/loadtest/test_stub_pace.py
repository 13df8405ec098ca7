"""How long a stated model takes."""

from dataclasses import replace
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.phases import PHASES, Phase, PhaseName
from loadtest.stub.pace import FAST, HOSTED, OWN_L4, PACES, Draws, ModelPace, pace_of, room
from tests.support.examples import examples

CANNOT = "cannot keep its promise"


@settings(max_examples=examples(50))
@given(seed=st.integers(0, 2**32), pieces=st.integers(1, 60), pace=st.sampled_from(list(PACES.values())))
def test_the_same_seed_gives_the_same_answers(seed: int, pieces: int, pace: ModelPace) -> None:
    one, other = Draws(pace, seed), Draws(pace, seed)
    assert [(one.tokens(), one.waits(pieces)) for _ in range(3)] == [
        (other.tokens(), other.waits(pieces)) for _ in range(3)
    ]


@settings(max_examples=examples(50))
@given(seed=st.integers(0, 2**32), most=st.integers(60, 90))
def test_an_answer_has_a_token_at_least_and_no_more_than_the_most(seed: int, most: int) -> None:
    draws = Draws(replace(HOSTED, most_tokens=most, answer_sigma=2.0), seed)
    for _ in range(50):
        tokens = draws.tokens()
        waits = draws.waits(tokens)
        assert 1 <= tokens <= most
        assert len(waits) == tokens
        assert min(waits) > 0


def test_half_of_the_draws_are_below_the_median_and_the_tail_is_above() -> None:
    draws = Draws(HOSTED, 7)
    firsts = sorted(draws.waits(1)[0] for _ in range(4_000))
    assert median(firsts) == pytest.approx(HOSTED.first_s, rel=0.03)
    # A log-normal's 95th percentile is exp(1.645 sigma) times its median.
    assert firsts[3_800] == pytest.approx(HOSTED.first_s * 2.718 ** (1.645 * HOSTED.first_sigma), rel=0.06)


def test_no_spread_is_the_median_each_time() -> None:
    still = replace(FAST, first_sigma=0.0, tokens_sigma=0.0, answer_sigma=0.0)
    draws = Draws(still, 3)
    assert draws.tokens() == still.answer_tokens
    assert sum(draws.waits(still.answer_tokens)) == pytest.approx(still.answer_s)


@pytest.mark.parametrize("phase", PHASES.values(), ids=lambda phase: phase.name)
def test_each_phase_is_measured_with_the_models_that_it_pays_for(phase: Phase) -> None:
    pace = pace_of(phase)
    assert pace.why
    assert (pace is HOSTED) == (phase.models is None)


@pytest.mark.parametrize("name", [PhaseName.POC, PhaseName.SMALL])
def test_a_hosted_model_leaves_room_for_what_its_phases_promise(name: PhaseName) -> None:
    assert CANNOT not in room(PHASES[name], pace_of(PHASES[name]))


def test_a_machine_of_unknown_pace_is_named() -> None:
    medium = PHASES[PhaseName.MEDIUM]
    assert medium.nodes is not None
    with pytest.raises(LookupError, match=r"'g9[.]huge' serves the models of 'medium'"):
        pace_of(replace(medium, nodes=replace(medium.nodes, gpu=("g9.huge",))))


def test_a_model_that_leaves_no_room_is_named_as_such() -> None:
    said = room(PHASES[PhaseName.MEDIUM], OWN_L4)
    assert CANNOT in said
    assert "'own-l4'" in said
    assert "0.5 s and 2 s" in said


@pytest.mark.parametrize(
    "wrong",
    [{"first_s": -1.0}, {"tokens_s": 0.0}, {"answer_tokens": 0}, {"most_tokens": 1}, {"tool_share": 1.5}],
)
def test_a_pace_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the pace 'fast'"):
        replace(FAST, **wrong)
