"""An answer as JSON: what a cache keeps of it, what an endpoint sends, what a stream ends with."""

from typing import Any, NamedTuple

import orjson

from app.conversation.events import Answer, CacheHit, Citation, ToolUsed

_MICROS = 1_000_000


class Gist(NamedTuple):
    """`cache` as `CacheHit` writes it."""

    text: str
    refused: bool
    cache: str
    saved_micros: int


def document(answer: Answer) -> dict[str, Any]:
    """The fields of `Answer` by name, money as `cost_usd` and `saved_usd` in US dollars."""
    return {
        "text": answer.text,
        "citations": answer.citations,
        "tools": answer.tools,
        "refused": answer.refused,
        "grounded": answer.grounded,
        "cache": answer.cache,
        "model": answer.model,
        "provider": answer.provider,
        "route": answer.route,
        "prompt": answer.prompt,
        "prompt_version": answer.prompt_version,
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "cached_tokens": answer.cached_tokens,
        "cost_usd": answer.cost_micros / _MICROS,
        "saved_usd": answer.saved_micros / _MICROS,
        "model_ms": round(answer.model_ms, 3),
        "duration_ms": round(answer.duration_ms, 3),
        "decision_id": answer.decision_id,
    }


def dump(answer: Answer) -> bytes:
    """The JSON of `document`; `load` reads it back."""
    return orjson.dumps(document(answer))


def gist(body: bytes) -> Gist:
    """What one who passes `dump`'s bytes on must know of them, for a third of the cost of `load`."""
    fields = orjson.loads(body)
    return Gist(fields["text"], fields["refused"], fields["cache"], round(fields["saved_usd"] * _MICROS))


def load(body: bytes) -> Answer:
    """The answer of `dump`'s bytes. Raises ValueError, KeyError or TypeError where they are of another form."""
    fields: dict[str, Any] = orjson.loads(body)
    fields["citations"] = tuple(Citation(**one) for one in fields["citations"])
    fields["tools"] = tuple(ToolUsed(**one) for one in fields["tools"])
    fields["cache"] = CacheHit(fields["cache"])
    fields["cost_micros"] = round(fields.pop("cost_usd") * _MICROS)
    fields["saved_micros"] = round(fields.pop("saved_usd") * _MICROS)
    return Answer(**fields)
