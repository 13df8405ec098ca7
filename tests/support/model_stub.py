"""An OpenAI-compatible endpoint on loopback that can do what real ones do wrong; counts what it was asked.

Shape: OpenAI, "Create chat completion" (API reference). It enforces the path, the key, the content type and the
required members, and answers a wrong request as OpenAI does.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

KEY = "sk-stub-0123456789"
Answer = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Fault:
    """What the next request gets instead of an answer. `status` 0: the connection is reset after `delay_s`."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


RESET = Fault(status=0)


def error(status: int, message: str, *, code: str | None = None, param: str | None = None, **headers: str) -> Fault:
    """A refusal as OpenAI words it; `retry_after` becomes a header."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
    return Fault(status, orjson.dumps(body), {name.replace("_", "-"): value for name, value in headers.items()})


def text(content: str) -> Answer:
    return lambda _body: {"role": "assistant", "content": content, "refusal": None}


def tool_calls(*calls: tuple[str, Any]) -> Answer:
    return lambda _body: {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(calls)
        ],
    }


@dataclass
class ModelStub:
    """`async with ModelStub() as stub:` serves `stub.url` (up to `/v1`).

    `refuses` names members and response formats that this endpoint does not take: `max_tokens`, `temperature`,
    `json_schema`, `json_object`. `usage` None: it counts no tokens.
    """

    answer: Answer = field(default_factory=lambda: text("Hello."))
    usage: Mapping[str, Any] | None = field(
        default_factory=lambda: {
            "prompt_tokens": 30,
            "completion_tokens": 12,
            "total_tokens": 42,
            "prompt_tokens_details": {"cached_tokens": 10},
        }
    )
    refuses: frozenset[str] = frozenset()
    faults: list[Fault] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def calls(self) -> int:
        """Requests that came, faulty answers included."""
        return len(self.headers)

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self._complete)
        self._server = TestServer(application)
        await self._server.start_server()
        self.url = f"http://127.0.0.1:{self._server.port}/v1"
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._server.close()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        raw = await request.read()
        if self.faults:
            fault = self.faults.pop(0)
            await asyncio.sleep(fault.delay_s)
            if fault.status == 0:
                assert request.transport is not None
                request.transport.abort()
            if fault.status != 200 or fault.body:
                return web.Response(status=fault.status or 500, body=fault.body, headers=fault.headers)
        refusal = self._refusal(request, raw)
        if refusal is not None:
            return web.Response(status=refusal.status, body=refusal.body, content_type="application/json")
        body = orjson.loads(raw)
        self.asked.append(body)
        return web.Response(body=orjson.dumps(self._completion(body)), content_type="application/json")

    def _refusal(self, request: web.Request, raw: bytes) -> Fault | None:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return error(401, f"Incorrect API key provided: {KEY}.", code="invalid_api_key")
        if request.content_type != "application/json":
            return error(400, "Send JSON.")
        try:
            body = orjson.loads(raw)
        except ValueError:
            return error(400, "We could not parse the JSON body of your request.")
        return self._refused_member(body) or _wrong_messages(body)

    def _refused_member(self, body: Mapping[str, Any]) -> Fault | None:
        wanted = body.get("response_format", {}).get("type")
        if wanted in self.refuses:
            return error(400, f"response_format of type {wanted} is not supported.", param="response_format")
        for member in ("max_tokens", "temperature"):
            if member in body and member in self.refuses:
                return error(400, f"Unsupported parameter: '{member}'.", code="unsupported_parameter", param=member)
        return _wrong_schema(body) if wanted == "json_schema" else None

    def _completion(self, body: Mapping[str, Any]) -> dict[str, Any]:
        message = self.answer(body)
        return {
            "id": f"chatcmpl-{len(self.asked)}",
            "object": "chat.completion",
            "created": 1_772_442_000,
            "model": f"{body['model']}-2026-01-01",
            "choices": [
                {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
            ],
        } | ({"usage": self.usage} if self.usage is not None else {})


def _wrong_schema(body: Mapping[str, Any]) -> Fault | None:
    wanted = body["response_format"]["json_schema"]
    schema = wanted["schema"]
    closed = schema.get("additionalProperties") is False and schema.get("required") == list(schema["properties"])
    if wanted.get("name") and (closed or not wanted.get("strict")):
        return None
    return error(400, "Invalid schema for response_format: all properties are required.", param="response_format")


def _wrong_messages(body: Mapping[str, Any]) -> Fault | None:
    if not isinstance(body.get("model"), str) or not body.get("messages"):
        return error(400, "you must provide a model and messages")
    expected: set[str] = set()
    for message in body["messages"]:
        if message["role"] == "tool":
            if message.get("tool_call_id") not in expected:
                return error(400, "messages with role 'tool' must answer a preceding tool call")
            expected.discard(message["tool_call_id"])
        elif expected:
            return error(400, "every tool call must be followed by its tool message")
        expected |= {call["id"] for call in message.get("tool_calls", ())}
    return error(400, "every tool call must be followed by its tool message") if expected else None
