"""Routed replies as entries of the answer cache."""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from app.agent.model import ModelReply, ModelRequest, ToolCall, Usage


@dataclass(frozen=True, slots=True)
class RoutedReply:
    """A reply and what it took.

    `cost_micros` and `attempts` are 0 where it came from another call (`cached`), `saved_micros` is what that one
    cost then. `model_s` is the time in
    seconds that was spent waiting for providers, failed ones too. `stand_in`: not the route's first choice.
    """

    reply: ModelReply
    provider: str
    route: str
    cost_micros: int
    attempts: int
    cached: bool
    model_s: float
    stand_in: bool = False
    saved_micros: int = 0


def answer_key(request: ModelRequest, route: list[str], tenant_id: str, *, with_facts: bool) -> str:
    """A digest of all that an answer depends on; `route` names the route and its models.

    `with_facts` where a model of the route reads them.
    """
    content = [
        tenant_id,
        route,
        [request.prompt, request.prompt_version, request.temperature, request.max_tokens],
        request.messages,
        request.tools,
        request.answer_schema,
        request.facts if with_facts else None,
    ]
    packed = orjson.dumps(content, default=repr, option=orjson.OPT_NON_STR_KEYS)
    return hashlib.blake2b(packed, digest_size=20).hexdigest()


def dump_answer(routed: RoutedReply) -> bytes:
    """Bytes that `load_answer` reads back."""
    return orjson.dumps([routed.provider, routed.reply, routed.cost_micros])


def load_answer(kept: bytes, route: str) -> RoutedReply:
    """A kept answer, as one that costs nothing now."""
    provider, body, cost = orjson.loads(kept)
    return RoutedReply(
        _reply(body), provider, route, cost_micros=0, attempts=0, cached=True, model_s=0.0, saved_micros=cost
    )


def _reply(body: dict[str, Any]) -> ModelReply:
    return ModelReply(
        text=body["text"],
        tool_calls=tuple(ToolCall(**call) for call in body["tool_calls"]),
        usage=Usage(**body["usage"]),
        model=body["model"],
        finish_reason=body["finish_reason"],
        duration_s=0.0,
    )
