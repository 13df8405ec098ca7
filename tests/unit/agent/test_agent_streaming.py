"""Streamed answers by route: fallbacks before the first word, and a budget that is settled once, however it ends."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.agent.budget_store import DailyCaps
from app.agent.budgets import Caps, Reservation
from app.agent.model import (
    ModelError,
    ModelReply,
    ModelRequest,
    ModelStreamBroken,
    TextDelta,
    Usage,
    Written,
    estimate_tokens,
)
from app.agent.routing import DeadlineExceeded, ModelUnavailable, RoutedReply
from app.clock import system_clock
from app.errors import BudgetExceeded, ConfigError
from app.storage.base import Base
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import AGENT, ROUTE, Room, ScriptedModel, ask, build_room, reply

DOWN = ModelError("down", retryable=True, status=500)
REFUSED = ModelError("refused", retryable=False, status=400)
PIECES = ("Single ", "sign-on ", "is ", "in.")


class Streaming(ScriptedModel):
    """Says its pieces, then ends with the whole reply, or with `end`: an error, or a silence."""

    def __init__(
        self,
        pieces: Sequence[str] = PIECES,
        end: Exception | str | None = None,
        *,
        usage: Usage = Usage(100, 20),  # noqa: B008 - frozen
        provider: str = "scripted",
    ) -> None:
        super().__init__("unused", provider=provider)
        self.open = 0
        self._pieces = pieces
        self._end = end
        self._usage = usage

    async def stream(self, request: ModelRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | ModelReply, None]:
        self.asked.append(request)
        self.open += 1
        written = Written()
        try:
            for piece in self._pieces:
                written.add(piece)
                yield TextDelta(piece)
            if self._end == "silence":
                await asyncio.sleep(timeout_s)
                raise ModelStreamBroken("too late", retryable=True, usage=written.usage(request))
            if isinstance(self._end, Exception):
                raise self._end
            if self._end is None:
                yield reply("".join(self._pieces), usage=self._usage)
        finally:
            self.open -= 1


def stream(
    room: Room,
    request: ModelRequest | None = None,
    seconds: float = 5,
    caps: Caps = Caps(),  # noqa: B008 - frozen
) -> AsyncGenerator[TextDelta | RoutedReply, None]:
    deadline = asyncio.get_running_loop().time() + seconds
    return room.router.stream(request or ask(), ROUTE, AGENT, deadline, caps)


async def listen(room: Room, **settings: object) -> tuple[list[str], RoutedReply]:
    *deltas, routed = [item async for item in stream(room, **settings)]  # type: ignore[arg-type]
    assert isinstance(routed, RoutedReply)
    return [delta.text for delta in deltas if isinstance(delta, TextDelta)], routed


async def spent(room: Room) -> tuple[int, int]:
    """Tokens and micro-USD of the tenant's day."""
    amount = (await room.budgets.usage(AGENT.tenant_id)).spent
    return amount.tokens, amount.cost_micros


async def test_the_pieces_come_and_then_the_reply_with_what_it_cost(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, Streaming())
    deltas, routed = await listen(room)
    assert tuple(deltas) == PIECES
    assert (routed.reply.text, routed.provider, routed.route, routed.attempts) == (
        "Single sign-on is in.",
        "scripted",
        ROUTE,
        1,
    )
    assert (routed.cost_micros, routed.cached, routed.stand_in) == (140, False, False)
    assert await spent(room) == (120, 140)
    assert room.count("model_tokens_total", provider="scripted", direction="output") == 20
    assert room.count("model_cost_usd_total", provider="scripted") == pytest.approx(0.00014)
    assert room.count("model_first_token_seconds_count", provider="scripted", route=ROUTE) == 1
    ok = {"provider": "scripted", "route": ROUTE, "outcome": "ok"}
    assert room.count("model_call_duration_seconds_count", **ok) == 1


async def test_a_stream_is_asked_anew_each_time(db: Database, clock: StillClock) -> None:
    model = Streaming()
    room = build_room(db, clock, model)
    await listen(room)
    await listen(room)
    assert model.calls == 2


@pytest.mark.parametrize(("error", "calls"), [(DOWN, 2), (REFUSED, 1)])
async def test_before_the_first_word_the_same_and_the_next_provider_are_tried(
    db: Database, clock: StillClock, error: ModelError, calls: int
) -> None:
    first, second = Streaming((), error), Streaming(provider="other")
    room = build_room(db, clock, first, second)
    deltas, routed = await listen(room)
    assert (tuple(deltas), routed.provider, routed.stand_in) == (PIECES, "other", True)
    assert (first.calls, second.calls, routed.attempts) == (calls, 1, calls + 1)
    assert room.count("model_fallbacks_total", route=ROUTE) == 1


async def test_a_provider_that_says_nothing_leaves_time_for_its_stand_in(db: Database, clock: StillClock) -> None:
    first, second = Streaming((), "silence"), Streaming(provider="other")
    room = build_room(db, clock, first, second)
    assert (await listen(room, seconds=1.0))[1].provider == "other"
    assert first.open == 0


@pytest.mark.parametrize(
    "end", [ModelStreamBroken("broke", retryable=True, usage=Usage(9, 7)), KeyError("x"), "nothing"]
)
async def test_after_the_first_word_nobody_else_is_asked_and_the_part_is_paid_for(
    db: Database, clock: StillClock, end: Exception | str
) -> None:
    first, second = Streaming(PIECES, end), Streaming(provider="other")
    room = build_room(db, clock, first, second)
    said = 0
    with pytest.raises(ModelStreamBroken) as broken:
        async for _ in stream(room):
            said += 1
    assert (said, first.calls, second.calls) == (4, 1, 0)
    usage = Usage(9, 7) if isinstance(end, ModelStreamBroken) else Usage(3, 6)
    assert broken.value.usage == usage
    assert await spent(room) == (usage.total, usage.input_tokens + 2 * usage.output_tokens)
    assert room.count("model_call_duration_seconds_count", provider="scripted", route=ROUTE, outcome="error") == 1


async def test_a_call_that_failed_before_its_first_word_is_paid_for_as_far_as_it_says(
    db: Database, clock: StillClock
) -> None:
    lost = ModelError("lost in a tool call", retryable=False, usage=Usage(50, 5))
    room = build_room(db, clock, Streaming((), lost), Streaming(provider="other"))
    _deltas, routed = await listen(room)
    assert (routed.reply.usage, routed.cost_micros) == (Usage(100, 20), 60 + 140)
    assert await spent(room) == (55 + 120, 60 + 140)


async def test_time_that_runs_out_in_the_middle_is_a_deadline_exceeded_and_paid_for(
    db: Database, clock: StillClock
) -> None:
    room = build_room(db, clock, Streaming(PIECES, "silence"))
    with pytest.raises(DeadlineExceeded):
        await listen(room, seconds=1.0)
    assert await spent(room) == (9, 15)


async def test_nobody_who_answers_is_unavailable_and_costs_nothing(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, Streaming((), DOWN))
    with pytest.raises(ModelUnavailable):
        await listen(room)
    assert await spent(room) == (0, 0)


async def test_broken_streams_open_the_breaker(db: Database, clock: StillClock) -> None:
    broke = ModelStreamBroken("broke", retryable=True, usage=Usage(1, 1))
    first = Streaming(PIECES, broke)
    room = build_room(db, clock, first, Streaming(provider="other"), breaker={"failures": 2})
    for _ in range(2):
        with pytest.raises(ModelStreamBroken):
            await listen(room)
    assert (await listen(room))[1].provider == "other"
    assert first.calls == 2


async def test_caps_the_day_and_the_route_are_checked_before_the_call(db: Database, clock: StillClock) -> None:
    model = Streaming()
    room = build_room(db, clock, model, caps=DailyCaps(tokens=50))
    for caps in (Caps(tokens=10), Caps()):
        with pytest.raises(BudgetExceeded):
            await listen(room, caps=caps)
    with pytest.raises(ConfigError, match="no model route 'other'"):
        await anext(room.router.stream(ask(), "other", AGENT, 1.0))
    assert model.calls == 0


async def test_a_consumer_that_is_cancelled_pays_for_what_was_written(db: Database, clock: StillClock) -> None:
    model = Streaming(PIECES, "silence")
    room = build_room(db, clock, model)
    said = 0

    async def consume() -> None:
        nonlocal said
        async for _ in stream(room):
            said += 1

    consuming = asyncio.create_task(consume())
    async with asyncio.timeout(5):
        while said < 4:
            await asyncio.sleep(0)
    consuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consuming
    assert model.open == 0
    assert await spent(room) == (3 + 6, 3 + 12)
    cancelled = {"provider": "scripted", "route": ROUTE, "outcome": "cancelled"}
    assert room.count("model_call_duration_seconds_count", **cancelled) == 1


async def test_a_whole_call_that_is_cancelled_pays_for_its_input(db: Database, clock: StillClock) -> None:
    asked = asyncio.Event()

    async def hang(_request: ModelRequest) -> ModelReply:
        asked.set()
        await asyncio.sleep(30)
        return reply("late")

    room = build_room(db, clock, ScriptedModel(hang))
    deadline = asyncio.get_running_loop().time() + 5
    calling = asyncio.create_task(room.router.complete(ask(), ROUTE, AGENT, deadline))
    await asked.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    async with asyncio.timeout(5):
        while await spent(room) != (3, 3):
            await asyncio.sleep(0.01)


@settings(max_examples=min(settings().max_examples, 40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.text(min_size=1, max_size=30), max_size=8),
    end=st.sampled_from([None, "silence", DOWN, ModelStreamBroken("b", retryable=True), KeyError("x"), "nothing"]),
    reads=st.integers(0, 10),
    leave=st.sampled_from(["close", "cancel", "forget"]),
)
def test_however_a_stream_ends_it_is_settled_once_and_for_no_less_than_was_said(
    tmp_path: Path, pieces: list[str], end: Exception | str | None, reads: int, leave: str
) -> None:
    if isinstance(end, ModelStreamBroken):
        written = Written()
        for piece in pieces:
            written.add(piece)
        end = ModelStreamBroken("b", retryable=True, usage=written.usage(ask()))
    if end is DOWN and pieces:
        end = None
    asyncio.run(_settled(tmp_path, pieces, end, reads, leave))


async def _settled(folder: Path, pieces: list[str], end: Exception | str | None, reads: int, leave: str) -> None:
    db = Database(f"sqlite+aiosqlite:///{folder / 'trellis.db'}")
    async with db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    whole = Usage(3, max(len(pieces), estimate_tokens("".join(pieces))))
    model = Streaming(pieces, end, usage=whole)
    room = build_room(db, system_clock, model)
    settled: list[int] = []
    settle = room.budgets.settle

    def counting(reservation: Reservation, tokens: int, cost_micros: int) -> None:
        settled.append(tokens)
        settle(reservation, tokens, cost_micros)

    room.budgets.settle = counting  # type: ignore[method-assign]
    said = ""

    async def consume() -> None:
        nonlocal said
        items = stream(room, seconds=30)
        for _ in range(reads):
            item = await anext(items)
            said += item.text if isinstance(item, TextDelta) else ""
        if leave == "close":
            await items.aclose()
        elif leave == "cancel":
            async with aclosing(items):
                await asyncio.sleep(30)

    consuming = asyncio.create_task(consume())
    while reads and not model.asked and not consuming.done():
        await asyncio.sleep(0)
    await asyncio.wait([consuming], timeout=0.02)
    consuming.cancel()
    await asyncio.gather(consuming, return_exceptions=True)
    async with asyncio.timeout(5):
        while reads and not settled:
            await asyncio.sleep(0)
    lease = next(iter(room.budgets._leases.values()), None)
    assert len(settled) == (1 if reads else 0)
    assert lease is None or lease.inflight.tokens == 0
    assert sum(settled) >= estimate_tokens(said)
    assert model.open == 0
    await room.budgets.stop()
    await db.close()
