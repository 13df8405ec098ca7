"""What the stub of a model endpoint takes of a request, and how it refuses the rest, worded as OpenAI words it."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import orjson

KEY = "sk-stub-0123456789"


@dataclass(frozen=True)
class Fault:
    """What the next request gets instead of an answer. `status` 0: the connection is reset after `delay_s`.

    With status 200 and no body it is answered, only later.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


RESET = Fault(status=0)


def error(status: int, message: str, *, code: str | None = None, param: str | None = None, **headers: str) -> Fault:
    """A refusal as OpenAI words it; `retry_after` becomes a header."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
    return Fault(status, orjson.dumps(body), {name.replace("_", "-"): value for name, value in headers.items()})


def refusal(headers: Mapping[str, str], body: Any, refuses: Set[str]) -> Fault | None:
    """Why a request is refused. `body` None is one that is no JSON; `refuses` as `ModelStub` has it."""
    if headers.get("authorization") != f"Bearer {KEY}":
        return error(401, f"Incorrect API key provided: {KEY}.", code="invalid_api_key")
    if headers.get("content-type") != "application/json":
        return error(400, "Send JSON.")
    if not isinstance(body, dict):
        return error(400, "We could not parse the JSON body of your request.")
    return refused_member(body, refuses) or _wrong_messages(body)


def refused_member(body: Mapping[str, Any], refuses: Set[str]) -> Fault | None:
    wanted = body.get("response_format", {}).get("type")
    if wanted in refuses:
        return error(400, f"response_format of type {wanted} is not supported.", param="response_format")
    for member in ("max_tokens", "temperature", "stream", "stream_options"):
        if member in body and member in refuses:
            return error(400, f"Unsupported parameter: '{member}'.", code="unsupported_parameter", param=member)
    if "cache_control" in refuses and any(isinstance(each["content"], list) for each in body.get("messages", ())):
        return error(400, "messages.0.content.0.cache_control: Extra inputs are not permitted")
    if "stream_options" in body and not body.get("stream"):
        return error(400, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    return _wrong_schema(body) if wanted == "json_schema" else None


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
