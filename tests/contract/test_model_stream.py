"""Streamed answers of OpenAI-compatible endpoints, against one that dies in the known ways."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.agent.model import (
    ModelClient,
    ModelError,
    ModelReply,
    ModelRequest,
    ModelStreamBroken,
    ModelTimeout,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)
from app.agent.offline import OfflineModel
from app.agent.openai_compatible import MAX_BODY_BYTES, OpenAiCompatible
from loadtest.stub.server import KEY, RESET, Cut, Fault, Latency, ModelStub, error, text, tool_calls
from tests.support.agents import FIND, ScriptedModel, ask

SPEC = ToolSpec("find", "Search the pages.", FIND.args.model_json_schema())
ANSWER = "Single sign-on is part of the business plan, from ten people on."


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def stub() -> AsyncIterator[ModelStub]:
    async with ModelStub(text(ANSWER)) as made:
        yield made


def client_of(session: aiohttp.ClientSession, stub: ModelStub, **settings: Any) -> OpenAiCompatible:
    return OpenAiCompatible(session, stub.url, "m", **({"provider": "stub", "api_key": KEY} | settings))


@pytest.fixture
def client(session: aiohttp.ClientSession, stub: ModelStub) -> OpenAiCompatible:
    return client_of(session, stub)


async def listen(
    client: ModelClient, request: ModelRequest | None = None, timeout_s: float = 5
) -> tuple[list[str], ModelReply]:
    *deltas, last = [item async for item in client.stream(request or ask(), timeout_s=timeout_s)]
    assert isinstance(last, ModelReply)
    assert all(isinstance(delta, TextDelta) and delta.text for delta in deltas)
    return [delta.text for delta in deltas if isinstance(delta, TextDelta)], last


async def failure(
    client: OpenAiCompatible, request: ModelRequest | None = None, timeout_s: float = 5
) -> tuple[list[str], ModelError]:
    """What was said before the error, and the error."""
    said: list[str] = []
    with pytest.raises(ModelError) as failed:
        async for item in client.stream(request or ask(), timeout_s=timeout_s):
            assert isinstance(item, TextDelta)
            said.append(item.text)
    assert KEY not in str(failed.value)
    return said, failed.value


@asynccontextmanager
async def serving(body: bytes) -> AsyncIterator[str]:
    """An endpoint that answers anything with these bytes as an event stream."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="text/event-stream")

    application = web.Application()
    application.router.add_post("/v1/chat/completions", answer)
    server = TestServer(application)
    await server.start_server()
    try:
        yield f"http://127.0.0.1:{server.port}/v1"
    finally:
        await server.close()


async def until(stub: ModelStub, left: int) -> None:
    async with asyncio.timeout(1):
        while stub.left < left:
            await asyncio.sleep(0.01)


async def test_the_pieces_are_the_text_and_the_reply_is_that_of_a_whole_call(
    client: OpenAiCompatible, stub: ModelStub
) -> None:
    deltas, reply = await listen(client)
    whole = await client.complete(ask(), timeout_s=5)
    assert len(deltas) == 12
    assert "".join(deltas) == reply.text == ANSWER
    assert (reply.usage, reply.model, reply.finish_reason) == (whole.usage, whole.model, whole.finish_reason)
    assert reply.usage == Usage(30, 12, 10)
    assert reply.duration_s > 0
    streamed, asked = stub.asked
    assert streamed == asked | {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("model", ["offline", "scripted"])
async def test_every_client_streams_what_it_answers(model: str) -> None:
    client: ModelClient = OfflineModel({"": lambda _request: ANSWER}) if model == "offline" else ScriptedModel(ANSWER)
    deltas, reply = await listen(client)
    assert len(deltas) == 12
    assert "".join(deltas) == reply.text == ANSWER


async def test_tool_calls_come_with_the_reply(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.answer = tool_calls(("find", '{"query": "single sign-on"}'), ("find", {"query": "b"}))
    deltas, reply = await listen(client, ask(tools=(SPEC,)))
    assert (deltas, reply.text, reply.finish_reason) == ([], "", "tool_calls")
    assert reply.tool_calls == (
        ToolCall("call_0", "find", '{"query": "single sign-on"}'),
        ToolCall("call_1", "find", '{"query":"b"}'),
    )


async def test_pieces_come_as_they_are_written(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.cuts = [Cut("stall", after=4)]
    async with aclosing(client.stream(ask(), timeout_s=5)) as items:
        assert [await anext(items) for _ in range(3)] == [TextDelta("Single"), TextDelta(" sign-on"), TextDelta(" is")]
    await until(stub, left=1)


async def test_connections_are_used_again_after_a_stream(client: OpenAiCompatible, stub: ModelStub) -> None:
    for _ in range(3):
        await listen(client)
    assert (stub.calls, stub.connections, stub.left) == (3, 1, 0)


async def test_a_consumer_that_leaves_or_is_cancelled_ends_the_call_at_the_provider(
    client: OpenAiCompatible, stub: ModelStub
) -> None:
    stub.cuts = [Cut("stall"), Cut("stall", after=0)]
    async with aclosing(client.stream(ask(), timeout_s=30)) as items:
        await anext(items)
    await until(stub, left=1)
    listening = asyncio.create_task(listen(client, timeout_s=30))
    async with asyncio.timeout(1):
        while stub.answered < 2:
            await asyncio.sleep(0.01)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await until(stub, left=2)


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        (Cut("reset", after=5), "was lost"),
        (Cut("eof", after=5), "ended its answer in the middle"),
        (Cut("error", after=5), "answered 500 (server_error)"),
        (Cut("stall", after=5), "was silent for 0.2 s"),
    ],
)
async def test_an_answer_that_breaks_off_says_so_and_what_it_used(
    session: aiohttp.ClientSession, stub: ModelStub, cut: Cut, told: str
) -> None:
    client = client_of(session, stub, stall_s=0.2)
    stub.cuts = [cut]
    said, failed = await failure(client)
    assert said == ["Single", " sign-on", " is", " part"]
    assert isinstance(failed, ModelStreamBroken)
    assert told in failed.detail
    assert failed.retryable
    assert failed.usage == Usage(3, 6)
    assert (await listen(client))[1].text == ANSWER


@pytest.mark.parametrize("how", ["reset", "eof", "error", "stall"])
async def test_an_answer_that_dies_before_its_first_word_is_an_error_as_of_a_whole_call(
    session: aiohttp.ClientSession, stub: ModelStub, how: Any
) -> None:
    stub.cuts = [Cut(how, after=1)]
    _said, failed = await failure(client_of(session, stub, stall_s=0.2))
    assert (type(failed), failed.retryable, failed.usage) == (ModelError, True, Usage(0, 0))


async def test_a_tool_call_that_breaks_off_may_be_asked_for_again_but_is_paid_for(
    client: OpenAiCompatible, stub: ModelStub
) -> None:
    stub.answer = tool_calls(("find", '{"query": "single sign-on"}'))
    stub.cuts = [Cut("eof", after=5)]
    said, failed = await failure(client)
    assert (said, type(failed), failed.retryable) == ([], ModelError, True)
    assert failed.usage == Usage(3, 7)


@pytest.mark.parametrize(
    ("body", "retryable", "status"),
    [
        ({"code": "insufficient_quota"}, False, 500),
        ({"code": 429, "message": "slow down"}, True, 429),
        ({"code": 400, "message": "no"}, False, 400),
        ("went wrong", True, 500),
    ],
)
async def test_an_error_in_the_middle_says_whether_to_try_again(
    client: OpenAiCompatible, stub: ModelStub, body: Any, retryable: bool, status: int
) -> None:
    stub.cuts = [Cut("error", after=0, error=body)]
    _said, failed = await failure(client)
    assert (failed.retryable, failed.upstream_status) == (retryable, status)


async def test_an_end_that_is_missing_after_the_last_word_is_no_error(
    client: OpenAiCompatible, stub: ModelStub
) -> None:
    stub.usage = None
    stub.cuts = [Cut("eof", after=14), Cut("reset", after=14), Cut("stall", after=14)]
    for _ in range(3):
        assert (await listen(client))[1].text == ANSWER


async def test_time_runs_out_in_the_middle(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.latency = Latency(piece_s=0.06)
    said, failed = await failure(client, timeout_s=0.3)
    assert 0 < len(said) < 12
    assert isinstance(failed, ModelStreamBroken)
    assert "did not answer within 0.3 s" in failed.detail


async def test_a_head_that_does_not_come_is_a_timeout(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.faults = [Fault(delay_s=3)]
    assert isinstance((await failure(client, timeout_s=0.1))[1], ModelTimeout)


@pytest.mark.parametrize(
    ("fault", "retryable", "retry_after", "status"),
    [
        (error(429, "slow down", code="rate_limit_exceeded", Retry_After="7"), True, 7.0, 429),
        (Fault(500, b"<html>oops</html>"), True, None, 500),
        (Fault(302, b"", {"Location": "http://127.0.0.1:9/"}), False, None, 302),
        (RESET, True, None, None),
    ],
)
async def test_a_refused_stream_is_refused_as_a_whole_call_is(
    client: OpenAiCompatible, stub: ModelStub, fault: Fault, retryable: bool, retry_after: float | None, status: Any
) -> None:
    stub.faults = [fault]
    said, failed = await failure(client)
    assert (said, type(failed)) == ([], ModelError)
    assert (failed.retryable, failed.retry_after, failed.upstream_status) == (retryable, retry_after, status)
    assert stub.calls == 1


async def test_an_endpoint_that_answers_whole_is_heard_in_one_piece(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.streams = False
    deltas, reply = await listen(client)
    assert (deltas, reply.text, reply.usage) == ([ANSWER], ANSWER, Usage(30, 12, 10))
    stub.answer = tool_calls(("find", "{}"))
    deltas, reply = await listen(client)
    assert (deltas, [call.name for call in reply.tool_calls]) == ([], ["find"])


@pytest.mark.parametrize(("refuses", "pieces"), [({"stream_options"}, 12), ({"stream"}, 1)])
async def test_what_an_endpoint_does_not_take_of_a_stream_is_learned(
    client: OpenAiCompatible, stub: ModelStub, refuses: set[str], pieces: int
) -> None:
    stub.refuses = frozenset(refuses)
    for _ in range(2):
        deltas, reply = await listen(client)
        assert (len(deltas), reply.text) == (pieces, ANSWER)
    assert stub.calls == 3
    assert not refuses & stub.asked[-1].keys()
    await client.complete(ask(), timeout_s=5)
    assert stub.calls == 4


async def test_an_uncounted_stream_is_estimated(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.usage = None
    assert (await listen(client, ask("x" * 33)))[1].usage == Usage(10, 16)


@pytest.mark.parametrize(
    "content", ["data: {\n\n", "data: []\n\n", 'data: {"choices": [{"delta": {"content": 5}}]}\n\n']
)
async def test_a_malformed_stream_is_an_error(session: aiohttp.ClientSession, content: str) -> None:
    async with serving(content.encode()) as url:
        _said, failed = await failure(OpenAiCompatible(session, url, "m"))
    assert failed.retryable
    assert "malformed" in failed.detail


async def test_an_endless_stream_or_event_is_cut_off(session: aiohttp.ClientSession) -> None:
    comments = (b": " + b"x" * 1022 + b"\n") * (MAX_BODY_BYTES // 1024 + 2)
    async with serving(comments) as url:
        assert "more than" in (await failure(OpenAiCompatible(session, url, "m")))[1].detail
    async with serving(b"data: " + b"x" * (2 << 20)) as url:
        assert "too long" in (await failure(OpenAiCompatible(session, url, "m")))[1].detail


async def test_the_stub_runs_as_a_process_of_its_own(session: aiohttp.ClientSession) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtest.stub.server", "0", "--tool", "--words", "3", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
        client = OpenAiCompatible(session, url, "m", api_key=KEY)
        _, called = await listen(client, ask(tools=(SPEC,)))
        assert [(call.name, orjson.loads(call.arguments)) for call in called.tool_calls] == [
            ("find", {"query": "stub"})
        ]
        assert (await listen(client))[0] == ["word", " word", " word"]
        async with session.get(f"{url.removesuffix('/v1')}/count") as counted:
            count = await counted.json()
        assert count.pop("cpu_s") > 0
        assert count == {"calls": 2, "answered": 2, "connections": 1, "left": 0}
    finally:
        process.terminate()
        await process.wait()
