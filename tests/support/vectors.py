"""A vector store by the book, and an embedder that counts: what the real ones are held against."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from app.knowledge.base import Chunk, Hit, Namespace, Vectors
from app.knowledge.ranking import fuse_hybrid

DIMENSION = 32


class WordsEmbedder:
    """A text is the sum of its words' fixed random directions; keeps what it was asked."""

    name = "words"
    dimension = DIMENSION

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self.error is not None:
            raise self.error
        self.asked += texts
        return np.array([embed_words(text) for text in texts], np.float32).reshape(len(texts), DIMENSION)


def embed_words(text: str) -> Vectors:
    total = np.zeros(DIMENSION)
    for word in words(text):
        total += np.random.default_rng(list(word.encode())).normal(size=DIMENSION)
    length = np.linalg.norm(total)
    return (total / length if length else total).astype(np.float32)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class ReferenceVectors:
    """`VectorStore` in plain Python: every vector compared, BM25 (k1 1.2, b 0.75) counted anew on each search."""

    def __init__(self) -> None:
        self.kept: dict[Namespace, dict[str, tuple[Chunk, Vectors]]] = {}
        self.dimensions: dict[Namespace, int] = {}

    async def ensure(self, namespace: Namespace, dimension: int) -> None:
        if self.dimensions.get(namespace) != dimension:
            self.dimensions[namespace], self.kept[namespace] = dimension, {}

    async def upsert(self, namespace: Namespace, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        dimension = self.dimensions.setdefault(namespace, vectors.shape[1])
        if vectors.shape != (len(chunks), dimension):
            raise ValueError("shapes")
        self.kept.setdefault(namespace, {})
        self.kept[namespace].update({c.id: (c, v) for c, v in zip(chunks, vectors, strict=True)})

    async def delete(self, namespace: Namespace, document_ids: Sequence[str]) -> None:
        kept = self.kept.get(namespace, {})
        self.kept[namespace] = {id: e for id, e in kept.items() if e[0].document_id not in document_ids}

    async def delete_chunks(self, namespace: Namespace, chunk_ids: Sequence[str]) -> None:
        kept = self.kept.get(namespace, {})
        self.kept[namespace] = {id: e for id, e in kept.items() if id not in chunk_ids}

    async def drop(self, namespace: Namespace) -> None:
        self.kept.pop(namespace, None)
        self.dimensions.pop(namespace, None)

    async def search(
        self,
        namespace: Namespace,
        vectors: Vectors,
        text: str,
        limit: int,
        dense_weight: float = 0.7,
        tags: Sequence[str] = (),
        document_ids: Sequence[str] = (),
    ) -> list[Hit]:
        everything = self.kept.get(namespace, {})
        held = {
            id: (c, v)
            for id, (c, v) in everything.items()
            if (not tags or set(tags) & set(c.tags)) and (not document_ids or c.document_id in document_ids)
        }
        rows = [row for row in vectors if row.any()]
        near = {id: max(float(row @ v) for row in rows) for id, (_, v) in held.items()} if rows else {}
        lexical = {id: s for id, s in self._bm25(everything, text).items() if id in held}
        fused = fuse_hybrid(near, lexical, dense_weight, len(held) + 1)
        return [
            Hit(held[id][0], fused[id], tuple((vectors @ held[id][1]).tolist()), lexical.get(id, 0.0), held[id][1])
            for id in sorted(fused, key=lambda id: -fused[id])[:limit]
        ]

    async def chunk_ids(self, namespace: Namespace, document_id: str | None = None) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for chunk, _ in self.kept.get(namespace, {}).values():
            if document_id in (None, chunk.document_id):
                found.setdefault(chunk.document_id, set()).add(chunk.id)
        return {document: frozenset(ids) for document, ids in found.items()}

    async def count(self, namespace: Namespace) -> int:
        return len(self.kept.get(namespace, {}))

    async def close(self) -> None:
        self.kept.clear()

    def _bm25(self, held: Mapping[str, tuple[Chunk, Vectors]], text: str) -> dict[str, float]:
        documents = {id: Counter(words(f"{c.indexed_text} {' '.join(c.tags)}")) for id, (c, _) in held.items()}
        mean = sum(sum(d.values()) for d in documents.values()) / max(len(documents), 1)
        scores: dict[str, float] = {}
        for word in set(words(text)):
            holders = [id for id, d in documents.items() if word in d]
            weight = math.log(1 + (len(documents) - len(holders) + 0.5) / (len(holders) + 0.5))
            for id in holders:
                often = documents[id][word]
                norm = 1.2 * (1 - 0.75 + 0.75 * sum(documents[id].values()) / mean)
                scores[id] = scores.get(id, 0.0) + weight * often * 2.2 / (often + norm) / math.log1p(len(documents))
        return scores
