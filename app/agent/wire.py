"""The chat completions wire: our requests as JSON bodies, a provider's bodies as our replies.

Shape: OpenAI, "Create chat completion" (API reference), as vLLM and Ollama serve it too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final

import orjson

from app.agent.model import (
    Message,
    ModelError,
    ModelReply,
    ModelRequest,
    ToolCall,
    Usage,
    estimate_input_tokens,
    estimate_tokens,
)
from app.agent.schema import strict_schema


class AnswerFormat(IntEnum):
    """How an answer's schema is asked for, the strongest first; TEXT states it in words."""

    JSON_SCHEMA = 0
    JSON_OBJECT = 1
    TEXT = 2


MAX_TOKENS: Final = "max_tokens"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an endpoint takes of the wire. OpenAI's reasoning models refuse `max_tokens` and any temperature.

    `counts_streams`: it can send a stream's token counts; `streams`: it can stream at all. `marks_prefix`: it wants
    to be told what of a prompt to keep (Anthropic's `cache_control`, as gateways to it take it); others keep by
    themselves what they have seen.
    """

    answer_format: AnswerFormat = AnswerFormat.JSON_SCHEMA
    limit: str = MAX_TOKENS
    temperature: bool = True
    counts_streams: bool = True
    streams: bool = True
    marks_prefix: bool = False

    def after_refusal(self, raw: bytes) -> "Dialect | None":
        """The dialect to try next, given the body of a refusal; None where the refusal is of something else."""
        param, text = _refused(raw)
        if self.limit == MAX_TOKENS and (param == MAX_TOKENS or "max_completion_tokens" in text):
            return replace(self, limit="max_completion_tokens")
        if self.temperature and param == "temperature":
            return replace(self, temperature=False)
        if self.counts_streams and any(word in param or word in text for word in _STREAM_COUNT_WORDS):
            return replace(self, counts_streams=False)
        if self.marks_prefix and "cache_control" in text:
            return replace(self, marks_prefix=False)
        if self.streams and param == "stream":
            return replace(self, streams=False)
        if self.answer_format is not AnswerFormat.TEXT and any(word in param or word in text for word in _FORMAT_WORDS):
            return replace(self, answer_format=AnswerFormat(self.answer_format + 1))
        return None

    def and_also(self, other: "Dialect") -> "Dialect":
        """The dialect that both refusals lead to."""
        return Dialect(
            max(self.answer_format, other.answer_format),
            self.limit if self.limit != MAX_TOKENS else other.limit,
            self.temperature and other.temperature,
            self.counts_streams and other.counts_streams,
            self.streams and other.streams,
            self.marks_prefix and other.marks_prefix,
        )


_FORMAT_WORDS = ("response_format", "json_schema", "json_object", "guided", "grammar")
_STREAM_COUNT_WORDS = ("stream_options", "include_usage")


def _refused(raw: bytes) -> tuple[str, str]:
    try:
        param = str(orjson.loads(raw)["error"].get("param") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        param = ""
    return param, raw[:4096].decode(errors="replace").lower()


def encode(request: ModelRequest, model: str, dialect: Dialect, *, streamed: bool = False) -> bytes:
    """The body of a request. `facts` is not in it.

    What later calls of a conversation repeat comes first and unchanged (tools in the spec's order, the system
    message, the messages before): providers keep the prefix of a prompt and charge less for it.
    """
    messages = [_message(message) for message in request.messages]
    body: dict[str, Any] = {"model": model, "messages": messages, dialect.limit: request.max_tokens}
    if dialect.temperature:
        body["temperature"] = request.temperature
    if request.tools:
        body["tools"] = [
            {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
            for t in request.tools
        ]
    if request.answer_schema is not None:
        _ask_for_schema(body, messages, request.answer_schema, dialect.answer_format)
    if dialect.marks_prefix:
        _mark_prefix(messages)
    if streamed and dialect.streams:
        body["stream"] = True
        if dialect.counts_streams:
            body["stream_options"] = {"include_usage": True}
    return orjson.dumps(body)


def _mark_prefix(messages: list[dict[str, Any]]) -> None:
    """The tools and the system messages are the same in every call of a conversation, and of many."""
    leading = [message for message in messages if message["role"] == "system"]
    if leading:
        part = {"type": "text", "text": leading[-1]["content"], "cache_control": {"type": "ephemeral"}}
        leading[-1]["content"] = [part]


def _message(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def _ask_for_schema(
    body: dict[str, Any], messages: list[dict[str, Any]], schema: Mapping[str, Any], answer_format: AnswerFormat
) -> None:
    if answer_format is AnswerFormat.JSON_SCHEMA:
        wanted = {"name": "answer", "schema": strict_schema(schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return
    if answer_format is AnswerFormat.JSON_OBJECT:
        body["response_format"] = {"type": "json_object"}
    text = f"Answer with one JSON object and nothing else. It fits this JSON Schema: {orjson.dumps(schema).decode()}"
    # After the prompt's own system text, which stays the first thing that the provider's prompt cache sees.
    messages.insert(1 if messages and messages[0]["role"] == "system" else 0, {"role": "system", "content": text})


def decode(raw: bytes, request: ModelRequest, model: str, provider: str, duration_s: float) -> ModelReply:
    """The reply in a body of status 200. Raises ModelError (retryable) where it is not a chat completion.

    Where the provider does not count tokens they are estimated.
    """
    try:
        body = orjson.loads(raw)
        choice = body["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
        calls = tuple(tool_call(call, index) for index, call in enumerate(message.get("tool_calls") or ()))
        usage = usage_of(body.get("usage"), request, text, calls)
        if not isinstance(text, str):
            raise TypeError("content")
        return ModelReply(
            text=text,
            tool_calls=calls,
            usage=usage,
            model=str(body.get("model") or model),
            finish_reason=str(choice.get("finish_reason") or "stop"),
            duration_s=duration_s,
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The provider '{provider}' sent a body that is not a chat completion.", retryable=True, status=200
        ) from error


def tool_call(call: Mapping[str, Any], index: int) -> ToolCall:
    """A tool call of the wire, the `index`-th of its answer. Raises KeyError where it has no name."""
    function = call["function"]
    text = argument_text(function.get("arguments") or "{}")
    return ToolCall(str(call.get("id") or f"call_{index}"), str(function["name"]), text)


def argument_text(arguments: Any) -> str:
    """A call's arguments as the text that they should be: some servers send an object."""
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()


def usage_of(counted: Mapping[str, Any] | None, request: ModelRequest, text: str, calls: tuple[ToolCall, ...]) -> Usage:
    """Tokens as the provider counted them, estimated where it did not."""
    if not counted or counted.get("prompt_tokens") is None:
        written = estimate_tokens(text) + sum(estimate_tokens(call.name + call.arguments) for call in calls)
        return Usage(estimate_input_tokens(request), written)
    details = counted.get("prompt_tokens_details") or {}
    return Usage(
        max(0, int(counted["prompt_tokens"])),
        max(0, int(counted.get("completion_tokens") or 0)),
        max(0, int(details.get("cached_tokens") or 0)),
    )


def error_code(raw: bytes) -> str:
    """The provider's error code or type, empty where there is none. Its message is left out: it may quote a key."""
    try:
        error = orjson.loads(raw)["error"]
        code = str(error.get("code") or error.get("type") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return code if len(code) <= 64 and code.replace("_", "").replace("-", "").isalnum() else ""
