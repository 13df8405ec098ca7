"""How a chunk is kept by either engine: the same fields, the same ids, the same words."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from app.knowledge.base import Chunk, Namespace
from app.knowledge.ranking import LEAST_COSINE

# What a server's collections that are ours begin with.
COLLECTIONS = "trellis_"
DENSE = "dense"
WORDS = "words"
# Of each way to search, before they are fused.
CANDIDATES = 100
STOPWORDS = ("English", "German", "French", "Spanish", "Portuguese", "Italian", "Dutch", "Swedish", "Danish")


class Scored(Protocol):
    """A point that one ranking found."""

    @property
    def id(self) -> Any: ...
    @property
    def score(self) -> float: ...


def best_of(rankings: Sequence[Sequence[Scored]]) -> dict[Any, float]:
    """Each point's best similarity in any of the rankings."""
    best: dict[Any, float] = {}
    for ranking in rankings:
        for point in ranking:
            name = point.id
            best[name] = max(point.score, best.get(name, LEAST_COSINE))
    return best


def payload_of(chunk: Chunk) -> dict[str, Any]:
    return {
        "id": chunk.id,
        "document_id": chunk.document_id,
        "slug": chunk.slug,
        "title": chunk.title,
        "heading": chunk.heading,
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "tags": list(chunk.tags),
        WORDS: f"{chunk.indexed_text}\n{' '.join(chunk.tags)}",
    }


def chunk_of(payload: Mapping[str, Any]) -> Chunk:
    return Chunk(
        id=payload["id"],
        document_id=payload["document_id"],
        slug=payload["slug"],
        title=payload["title"],
        heading=payload["heading"],
        ordinal=payload["ordinal"],
        text=payload["text"],
        tags=tuple(payload["tags"]),
    )


def point_id(chunk_id: str) -> str:
    return str(uuid.UUID(chunk_id.removeprefix("chk_")))


def digest_of(namespace: Namespace) -> str:
    return hashlib.sha256("\0".join(namespace).encode()).hexdigest()[:32]
