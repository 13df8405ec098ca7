"""The model that the app asks under load: what it answers, counts and refuses."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import orjson
import pytest

from loadtest.stub.checks import KEY
from loadtest.stub.pace import FAST, ModelPace
from loadtest.stub.paced import DECIDE, PacedStub, command

AT_ONCE = replace(FAST, first_s=0.0, first_sigma=0.0, tokens_s=1e6)
CHAT = {"model": "m", "messages": [{"role": "system", "content": "Answer."}, {"role": "user", "content": "How many?"}]}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"properties": {}, "required": []}}}


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
        yield session


async def ask(web: aiohttp.ClientSession, stub: PacedStub, **more: Any) -> Any:
    async with web.post(f"{stub.url}/chat/completions", json={**CHAT, **more}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def streamed(web: aiohttp.ClientSession, stub: PacedStub) -> tuple[list[str], Mapping[str, int]]:
    """Its pieces and usage."""
    more = {"stream": True, "stream_options": {"include_usage": True}}
    async with web.post(f"{stub.url}/chat/completions", json={**CHAT, **more}) as answer:
        lines = [line.removeprefix("data: ") for line in (await answer.text()).split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    events = [orjson.loads(line) for line in lines]
    usage = events.pop()["usage"]
    return [text for each in events if (text := each["choices"][0]["delta"].get("content"))], usage


async def test_usage_is_counted_from_the_texts(web: aiohttp.ClientSession) -> None:
    async with PacedStub(AT_ONCE) as stub:
        found = await ask(web, stub)
        pieces, usage = await streamed(web, stub)
    text = found["choices"][0]["message"]["content"]
    assert found["usage"]["completion_tokens"] == len(text.split())
    assert text.endswith(" [1]")
    assert usage["completion_tokens"] == len(pieces) == len("".join(pieces).split())
    # "Answer." and "How many?": sixteen characters.
    assert found["usage"]["prompt_tokens"] == usage["prompt_tokens"] == 4
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_the_same_seed_writes_the_same_lengths(web: aiohttp.ClientSession) -> None:
    lengths = []
    for seed in (5, 5, 6):
        async with PacedStub(replace(AT_ONCE, answer_sigma=0.8), seed=seed) as stub:
            lengths.append([(await ask(web, stub))["usage"]["completion_tokens"] for _ in range(8)])
    assert lengths[0] == lengths[1] != lengths[2]
    assert len(set(lengths[0])) > 1


async def test_it_decides_where_a_decision_is_asked_for(web: aiohttp.ClientSession) -> None:
    async with PacedStub(AT_ONCE) as stub:
        messages = [{"role": "system", "content": f"{DECIDE} Answer with JSON."}, {"role": "user", "content": "A lead"}]
        found = await ask(web, stub, messages=messages)
        decision = orjson.loads(found["choices"][0]["message"]["content"])
        assert decision["action"] == "nurture"
        assert stub.count()["kinds"] == {"decision": 1}


async def test_it_calls_a_tool_in_its_share_and_answers_when_it_has_the_result(web: aiohttp.ClientSession) -> None:
    async with PacedStub(replace(AT_ONCE, tool_share=1.0)) as stub:
        called = (await ask(web, stub, tools=[TOOL]))["choices"][0]["message"]
        assert called["tool_calls"][0]["function"]["name"] == "find"
        result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "3"}
        answered = await ask(web, stub, tools=[TOOL], messages=[*CHAT["messages"], called, result])
        assert answered["choices"][0]["message"]["content"]
        assert stub.count()["kinds"] == {"tool call": 1, "answer": 1}
    async with PacedStub(AT_ONCE) as stub:
        assert (await ask(web, stub, tools=[TOOL]))["choices"][0]["message"]["content"]


async def test_above_its_rate_it_answers_429_and_says_when_to_come_again(web: aiohttp.ClientSession) -> None:
    limited = replace(AT_ONCE, requests_s=0.5)
    async with PacedStub(limited) as stub:
        await ask(web, stub)
        async with web.post(f"{stub.url}/chat/completions", json=CHAT) as refused:
            assert refused.status == 429
            assert refused.headers["Retry-After"] == "1"
            assert (await refused.json())["error"]["code"] == "rate_limit_exceeded"
        count = stub.count()
    assert (count["calls"], count["answered"], count["limited"]) == (2, 1, 1)


async def test_the_count_says_what_its_process_used(web: aiohttp.ClientSession) -> None:
    async with PacedStub(AT_ONCE) as stub:
        before = stub.count()["cpu_s"]
        for _ in range(20):
            await ask(web, stub)
        async with web.get(f"{stub.url.removesuffix('/v1')}/count") as counted:
            count = await counted.json()
    assert count["cpu_s"] > before
    assert count["calls"] == count["answered"] == 20


def test_an_answer_takes_its_first_token_and_then_each_of_the_others() -> None:
    pace = replace(FAST, first_s=1.0, first_sigma=0.0, tokens_s=10.0, tokens_sigma=0.0)
    waits = PacedStub(pace).latency.of(7)
    assert waits == pytest.approx([1.0, 0.0, 0.1, 0.1, 0.1, 0.1, 0.0])


def test_a_command_carries_its_whole_pace() -> None:
    arguments = command(FAST, seed=3, faults={"429": 0.1})
    packed = arguments[arguments.index("--pace") + 1]
    assert ModelPace(**orjson.loads(packed)) == FAST
    assert arguments[-2:] == ["--fault", "429=0.1"]
