import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from app.agent.breaker import Breakers
from app.agent.budget_store import DailyCaps
from app.agent.budgets import Caps
from app.agent.model import ModelError, ModelReply, ModelRequest, ModelTimeout, ToolCall, Usage
from app.agent.offline import OFFLINE
from app.agent.prices import Prices
from app.agent.routing import DeadlineExceeded, ModelRouter, ModelUnavailable, Route, RoutedReply
from app.cache.base import person_tag, tenant_tag
from app.cache.lru import LruCache
from app.cache.tiered import TieredCache
from app.errors import BudgetExceeded, ConfigError
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import (
    AGENT,
    AT_ONCE,
    ROUTE,
    STRANGER,
    Room,
    ScriptedModel,
    ask,
    build_room,
    prices,
    reply,
)

DOWN = ModelError("down", retryable=True, status=500)
REFUSED = ModelError("refused", retryable=False, status=400)


async def complete(
    room: Room, request: ModelRequest | None = None, seconds: float = 5, **settings: object
) -> RoutedReply:
    deadline = asyncio.get_running_loop().time() + seconds
    return await room.router.complete(
        request or ask(),
        ROUTE,
        settings.pop("principal", AGENT),
        deadline,
        **settings,  # type: ignore[arg-type]
    )


def lookups(room: Room, result: str, tier: str = "none") -> float:
    return room.count("cache_requests_total", cache="models", tier=tier, result=result)


def hang(seconds: float = 30) -> Callable[[ModelRequest], Awaitable[ModelReply]]:
    async def step(_request: ModelRequest) -> ModelReply:
        await asyncio.sleep(seconds)
        return reply("late")

    return step


async def test_the_first_provider_answers_and_its_price_is_paid(db: Database, clock: StillClock) -> None:
    first, second = ScriptedModel("one"), ScriptedModel("two", provider="other")
    room = build_room(db, clock, first, second)
    routed = await complete(room)
    assert (routed.reply.text, routed.provider, routed.route, routed.attempts) == ("one", "scripted", ROUTE, 1)
    assert routed.cost_micros == 100 * 1 + 20 * 2
    assert not routed.cached
    assert second.calls == 0
    assert room.count("model_tokens_total", provider="scripted", direction="output") == 20
    assert room.count("model_cost_usd_total", provider="scripted") == pytest.approx(0.00014)
    labels = {"provider": "scripted", "route": ROUTE, "outcome": "ok"}
    assert room.count("model_call_duration_seconds_count", **labels) == 1


async def test_a_passing_error_is_tried_again_with_the_same_provider(db: Database, clock: StillClock) -> None:
    first, second = ScriptedModel(DOWN, "one"), ScriptedModel("two", provider="other")
    room = build_room(db, clock, first, second)
    routed = await complete(room)
    assert (routed.provider, routed.attempts, first.calls, second.calls) == ("scripted", 2, 2, 0)


async def test_a_lasting_error_goes_to_the_next_provider_at_once(db: Database, clock: StillClock) -> None:
    first, second = ScriptedModel(REFUSED), ScriptedModel("two", provider="other")
    room = build_room(db, clock, first, second)
    routed = await complete(room)
    assert (routed.provider, routed.attempts, first.calls, second.calls) == ("other", 2, 1, 1)
    assert room.count("model_fallbacks_total", route=ROUTE) == 1


async def test_a_long_retry_after_is_not_waited_for(db: Database, clock: StillClock) -> None:
    limited = ModelError("limited", retryable=True, retry_after=1, status=429)
    first, second = ScriptedModel(limited, "one"), ScriptedModel("two", provider="other")
    room = build_room(db, clock, first, second)
    assert (await complete(room)).provider == "other"
    assert first.calls == 1
    labels = {"provider": "scripted", "route": ROUTE, "outcome": "rate_limited"}
    assert room.count("model_call_duration_seconds_count", **labels) == 1


async def test_a_slow_provider_leaves_time_for_its_stand_in(db: Database, clock: StillClock) -> None:
    first, second = ScriptedModel(hang()), ScriptedModel("two", provider="other")
    room = build_room(db, clock, first, second)
    routed = await complete(room, seconds=0.4)
    assert routed.provider == "other"
    assert routed.model_s > 0.1
    labels = {"provider": "scripted", "route": ROUTE, "outcome": "timeout"}
    assert room.count("model_call_duration_seconds_count", **labels) == 1


async def test_a_call_ends_at_its_own_limit_though_there_is_more_time(db: Database, clock: StillClock) -> None:
    first, second = ScriptedModel(hang()), ScriptedModel("two", provider="other")
    room = build_room(db, clock, first, second, call_timeout_s=0.02)
    async with asyncio.timeout(10):
        assert (await complete(room, seconds=600)).provider == "other"
    assert room.count("model_call_duration_seconds_count", provider="scripted", route=ROUTE, outcome="timeout") == 2


async def test_nobody_in_time_is_a_deadline_exceeded(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, ScriptedModel(hang()), ScriptedModel(hang(), provider="other"))
    with pytest.raises(DeadlineExceeded):
        await complete(room, seconds=0.1)


async def test_everyone_down_is_unavailable_with_the_longest_wait(db: Database, clock: StillClock) -> None:
    limited = ModelError("limited", retryable=True, retry_after=30, status=429)
    room = build_room(db, clock, ScriptedModel(DOWN), ScriptedModel(limited, provider="other"))
    with pytest.raises(ModelUnavailable, match="'cheap' answered: down down limited") as refused:
        await complete(room)
    assert refused.value.headers() == {"Retry-After": "30"}
    assert (await room.budgets.usage(AGENT.tenant_id)).spent.tokens == 0


async def test_a_client_that_breaks_its_promise_is_one_provider_that_failed(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, ScriptedModel(KeyError("choices")), ScriptedModel("two", provider="other"))
    assert (await complete(room)).provider == "other"


async def test_an_open_breaker_is_passed_by_without_a_call(db: Database, clock: StillClock) -> None:
    first, second = ScriptedModel(DOWN), ScriptedModel("two", provider="other")
    room = build_room(db, clock, first, second, breaker={"failures": 2})
    for number in range(3):
        routed = await complete(room, ask(str(number)))
    assert first.calls == 2
    assert (routed.provider, routed.attempts) == ("other", 1)
    assert room.count("breaker_state", name="model:scripted") == 2


async def test_a_bad_request_does_not_open_the_breaker(db: Database, clock: StillClock) -> None:
    first = ScriptedModel(REFUSED)
    room = build_room(db, clock, first, ScriptedModel("two", provider="other"), breaker={"failures": 1})
    for number in range(3):
        await complete(room, ask(str(number)))
    assert first.calls == 3


async def test_an_answer_is_given_again_from_the_cache_for_nothing(db: Database, clock: StillClock) -> None:
    calls = (ToolCall("c1", "find", '{"q": 1}'),)
    model = ScriptedModel(calls)
    room = build_room(db, clock, model)
    first, second = await complete(room), await complete(room)
    assert model.calls == 1
    assert (second.cached, second.cost_micros, second.attempts, second.model_s) == (True, 0, 0, 0)
    assert replace(second.reply, duration_s=0) == replace(first.reply, duration_s=0)
    assert (lookups(room, "miss"), lookups(room, "hit", "l1"), lookups(room, "shared")) == (1, 1, 0)


async def test_a_reply_is_dropped_with_the_tenant_or_person_it_was_made_for(db: Database, clock: StillClock) -> None:
    model, kept = ScriptedModel("one"), LruCache()
    room = build_room(db, clock, model, cache=kept)
    people = (person_tag(AGENT.tenant_id, AGENT.user), person_tag(AGENT.tenant_id, "lead_1"))
    for tag in (tenant_tag(AGENT.tenant_id), *people):
        asked = model.calls
        await complete(room, subject_id="lead_1")
        assert kept.take(tenant_tag(STRANGER.tenant_id), person_tag(AGENT.tenant_id, STRANGER.user)) == []
        assert len(kept.take(tag)) == 1
        await complete(room, subject_id="lead_1")
        assert model.calls == asked + 2
        kept.take(tag)


async def test_what_a_cached_reply_spared_is_counted_and_told(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, ScriptedModel("one"))
    first, second = await complete(room), await complete(room)
    assert (first.saved_micros, second.saved_micros) == (0, first.cost_micros)
    assert room.count("cache_saved_usd_total", cache="models") == pytest.approx(first.cost_micros / 1e6)


@pytest.mark.parametrize(
    "other",
    [
        ask("another message"),
        ask(prompt_version=2),
        ask(prompt="other"),
        ask(answer_schema={"type": "object"}),
        replace(ask(), max_tokens=99),
    ],
)
async def test_whatever_an_answer_depends_on_is_in_its_key(
    db: Database, clock: StillClock, other: ModelRequest
) -> None:
    model = ScriptedModel("one", "two")
    room = build_room(db, clock, model)
    await complete(room)
    assert (await complete(room, other)).reply.text == "two"


async def test_one_tenant_never_gets_the_answer_of_another(db: Database, clock: StillClock) -> None:
    model = ScriptedModel("mine", "yours")
    room = build_room(db, clock, model)
    await complete(room)
    assert (await complete(room, principal=STRANGER)).reply.text == "yours"


async def test_facts_count_only_where_a_model_reads_them(db: Database, clock: StillClock) -> None:
    model, offline = ScriptedModel("one"), ScriptedModel("one", provider=OFFLINE)
    for client, calls in ((model, 1), (offline, 2)):
        room = build_room(db, clock, client)
        await complete(room, ask(facts={"score": 1}))
        await complete(room, ask(facts={"score": 2}))
        assert client.calls == calls


async def test_a_replay_asks_the_provider_and_keeps_nothing(db: Database, clock: StillClock) -> None:
    model = ScriptedModel("one", "two", "three")
    room = build_room(db, clock, model)
    await complete(room)
    assert (await complete(room, use_cache=False)).reply.text == "two"
    assert (await complete(room)).reply.text == "one"
    assert lookups(room, "bypass") == 1


async def test_what_is_no_whole_first_choice_answer_is_not_kept(db: Database, clock: StillClock) -> None:
    async def cut(_request: ModelRequest) -> ModelReply:
        return replace(reply("half an ans"), finish_reason="length")

    truncated = ScriptedModel(cut, "whole")
    room = build_room(db, clock, truncated)
    assert [(await complete(room)).reply.text for _ in range(2)] == ["half an ans", "whole"]
    back_again = ScriptedModel(REFUSED, "first choice")
    room = build_room(db, clock, back_again, ScriptedModel("stand-in"))
    assert [(await complete(room)).reply.text for _ in range(2)] == ["stand-in", "first choice"]


async def test_an_answer_at_a_temperature_is_never_kept(db: Database, clock: StillClock) -> None:
    model = ScriptedModel("one", "two")
    room = build_room(db, clock, model)
    warm = replace(ask(), temperature=0.7)
    assert [(await complete(room, warm)).reply.text for _ in range(2)] == ["one", "two"]


async def test_a_hundred_identical_misses_make_one_call_and_pay_once(db: Database, clock: StillClock) -> None:
    model = ScriptedModel(slow(0.05))
    room = build_room(db, clock, model)
    answers = await asyncio.gather(*(complete(room) for _ in range(100)))
    assert model.calls == 1
    assert sum(routed.cost_micros for routed in answers) == 140
    assert (await room.budgets.usage(AGENT.tenant_id)).spent.tokens == 120
    assert lookups(room, "shared") == 99


def slow(seconds: float) -> Callable[[ModelRequest], Awaitable[ModelReply]]:
    async def step(_request: ModelRequest) -> ModelReply:
        await asyncio.sleep(seconds)
        return reply("slow")

    return step


async def test_a_cancelled_leader_leaves_the_answer_to_its_followers(db: Database, clock: StillClock) -> None:
    model = ScriptedModel(slow(0.05))
    room = build_room(db, clock, model)
    leader = asyncio.create_task(complete(room))
    await asyncio.sleep(0.02)
    followers = [asyncio.create_task(complete(room)) for _ in range(3)]
    await asyncio.sleep(0)
    leader.cancel()
    assert [routed.reply.text for routed in await asyncio.gather(*followers)] == ["slow"] * 3
    assert model.calls == 1


async def test_a_follower_with_more_time_is_not_stopped_by_its_leaders_deadline(
    db: Database, clock: StillClock
) -> None:
    model = ScriptedModel(hang(), "in time")
    room = build_room(db, clock, model)
    leader = asyncio.create_task(complete(room, seconds=0.5))
    await asyncio.sleep(0.02)
    assert (await complete(room, seconds=30)).reply.text == "in time"
    with pytest.raises(DeadlineExceeded):
        await leader


async def test_a_request_that_would_pass_its_own_caps_is_refused_before_the_call(
    db: Database, clock: StillClock
) -> None:
    model = ScriptedModel("one")
    room = build_room(db, clock, model)
    for caps in (Caps(tokens=100), Caps(cost_micros=200)):
        with pytest.raises(BudgetExceeded) as refused:
            await complete(room, caps=caps)
        assert refused.value.extra == {"scope": "request"}
        assert int(refused.value.headers()["Retry-After"]) > 0
    await complete(room, caps=Caps(tokens=110, cost_micros=210))
    assert model.calls == 1
    assert room.count("budget_refusals_total", scope="request") == 2


async def test_a_tenants_spent_day_refuses_until_midnight(db: Database, clock: StillClock) -> None:
    model = ScriptedModel("one")
    room = build_room(db, clock, model, caps=DailyCaps(tokens=250))
    await complete(room, ask("1"))
    await complete(room, ask("2"))
    with pytest.raises(BudgetExceeded) as refused:
        await complete(room, ask("3"))
    assert refused.value.extra == {"scope": "tenant"}
    assert refused.value.retry_after == 15 * 3600
    assert model.calls == 2
    assert (await complete(room, ask("3"), principal=STRANGER)).reply.text == "one"
    clock.advance(hours=15)
    assert (await complete(room, ask("3"))).reply.text == "one"


async def test_a_cached_answer_needs_no_budget(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, ScriptedModel("one"), caps=DailyCaps(tokens=130))
    assert not (await complete(room)).cached
    assert (await complete(room)).cached


async def test_a_failed_call_gives_its_reservation_back(db: Database, clock: StillClock) -> None:
    model = ScriptedModel(REFUSED, "one")
    room = build_room(db, clock, model, caps=DailyCaps(tokens=130))
    with pytest.raises(ModelUnavailable):
        await complete(room)
    assert (await complete(room)).reply.text == "one"


async def test_routes_are_checked_at_the_start(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock)

    def router(route: Route, known: Prices) -> ModelRouter:
        cache = TieredCache("models", LruCache(), None, room.metrics)
        return ModelRouter(
            [route], Breakers(room.metrics), known, cache, room.budgets, metrics=room.metrics, clock=clock
        )

    model = ScriptedModel("one")
    router(Route("r", (model,)), prices([model]))
    with pytest.raises(ConfigError, match="has no provider"):
        router(Route("r", ()), prices([]))
    with pytest.raises(ConfigError, match=r"providers\.scripted\.models\.script-1"):
        router(Route("r", (model,)), prices([]))
    with pytest.raises(ConfigError, match="There is no model route 'strong'"):
        await room.router.complete(ask(), "strong", AGENT, 1.0)


def test_usage_adds_up() -> None:
    assert Usage(1, 2, 1) + Usage(10, 20, 3) == Usage(11, 22, 4)
    assert ModelTimeout("acme", 1.25).detail == "The provider 'acme' did not answer within 1.2 s."
    assert AT_ONCE.attempts == 2
