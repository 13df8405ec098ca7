"""An answer as JSON: what a cache keeps of it, what an endpoint sends, what a stream ends with."""

from dataclasses import fields
from typing import Any, NamedTuple

import orjson

from app.conversation.events import Answer, CacheHit, Citation, ToolUsed

_MICROS = 1_000_000
_AS_IT_IS = tuple(field.name for field in fields(Answer) if field.name not in ("cost_micros", "saved_micros"))


class Gist(NamedTuple):
    """`cache` as `CacheHit` writes it."""

    text: str
    refused: bool
    cache: str
    saved_micros: int


def document(answer: Answer) -> dict[str, Any]:
    """The fields of `Answer` by name, money as `cost_usd` and `saved_usd` in US dollars."""
    known = {name: getattr(answer, name) for name in _AS_IT_IS}
    known |= {"cost_usd": answer.cost_micros / _MICROS, "saved_usd": answer.saved_micros / _MICROS}
    return known | {"model_ms": round(answer.model_ms, 3), "duration_ms": round(answer.duration_ms, 3)}


def dump(answer: Answer) -> bytes:
    """The JSON of `document`; `load` reads it back."""
    return orjson.dumps(document(answer))


def gist(body: bytes) -> Gist:
    """What one who passes `dump`'s bytes on must know of them, for a third of the cost of `load`."""
    known = orjson.loads(body)
    return Gist(known["text"], known["refused"], known["cache"], round(known["saved_usd"] * _MICROS))


def load(body: bytes) -> Answer:
    """The answer of `dump`'s bytes. Raises ValueError, KeyError or TypeError where they are of another form."""
    known: dict[str, Any] = orjson.loads(body)
    known["citations"] = tuple(Citation(**one) for one in known["citations"])
    known["tools"] = tuple(ToolUsed(**one) for one in known["tools"])
    known["cache"] = CacheHit(known["cache"])
    known["cost_micros"] = round(known.pop("cost_usd") * _MICROS)
    known["saved_micros"] = round(known.pop("saved_usd") * _MICROS)
    return Answer(**known)
