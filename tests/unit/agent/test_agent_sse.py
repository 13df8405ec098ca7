"""The bytes of a streamed answer, cut wherever a network cuts them."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent.model import ModelReply, ModelRequest, ModelStreamBroken, TextDelta, ToolCall, Usage
from app.agent.openai_compatible import OpenAiCompatible
from app.agent.sse import MAX_EVENT_BYTES, EventParser, EventTooLong
from app.agent.wire import decode
from app.agent.wire_stream import ProviderError, StreamedReply
from loadtest.stub.answers import completion, events
from loadtest.stub.server import USAGE
from tests.support.agents import ask

ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
NAMES = st.sampled_from(["find", "look_up"])
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def parse(chunks: Sequence[bytes]) -> list[bytes]:
    parser = EventParser()
    found = [data for chunk in chunks for data in parser.feed(chunk)]
    return found + parser.close()


def cut(raw: bytes, places: Sequence[int]) -> list[bytes]:
    """The bytes in pieces, cut at the places, none of them empty."""
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in pairwise(edges)]


@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",))), max_size=6),
    end=ENDS,
    places=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_however_a_stream_is_cut_its_events_are_the_same(lines: list[str], end: bytes, places: list[int]) -> None:
    raw = b"".join(b": waiting" + end + b"event: e" + end + b"data: " + text.encode() + end * 2 for text in lines)
    expected = [text.encode() for text in lines]
    assert parse(cut(raw, places)) == expected
    assert parse([raw[n : n + 1] for n in range(len(raw))]) == expected


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b"data:a\n\ndata:  b\n\n", [b"a", b" b"]),
        (b": ping\n\n\n\nid: 1\nretry: 3\n\n", []),
        (b"data\n\ndatax: 1\n\n", [b""]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [b"a", b"b", b"c"]),
        (b"data: [DONE]", [b"[DONE]"]),
        (b"data: [DONE]\n", [b"[DONE]"]),
    ],
)
def test_events_are_read_as_the_standard_says(raw: bytes, events: list[bytes]) -> None:
    assert parse([raw]) == events
    assert parse([raw[n : n + 1] for n in range(len(raw))]) == events


@pytest.mark.parametrize("piece", [b"x" * 70_000, b"data: " + b"x" * 70_000 + b"\n"])
def test_an_event_without_an_end_is_cut_off(piece: bytes) -> None:
    parser = EventParser()
    with pytest.raises(EventTooLong):
        for _ in range(MAX_EVENT_BYTES // 70_000 + 1):
            parser.feed(piece)


class Content:
    """A response's body that comes in the given chunks."""

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = [*chunks, b""]

    async def readany(self) -> bytes:
        return self._chunks.pop(0)


class Response:
    status = 200
    content_type = "text/event-stream"

    def __init__(self, chunks: Sequence[bytes]) -> None:
        self.content = Content(chunks)

    def close(self) -> None: ...


class Session:
    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks

    async def post(self, _url: str, **_settings: Any) -> Response:
        return Response(self._chunks)


async def streamed(chunks: Sequence[bytes], request: ModelRequest) -> tuple[list[str], ModelReply]:
    client = OpenAiCompatible(Session(chunks), "http://127.0.0.1:1/v1", "m")  # type: ignore[arg-type]
    *deltas, reply = [item async for item in client.stream(request, timeout_s=5)]
    assert isinstance(reply, ModelReply)
    return [delta.text for delta in deltas if isinstance(delta, TextDelta)], reply


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": draw(TEXTS)}
    if draw(st.booleans()):
        arguments = draw(st.lists(st.dictionaries(TEXTS, TEXTS, max_size=2), min_size=1, max_size=3))
        message["tool_calls"] = [
            {"id": f"c{n}", "function": {"name": draw(NAMES), "arguments": orjson.dumps(each).decode()}}
            for n, each in enumerate(arguments)
        ]
    return message


@given(
    message=messages(),
    usage=st.sampled_from([None, USAGE]),
    places=st.lists(st.integers(0, 100_000), max_size=30),
    end=ENDS,
    pings=st.booleans(),
)
def test_a_streamed_answer_is_the_whole_one_however_its_bytes_are_cut(
    message: dict[str, Any], usage: Mapping[str, Any] | None, places: list[int], end: bytes, pings: bool
) -> None:
    body = {"model": "m", "stream_options": {"include_usage": True}}
    datas = [*events(body, message, usage, 1), b"[DONE]"]
    ping = b": ping" + end * 2 if pings else b""
    raw = b"".join(b"data: " + data + end * 2 + ping for data in datas)
    request = ask()
    whole = decode(completion(body, message, usage, 1), request, "m", "openai", 0.0)
    deltas, reply = asyncio.run(streamed(cut(raw, places), request))
    at_once, _ = asyncio.run(streamed([raw], request))
    assert deltas == at_once
    assert "".join(deltas) == reply.text
    assert (reply.text, reply.tool_calls, reply.usage) == (whole.text, whole.tool_calls, whole.usage)
    assert (reply.model, reply.finish_reason) == (whole.model, whole.finish_reason)


@pytest.mark.parametrize("lost", range(1, 80, 13))
def test_an_answer_that_is_whole_does_not_need_what_came_after_it(lost: int) -> None:
    body = {"model": "m", "stream_options": {"include_usage": True}}
    message = {"role": "assistant", "content": "Hello there."}
    raw = b"\n\n".join(b"data: " + data for data in events(body, message, USAGE, 1))
    deltas, reply = asyncio.run(streamed([raw], ask()))
    assert (deltas, reply.usage) == (["Hello", " there."], Usage(30, 12, 10))
    deltas, reply = asyncio.run(streamed([raw[:-lost]], ask()))
    assert (deltas, reply.text, reply.usage) == (["Hello", " there."], "Hello there.", Usage(3, 3))


def test_a_stream_that_ends_in_the_middle_of_an_event_is_cut_off() -> None:
    raw = b"data: " + chunk(content="Hello") + b"\n\ndata: " + chunk(content=" there")[:-3]
    with pytest.raises(ModelStreamBroken, match="ended its answer in the middle"):
        asyncio.run(streamed([raw], ask()))


def chunk(*parts: Mapping[str, Any], finish_reason: str | None = None, **delta: Any) -> bytes:
    calls = {"tool_calls": list(parts)} if parts else {}
    return orjson.dumps({"model": "m-1", "choices": [{"delta": calls | delta, "finish_reason": finish_reason}]})


def part(arguments: Any = "", name: str | None = None, **ids: Any) -> dict[str, Any]:
    return ids | {"function": ({"name": name} if name else {}) | {"arguments": arguments}}


@pytest.mark.parametrize(
    "parts",
    [
        [part('{"q":1}', "find", id="a"), part('{"q":2}', "find", id="b")],
        [part('{"q":1}', "find", id="a", index=0), part('{"q":2}', "find", id="b", index=0)],
        [part({"q": 1}, "find", id="a", index=0), part({"q": 2}, "find", id="b", index=1)],
        [
            part("", "find", id="a", index=0),
            part('{"q"', id="other", index=0),
            part(":1}", index=0),
            part("", "find", id="b", index=1),
            part('{"q":2}', name="find", index=1),
        ],
    ],
)
def test_tool_calls_are_put_together_from_what_servers_send(parts: list[dict[str, Any]]) -> None:
    answer = StreamedReply()
    for each in parts:
        answer.add(chunk(each))
    answer.add(chunk(finish_reason="tool_calls"))
    calls = answer.reply(ask(), "m", 0.0).tool_calls
    assert calls == (ToolCall("a", "find", '{"q":1}'), ToolCall("b", "find", '{"q":2}'))


def test_chunks_of_nothing_add_nothing_and_a_refusal_is_text() -> None:
    answer = StreamedReply()
    empty = [b'{"choices": []}', b'{"choices": null}', b'{"choices": [{"index": 1, "delta": {"content": "no"}}]}']
    assert [answer.add(data) for data in [*empty, chunk(content=None), chunk(refusal="I cannot.")]][-1] == "I cannot."
    assert not answer.whole
    answer.add(chunk(finish_reason="stop"))
    reply = answer.reply(ask("x" * 33), "m", 0.0)
    assert (reply.text, reply.usage, reply.model) == ("I cannot.", Usage(10, 3), "m-1")


@pytest.mark.parametrize("data", [b"{", b"[]", b"1", b'{"choices": [{"delta": {"content": 5}}]}', b'{"choices": [5]}'])
def test_what_is_no_chunk_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=re.compile(".")) as failed:
        StreamedReply().add(data)
    assert not isinstance(failed.value, ProviderError)


def test_a_call_without_a_name_is_an_error() -> None:
    answer = StreamedReply()
    answer.add(chunk(part("{}", index=0)))
    with pytest.raises(ValueError, match="not a chat completion"):
        answer.reply(ask(), "m", 0.0)
