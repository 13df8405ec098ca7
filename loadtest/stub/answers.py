"""What the stub of a model endpoint says: messages whole, and the same cut into the chunks of a stream."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

Message = Mapping[str, Any]
Answer = Callable[[Mapping[str, Any]], Message]

_PIECE = re.compile(r"\s*\S+\s*$|\s*\S+|\s+$")
_ARGUMENTS_AT_A_TIME = 7


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


def tool_then_text(content: str) -> Answer:
    """Calls the first tool that is offered, once, with arguments that fit its schema, then says the content."""

    def answer(body: Mapping[str, Any]) -> Message:
        if body["messages"][-1]["role"] == "tool" or not body.get("tools"):
            return text(content)(body)
        function = body["tools"][0]["function"]
        return tool_calls((function["name"], orjson.dumps(_filled(function["parameters"])).decode()))(body)

    return answer


def _filled(schema: Mapping[str, Any]) -> dict[str, Any]:
    values = {"string": "stub", "integer": 1, "number": 1.0, "boolean": True, "array": [], "object": {}}
    properties = schema.get("properties", {})
    return {name: values[properties[name].get("type", "string")] for name in schema.get("required", ())}


def completion(body: Mapping[str, Any], message: Message, usage: Mapping[str, Any] | None, number: int) -> bytes:
    """A whole chat completion."""
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(message)}
    told = _head(body, number, "chat.completion") | {"choices": [choice]}
    return orjson.dumps(told | ({"usage": usage} if usage is not None else {}))


def events(body: Mapping[str, Any], message: Message, usage: Mapping[str, Any] | None, number: int) -> Iterator[bytes]:
    """The data of the events of a streamed one, `[DONE]` not among them: a piece of the message each."""
    head = _head(body, number, "chat.completion.chunk")

    def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return orjson.dumps(head | {"choices": [choice]})

    yield chunk({"role": "assistant", "content": ""})
    for member in ("content", "refusal"):
        for piece in _PIECE.findall(message.get(member) or ""):
            yield chunk({member: piece})
    for index, call in enumerate(message.get("tool_calls", ())):
        for part in _call_parts(index, call):
            yield chunk({"tool_calls": [part]})
    yield chunk({}, _finish_reason(message))
    if usage is not None and (body.get("stream_options") or {}).get("include_usage"):
        yield orjson.dumps(head | {"choices": [], "usage": usage})


def pieces(message: Message) -> int:
    """Of how many events a streamed answer is, its usage and `[DONE]` not among them."""
    calls = sum(1 for index, call in enumerate(message.get("tool_calls", ())) for _ in _call_parts(index, call))
    return 2 + calls + sum(len(_PIECE.findall(message.get(member) or "")) for member in ("content", "refusal"))


def _call_parts(index: int, call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    arguments = call["function"]["arguments"]
    arguments = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    function = {"name": call["function"]["name"], "arguments": ""}
    yield {"index": index, "id": call["id"], "type": "function", "function": function}
    for start in range(0, len(arguments), _ARGUMENTS_AT_A_TIME):
        yield {"index": index, "function": {"arguments": arguments[start : start + _ARGUMENTS_AT_A_TIME]}}


def _finish_reason(message: Message) -> str:
    return "tool_calls" if "tool_calls" in message else "stop"


def _head(body: Mapping[str, Any], number: int, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": kind,
        "created": 1_772_442_000,
        "model": f"{body['model']}-2026-01-01",
    }
