"""The client of OpenAI-compatible endpoints against one that enforces the wire and fails in the known ways."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from app.agent.model import Message, ModelError, ModelRequest, ModelTimeout, ToolCall, ToolSpec, Usage
from app.agent.openai_compatible import MAX_BODY_BYTES, OpenAiCompatible
from app.errors import ConfigError
from loadtest.stub.checks import refused_member
from loadtest.stub.server import KEY, RESET, Fault, ModelStub, error, text, tool_calls
from tests.support.agents import FIND, Verdict, ask

SCHEMA = Verdict.model_json_schema()
SPEC = ToolSpec("find", "Search the pages.", FIND.args.model_json_schema())


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def stub() -> AsyncIterator[ModelStub]:
    async with ModelStub() as made:
        yield made


def client_of(session: aiohttp.ClientSession, stub: ModelStub, **settings: Any) -> OpenAiCompatible:
    return OpenAiCompatible(session, stub.url, "m", **({"provider": "stub", "api_key": KEY} | settings))


@pytest.fixture
def client(session: aiohttp.ClientSession, stub: ModelStub) -> OpenAiCompatible:
    return client_of(session, stub)


async def failure(client: OpenAiCompatible, request: ModelRequest | None = None, timeout_s: float = 5) -> ModelError:
    with pytest.raises(ModelError) as failed:
        await client.complete(request or ask(), timeout_s=timeout_s)
    assert KEY not in str(failed.value)
    return failed.value


async def test_a_completion_comes_with_text_model_usage_and_time(client: OpenAiCompatible, stub: ModelStub) -> None:
    reply = await client.complete(replace(ask("hi"), temperature=0.3), timeout_s=5)
    assert (reply.text, reply.model, reply.finish_reason) == ("Hello.", "m-2026-01-01", "stop")
    assert reply.usage == Usage(30, 12, 10)
    assert reply.duration_s > 0
    assert stub.asked[0] == {
        "model": "m",
        "messages": [{"role": "system", "content": "Answer."}, {"role": "user", "content": "hi"}],
        "max_tokens": 100,
        "temperature": 0.3,
    }


async def test_tools_go_out_and_calls_come_back(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.answer = tool_calls(("find", '{"query": "a"}'), ("find", {"query": "b"}))
    reply = await client.complete(ask(tools=(SPEC,)), timeout_s=5)
    assert reply.tool_calls == (
        ToolCall("call_0", "find", '{"query": "a"}'),
        ToolCall("call_1", "find", '{"query":"b"}'),
    )
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")
    function = {"name": "find", "description": "Search the pages.", "parameters": SPEC.schema}
    assert stub.asked[0]["tools"] == [{"type": "function", "function": function}]


async def test_a_conversation_with_tool_results_is_accepted(client: OpenAiCompatible, stub: ModelStub) -> None:
    call = ToolCall("call_0", "find", "{}")
    request = ask()
    messages = (*request.messages, Message("assistant", "", (call,)), Message("tool", "[]", tool_call_id="call_0"))
    assert (await client.complete(replace(request, messages=messages), timeout_s=5)).text == "Hello."
    assert (await failure(client, replace(request, messages=messages[:-1]))).upstream_status == 400


async def test_an_answers_schema_is_sent_strict(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.answer = text('{"action": "respond", "confidence": 1}')
    await client.complete(ask(answer_schema=SCHEMA), timeout_s=5)
    wanted = stub.asked[0]["response_format"]["json_schema"]
    assert wanted["strict"] is True
    assert wanted["schema"]["required"] == ["action", "confidence"]


@pytest.mark.parametrize(
    ("refuses", "calls", "format_taken"),
    [({"json_schema"}, 2, {"type": "json_object"}), ({"json_schema", "json_object"}, 3, None)],
)
async def test_a_refused_format_falls_back_and_is_remembered(
    client: OpenAiCompatible, stub: ModelStub, refuses: set[str], calls: int, format_taken: Any
) -> None:
    stub.refuses = frozenset(refuses)
    for _ in range(2):
        await client.complete(ask(answer_schema=SCHEMA), timeout_s=5)
    assert stub.calls == calls + 1
    assert stub.asked[-1].get("response_format") == format_taken
    roles = [message["role"] for message in stub.asked[-1]["messages"]]
    assert roles == ["system", "system", "user"]
    assert '"confidence"' in stub.asked[-1]["messages"][1]["content"]


async def test_a_models_own_names_for_limits_are_learned(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.refuses = frozenset({"max_tokens", "temperature", "json_schema"})
    await asyncio.gather(*(client.complete(ask(answer_schema=SCHEMA), timeout_s=5) for _ in range(4)))
    before = stub.calls
    await client.complete(ask(answer_schema=SCHEMA), timeout_s=5)
    assert stub.calls == before + 1
    assert stub.asked[-1]["max_completion_tokens"] == 100
    assert not {"max_tokens", "temperature"} & stub.asked[-1].keys()


async def test_what_the_calls_of_a_conversation_share_stays_the_same_for_the_providers_prompt_cache(
    client: OpenAiCompatible, stub: ModelStub
) -> None:
    other = replace(SPEC, name="another")
    first = ask("one", tools=(SPEC, other))
    await client.complete(first, timeout_s=5)
    said = (Message("assistant", "yes"), Message("user", "two"))
    await client.complete(replace(first, messages=(*first.messages, *said)), timeout_s=5)
    before, after = stub.asked
    assert orjson.dumps(after["tools"]) == orjson.dumps(before["tools"])
    assert after["messages"][: len(before["messages"])] == before["messages"]
    assert "cache_control" not in str(after)


async def test_a_gateway_that_wants_the_prefix_marked_gets_it_marked_once(
    session: aiohttp.ClientSession, stub: ModelStub
) -> None:
    client = client_of(session, stub, marks_prefix=True)
    await client.complete(ask(answer_schema=SCHEMA, tools=(SPEC,)), timeout_s=5)
    prompt, schema, user = stub.asked[0]["messages"]
    assert prompt == {"role": "system", "content": "Answer."}
    assert schema["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert schema["content"][0]["text"].startswith("Answer with one JSON object")
    assert user == {"role": "user", "content": "hello"}
    stub.refuses = frozenset({"cache_control"})
    for _ in range(2):
        await client.complete(ask(), timeout_s=5)
    assert stub.calls == 4
    assert stub.asked[-1]["messages"][0]["content"] == "Answer."


async def test_a_schema_with_tools_is_stated_in_words_unless_the_endpoint_can_do_both(
    session: aiohttp.ClientSession, stub: ModelStub
) -> None:
    request = ask(answer_schema=SCHEMA, tools=(SPEC,))
    await client_of(session, stub).complete(request, timeout_s=5)
    await client_of(session, stub, schema_with_tools=True).complete(request, timeout_s=5)
    in_words, enforced = stub.asked
    assert "response_format" not in in_words
    assert "JSON Schema" in in_words["messages"][1]["content"]
    assert enforced["response_format"]["type"] == "json_schema"
    assert len(enforced["messages"]) == 2


async def test_another_refusal_of_a_request_is_not_taken_for_one_of_its_format(
    client: OpenAiCompatible, stub: ModelStub
) -> None:
    stub.faults = [error(400, "too long", code="context_length_exceeded", param="messages")]
    refused = await failure(client, ask(answer_schema=SCHEMA))
    assert refused.detail == "The provider 'stub' answered 400 (context_length_exceeded)."
    assert (refused.retryable, stub.calls) == (False, 1)


@pytest.mark.parametrize(
    ("fault", "retryable", "retry_after", "status"),
    [
        (error(429, "slow down", code="rate_limit_exceeded", Retry_After="7"), True, 7.0, 429),
        (error(429, "slow down", Retry_After="0.5"), True, 0.5, 429),
        (error(429, "slow down"), True, None, 429),
        (error(429, "pay first", code="insufficient_quota"), False, None, 429),
        (Fault(500, b"<html>oops</html>"), True, None, 500),
        (Fault(503, b"", {"Retry-After": "120"}), True, 120.0, 503),
        (Fault(302, b"", {"Location": "http://127.0.0.1:9/"}), False, None, 302),
        (error(404, "no such model", code="model_not_found"), False, None, 404),
    ],
)
async def test_a_refusal_says_whether_and_when_to_try_again(
    client: OpenAiCompatible, stub: ModelStub, fault: Fault, retryable: bool, retry_after: float | None, status: int
) -> None:
    stub.faults = [fault]
    failed = await failure(client)
    assert (failed.retryable, failed.retry_after, failed.upstream_status) == (retryable, retry_after, status)
    assert stub.calls == 1


async def test_a_wrong_key_is_an_error_that_does_not_show_it(session: aiohttp.ClientSession, stub: ModelStub) -> None:
    failed = await failure(client_of(session, stub, api_key="sk-wrong"))
    assert (failed.retryable, failed.upstream_status) == (False, 401)
    assert failed.detail == "The provider 'stub' answered 401 (invalid_api_key)."


async def test_without_a_key_no_authorization_is_sent(session: aiohttp.ClientSession, stub: ModelStub) -> None:
    await failure(client_of(session, stub, api_key=None))
    assert "authorization" not in stub.headers[0]


async def test_a_reset_connection_may_pass(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.faults = [RESET]
    failed = await failure(client)
    assert (failed.retryable, failed.upstream_status) == (True, None)
    assert "could not be reached" in failed.detail
    assert (await client.complete(ask(), timeout_s=5)).text == "Hello."


async def test_nobody_listening_may_pass(session: aiohttp.ClientSession, stub: ModelStub) -> None:
    client = client_of(session, stub)
    await stub.__aexit__()
    assert (await failure(client)).retryable


async def test_a_slow_endpoint_is_left_in_time(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.faults = [Fault(delay_s=3)]
    failed = await failure(client, timeout_s=0.1)
    assert isinstance(failed, ModelTimeout)
    assert failed.retryable


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b'{"choices": [{"message": {"content": "", "tool_calls": [{"id": "1"}]}}]}',
        b"\xff\xfe",
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}',
    ],
)
async def test_a_malformed_body_may_pass(client: OpenAiCompatible, stub: ModelStub, body: bytes) -> None:
    stub.faults = [Fault(body=body)]
    failed = await failure(client)
    assert failed.retryable
    assert "not a chat completion" in failed.detail


async def test_an_endless_body_is_cut_off(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.faults = [Fault(body=b" " * (MAX_BODY_BYTES + 1))]
    assert "more than" in (await failure(client)).detail


async def test_a_refusal_by_the_model_is_its_text(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.answer = lambda _body: {"role": "assistant", "content": None, "refusal": "I cannot."}
    assert (await client.complete(ask(), timeout_s=5)).text == "I cannot."


async def test_where_the_endpoint_counts_no_tokens_they_are_estimated(
    client: OpenAiCompatible, stub: ModelStub
) -> None:
    stub.usage = None
    reply = await client.complete(ask("x" * 33), timeout_s=5)
    assert reply.usage == Usage(10, 2)


async def test_cancelling_a_call_ends_it(client: OpenAiCompatible, stub: ModelStub) -> None:
    stub.faults = [Fault(delay_s=3)]
    call = asyncio.create_task(client.complete(ask(), timeout_s=10))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("url", ["api.openai.com/v1", "ftp://host/v1", "http://"])
def test_an_address_that_is_none_is_an_error_at_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="no http"):
        OpenAiCompatible(None, url, "m")  # type: ignore[arg-type]


def test_the_stub_enforces_strict_schemas() -> None:
    loose = {"name": "a", "strict": True, "schema": {"type": "object", "properties": {"a": {}}}}
    body = {"response_format": {"type": "json_schema", "json_schema": loose}}
    refused = refused_member(body, frozenset())
    assert refused is not None
    assert orjson.loads(refused.body)["error"]["param"] == "response_format"
