"""Streams that one can come back to: every event exactly once, only for their owner, given up when nobody reads."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import BudgetExceeded, InvalidInput, NotFound, RateLimited, Unavailable
from app.http import streaming
from app.http.leaving import Abandoned, unless_gone
from app.http.streaming import ShuttingDown, Stream, StreamEvent, Streams, StreamTimes, resume_after
from app.principal import Principal, Role
from tests.support.sse import events_of

ANN = Principal("acme", "key_ann", Role.AGENT)
SCOPE = "/v1/bots/docs/chat"
LONG = StreamTimes(kept_s=60, grace_s=60)


@asynccontextmanager
async def streams_of(times: StreamTimes = LONG) -> Any:
    streams = Streams(times)
    yield streams
    await streams.close()


class Source:
    """Events that come when they are told to; says whether it was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[StreamEvent | Exception | None] = asyncio.Queue()
        self.closed = False

    def say(self, *names: str) -> "Source":
        for name in names:
            self.queue.put_nowait(StreamEvent("token", orjson.dumps({"text": name})))
        return self

    def end(self, error: Exception | None = None) -> "Source":
        self.queue.put_nowait(error)
        return self

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        try:
            while (item := await self.queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.closed = True


class Client:
    """Takes an answer as a server would: what was sent, and a way to go away."""

    def __init__(self) -> None:
        self.start: dict[str, Any] = {}
        self.body = b""
        self.finished = False
        self.goes = asyncio.Event()
        self.got = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.goes.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message["body"]
            self.finished = not message["more_body"]
        self.got.set()
        self.got = asyncio.Event()

    async def until(self, wanted: bytes) -> None:
        async with asyncio.timeout(5):
            while wanted not in self.body:
                await self.got.wait()

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.start["headers"]}


async def read(streams: Streams, stream: Stream, after: int = 0) -> bytes:
    client = Client()
    await streams.response(stream, after)({"type": "http"}, client.receive, client.send)
    assert client.finished
    return client.body


async def eventually(holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.005)


async def test_an_answer_begins_with_its_address_and_ends_with_its_last_event():
    async with streams_of() as streams:
        source = Source().say("a", "b").end()
        stream = await streams.open(ANN, SCOPE, source.events())
        client = Client()
        await streams.response(stream)({"type": "http"}, client.receive, client.send)
    events = events_of(client.body)
    assert [event.name for event in events] == ["start", "token", "token"]
    assert events[0].data == {"stream_id": stream.id, "resume": f"{SCOPE}/streams/{stream.id}"}
    assert [event.id for event in events] == [f"{stream.id}.{number}" for number in (1, 2, 3)]
    assert client.body.startswith(b"retry: 1000\n\n")
    assert client.headers["content-type"].startswith("text/event-stream")
    assert client.headers["cache-control"] == "no-store"
    assert client.headers["x-accel-buffering"] == "no"
    assert "content-length" not in client.headers


async def test_an_error_before_the_first_event_is_raised_and_leaves_no_stream():
    async with streams_of() as streams:
        refused = BudgetExceeded("Spent.", retry_after=3)
        with pytest.raises(BudgetExceeded) as raised:
            await streams.open(ANN, SCOPE, Source().end(refused).events())
        assert raised.value is refused
        assert not streams._streams


async def test_an_error_after_the_first_event_is_the_last_event_and_says_what_a_problem_says():
    async with streams_of() as streams:
        source = Source().say("a").end(Unavailable("No model answers.", retry_after=7))
        stream = await streams.open(ANN, SCOPE, source.events())
        events = events_of(await read(streams, stream))
    assert [event.name for event in events] == ["start", "token", "error"]
    assert events[-1].data == {
        "code": "unavailable",
        "title": "Not available at the moment",
        "detail": "No model answers.",
        "status": 503,
        "retry_after": 7,
        "partial": True,
    }


async def test_an_unforeseen_error_tells_the_client_nothing_of_itself():
    async with streams_of() as streams:
        stream = await streams.open(ANN, SCOPE, Source().say("a").end(ValueError("secret of the inside")).events())
        body = await read(streams, stream)
    assert events_of(body)[-1].data["code"] == "internal"
    assert b"secret" not in body


async def test_a_client_that_comes_back_within_the_grace_gets_the_rest_and_nothing_twice():
    async with streams_of(StreamTimes(kept_s=60, grace_s=30)) as streams:
        source = Source().say("a")
        stream = await streams.open(ANN, SCOPE, source.events())
        first = Client()
        reading = asyncio.create_task(streams.response(stream)({"type": "http"}, first.receive, first.send))
        await first.until(b'"a"')
        first.goes.set()
        await reading
        assert not first.finished
        source.say("b").end()
        last = events_of(first.body)[-1].id
        again = await read(streams, streams.find(ANN, SCOPE, stream.id), resume_after(stream, last))
    assert [event.data for event in events_of(again)] == [{"text": "b"}]


async def test_nobody_reading_for_the_time_of_grace_ends_the_work_and_says_so_to_who_comes_late():
    async with streams_of(StreamTimes(kept_s=60, grace_s=0.05)) as streams:
        source = Source().say("a")
        stream = await streams.open(ANN, SCOPE, source.events())
        client = Client()
        reading = asyncio.create_task(streams.response(stream)({"type": "http"}, client.receive, client.send))
        await client.until(b'"a"')
        client.goes.set()
        await reading
        assert not source.closed
        await eventually(lambda: source.closed)
        late = events_of(await read(streams, streams.find(ANN, SCOPE, stream.id)))
    assert late[-1].name == "error"
    assert late[-1].data["code"] == "abandoned"


async def test_a_stream_whose_first_reader_never_comes_is_given_up(monkeypatch):
    monkeypatch.setattr(streaming, "_LEAST_GRACE_S", 0.05)
    async with streams_of(StreamTimes(kept_s=60, grace_s=0)) as streams:
        source = Source().say("a")
        stream = await streams.open(ANN, SCOPE, source.events())
        assert not source.closed
        await eventually(lambda: source.closed)
    assert stream.ended


async def test_each_going_away_has_the_whole_grace_again(monkeypatch):
    """What an earlier going away began is over when a reader came back."""
    async with streams_of(StreamTimes(kept_s=60, grace_s=60)) as streams:
        stream = await streams.open(ANN, SCOPE, Source().say("a").events())
        timers = []
        for _ in range(3):
            streams.enter(stream)
            assert stream.giving_up is None
            streams.leave(stream)
            timers.append(stream.giving_up)
        assert [timer.cancelled() for timer in timers] == [True, True, False]


async def test_one_of_two_readers_going_away_changes_nothing():
    async with streams_of(StreamTimes(kept_s=60, grace_s=0)) as streams:
        source = Source().say("a")
        stream = await streams.open(ANN, SCOPE, source.events())
        stays = asyncio.create_task(read(streams, stream))
        await asyncio.sleep(0)
        streams.enter(stream)
        streams.leave(stream)
        await asyncio.sleep(0.02)
        source.say("b").end()
        assert [event.name for event in events_of(await stays)] == ["start", "token", "token"]


async def test_a_silent_stream_is_kept_open_by_comments(monkeypatch):
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.01)
    async with streams_of() as streams:
        source = Source().say("a")
        stream = await streams.open(ANN, SCOPE, source.events())
        client = Client()
        reading = asyncio.create_task(streams.response(stream)({"type": "http"}, client.receive, client.send))
        await client.until(b": \n\n: \n\n")
        source.say("b").end()
        await reading
    assert [event.name for event in events_of(client.body)] == ["start", "token", "token"]


@pytest.mark.parametrize(
    ("who", "scope"),
    [
        (Principal("acme", "key_bob", Role.ADMIN), SCOPE),
        (Principal("rival", "key_ann", Role.ADMIN), SCOPE),
        (Principal("acme", "user:ann", Role.USER, user_id="ann"), SCOPE),
        (ANN, "/v1/bots/other/chat"),
    ],
)
async def test_a_stream_is_found_by_its_owner_at_its_address_alone(who, scope):
    async with streams_of() as streams:
        stream = await streams.open(ANN, SCOPE, Source().say("a").events())
        assert streams.find(ANN, SCOPE, stream.id) is stream
        with pytest.raises(NotFound):
            streams.find(who, scope, stream.id)


async def test_a_finished_stream_is_forgotten_after_its_time():
    async with streams_of(StreamTimes(kept_s=0.02, grace_s=60)) as streams:
        stream = await streams.open(ANN, SCOPE, Source().say("a").end().events())
        await eventually(lambda: not streams._streams)
        with pytest.raises(NotFound):
            streams.find(ANN, SCOPE, stream.id)
        assert streams._kept_bytes == 0


async def test_too_many_streams_push_the_oldest_finished_one_out_and_never_a_running_one(monkeypatch):
    monkeypatch.setattr(streaming, "MAX_STREAMS", 3)
    async with streams_of() as streams:
        running = await streams.open(ANN, SCOPE, Source().say("a").events())
        done = [await streams.open(ANN, SCOPE, Source().say("a").end().events()) for _ in range(2)]
        await eventually(lambda: all(stream.settled for stream in done))
        newest = await streams.open(ANN, SCOPE, Source().say("a").events())
        assert list(streams._streams) == [running.id, done[1].id, newest.id]
        last = await streams.open(ANN, SCOPE, Source().say("a").events())
        assert list(streams._streams) == [running.id, newest.id, last.id]
        with pytest.raises(Unavailable, match="as many answers as it can"):
            await streams.open(ANN, SCOPE, Source().say("a").events())


async def test_finished_streams_take_no_more_memory_than_allowed(monkeypatch):
    monkeypatch.setattr(streaming, "MAX_KEPT_BYTES", 3_000)
    async with streams_of() as streams:
        opened = []
        for _ in range(3):
            opened.append(await streams.open(ANN, SCOPE, Source().say("x" * 1_000).end().events()))
            await eventually(lambda: opened[-1].ended)
            await asyncio.sleep(0)
        assert list(streams._streams) == [opened[1].id, opened[2].id]
        assert streams._kept_bytes == opened[1].size + opened[2].size <= 3_000


async def test_an_answer_without_end_is_cut_and_its_maker_stopped(monkeypatch):
    monkeypatch.setattr(streaming, "MAX_STREAM_BYTES", 2_000)
    async with streams_of() as streams:
        source = Source().say("a", *["x" * 300] * 20)
        stream = await streams.open(ANN, SCOPE, source.events())
        events = events_of(await read(streams, stream))
    assert source.closed
    assert events[-1].data["detail"].startswith("The answer is longer")


async def test_stopping_lets_a_running_stream_end_and_refuses_new_ones():
    async with streams_of() as streams:
        source = Source().say("a")
        stream = await streams.open(ANN, SCOPE, source.events())
        reading = asyncio.create_task(read(streams, stream))
        draining = asyncio.create_task(streams.drain(5))
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDown):
            await streams.open(ANN, SCOPE, Source().say("a").events())
        source.say("b").end()
        await draining
        assert [event.name for event in events_of(await reading)] == ["start", "token", "token"]


async def test_a_stream_that_does_not_end_in_time_is_told_that_the_server_stops():
    async with streams_of() as streams:
        source = Source().say("a")
        stream = await streams.open(ANN, SCOPE, source.events())
        reading = asyncio.create_task(read(streams, stream))
        await streams.drain(0.02)
        events = events_of(await reading)
    assert source.closed
    assert (events[-1].name, events[-1].data["code"]) == ("error", "shutting-down")
    assert sum(event.name == "error" for event in events) == 1


@pytest.mark.parametrize(
    "sent", ["other.1", "{id}.4", "{id}.-1", "{id}.1.1", "{id}.٣", "{id}.", "{id}", ".1", "{id}.00000000099"]
)
async def test_the_id_of_no_event_of_the_stream_is_refused(sent):
    async with streams_of() as streams:
        stream = await streams.open(ANN, SCOPE, Source().say("a", "b").end().events())
        await eventually(lambda: stream.ended)
        with pytest.raises(InvalidInput):
            resume_after(stream, sent.replace("{id}", stream.id))
        assert resume_after(stream, f"{stream.id}.3") == 3
        assert resume_after(stream, None) == 0


async def test_a_client_that_goes_away_before_the_first_event_ends_the_work_at_once():
    async with streams_of() as streams:
        source, client = Source(), Client()
        opening = asyncio.create_task(unless_gone(client.receive, streams.open(ANN, SCOPE, source.events())))
        await asyncio.sleep(0.01)
        client.goes.set()
        with pytest.raises(Abandoned):
            await opening
        await eventually(lambda: source.closed)
        assert not streams._streams


async def test_work_for_a_client_that_stays_gives_its_result_or_its_error():
    async def work(error: Exception | None) -> str:
        await asyncio.sleep(0)
        if error:
            raise error
        return "done"

    assert await unless_gone(Client().receive, work(None)) == "done"
    with pytest.raises(NotFound):
        await unless_gone(Client().receive, work(NotFound("Nothing.")))


@given(
    texts=st.lists(st.text(max_size=8), min_size=1, max_size=12),
    cuts=st.lists(st.integers(min_value=0, max_value=14), max_size=6),
    fails=st.booleans(),
)
def test_however_reading_is_cut_into_pieces_they_join_to_the_whole_stream_exactly_once(texts, cuts, fails):
    async def run() -> None:
        async with streams_of() as streams:
            source = Source()
            source.say(texts[0])
            stream = await streams.open(ANN, SCOPE, source.events())
            have: list[dict[str, Any]] = []
            rest = texts[1:]
            for cut in cuts:
                source.say(*rest[:cut])
                rest = rest[cut:]
                have += await piece(streams, stream, have, cut)
            source.say(*rest).end(NotFound("Gone.") if fails else None)
            have += events_of(await read(streams, stream, resume_after(stream, have[-1].id if have else None)))
            assert [event.id for event in have] == [f"{stream.id}.{n + 1}" for n in range(len(have))]
            assert [event.data["text"] for event in have if event.name == "token"] == texts
            assert [event.name for event in have[len(texts) + 1 :]] == ["error"] * fails

    asyncio.run(run())


async def piece(streams: Streams, stream: Stream, have: list[dict[str, Any]], turns: int) -> list[dict[str, Any]]:
    """What a client gets that goes away after so many turns of the loop."""
    client = Client()
    after = resume_after(stream, have[-1].id if have else None)
    reading = asyncio.create_task(streams.response(stream, after)({"type": "http"}, client.receive, client.send))
    for _ in range(turns):
        await asyncio.sleep(0)
    client.goes.set()
    await reading
    return events_of(client.body)


async def test_an_end_user_has_a_few_answers_under_way_and_no_more() -> None:
    user, other = (Principal("acme", f"user:{one}", Role.USER, user_id=one) for one in ("u-1", "u-2"))
    sources = [Source().say("a") for _ in range(streaming.MAX_USER_STREAMS)]
    async with streams_of() as streams:
        opened = [await streams.open(user, SCOPE, source.events()) for source in sources]
        with pytest.raises(RateLimited, match="under way"):
            await streams.open(user, SCOPE, Source().say("a").events())
        for who in (other, ANN):
            await streams.open(who, SCOPE, Source().say("a").end().events())
        sources[0].end()
        await read(streams, opened[0])
        await streams.open(user, SCOPE, Source().say("a").events())


async def test_an_erased_users_streams_end_and_are_kept_no_longer() -> None:
    user, other = (Principal("acme", f"user:{one}", Role.USER, user_id=one) for one in ("u-1", "u-2"))
    same_name = Principal("rival", "user:u-1", Role.USER, user_id="u-1")
    running, ended = Source().say("a"), Source().say("a").end()
    async with streams_of() as streams:
        mine = [await streams.open(user, SCOPE, source.events()) for source in (running, ended)]
        kept = [await streams.open(who, SCOPE, Source().say("a").end().events()) for who in (other, same_name)]
        for stream in (mine[1], *kept):
            await read(streams, stream)
        assert streams.forget("acme", "u-1") == 2
        assert [event.data.get("code") for event in events_of(await read(streams, mine[0]))][-1] == "abandoned"
        assert streams.forget("acme", "u-1") == 0
        for stream in mine:
            with pytest.raises(NotFound):
                streams.find(user, SCOPE, stream.id)
        for who, stream in zip((other, same_name), kept, strict=True):
            assert streams.find(who, SCOPE, stream.id) is stream
    assert running.closed


async def test_closing_ends_what_runs_and_keeps_neither_stream_nor_timer():
    streams = Streams(LONG)
    source = Source().say("a")
    running = await streams.open(ANN, SCOPE, source.events())
    finished = await streams.open(ANN, SCOPE, Source().say("b").end().events())
    await read(streams, finished)
    await streams.close()
    assert source.closed
    assert running.ended
    assert not streams._streams
    assert not streams._timers
