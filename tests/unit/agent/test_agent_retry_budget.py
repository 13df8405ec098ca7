"""Repeats stay a small share of what a provider answers, whatever goes wrong."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.agent.answers import RoutedReply
from app.agent.model import ModelError
from app.agent.retry_budget import ANSWERS, MOST, RetryBudget
from app.agent.routing import ModelUnavailable
from app.principal import Principal
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import AGENT, ROUTE, Room, ScriptedModel, ask, build_room
from tests.support.examples import examples

DOWN = ModelError("down", retryable=True)


@settings(max_examples=examples(100))
@given(st.lists(st.booleans(), max_size=400))
def test_repeats_are_a_share_of_the_answers_and_those_saved_up(turns: list[bool]) -> None:
    budget, answers, repeats = RetryBudget(), 0, 0
    for answered in turns:
        if answered:
            budget.answered()
            answers += 1
        else:
            repeats += budget.take()
        assert repeats <= MOST + answers / ANSWERS


def test_what_is_saved_up_is_bounded() -> None:
    budget = RetryBudget()
    for _ in range(1000):
        budget.answered()
    assert [budget.take() for _ in range(MOST + 1)] == [True] * MOST + [False]


async def test_a_provider_that_answers_nobody_is_asked_again_a_few_times_and_then_once_a_request(
    db: Database, clock: StillClock
) -> None:
    model = ScriptedModel(DOWN)
    room = build_room(db, clock, model, breaker={"failures": 1000})
    for number in range(50):
        with pytest.raises(ModelUnavailable):
            await complete(room, f"question {number}")
    assert model.calls == 50 + MOST
    assert room.count("model_retries_total", provider="scripted", result="made") == MOST
    assert room.count("model_retries_total", provider="scripted", result="withheld") == 50 - MOST


async def test_answers_pay_for_later_repeats(db: Database, clock: StillClock) -> None:
    model = ScriptedModel(*[DOWN] * (2 * MOST), *["yes"] * ANSWERS, DOWN, "once more", "yes")
    room = build_room(db, clock, model, breaker={"failures": 1000})
    for number in range(MOST):
        with pytest.raises(ModelUnavailable):
            await complete(room, f"question {number}")
    for number in range(ANSWERS):
        await complete(room, f"other {number}")
    assert (await complete(room, "last")).reply.text == "once more"


async def complete(room: Room, text: str, principal: Principal = AGENT) -> RoutedReply:
    deadline = asyncio.get_running_loop().time() + 5
    return await room.router.complete(ask(text), ROUTE, principal, deadline)
