"""A question to evidence: language, embedding, hybrid search, order, calibrated score; cached by index version."""

import asyncio
import hashlib
from collections.abc import Sequence
from time import perf_counter

import numpy as np
from cachetools import LRUCache, TTLCache

from app.clock import Clock
from app.errors import InvalidInput
from app.knowledge.base import Embedder, Hit, Namespace, Passage, Vectors, VectorStore
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.ranking import Calibration, order
from app.knowledge.versions import IndexVersions
from app.telemetry.metrics import Metrics

DENSE_WEIGHT = 0.7
# The vectors of a longer text say nothing about any part of it.
MAX_QUERY_CHARACTERS = 2000
MAX_LIMIT = 50
WORDLLAMA_CALIBRATION = Calibration(cosine=2.9, lexical=6.0, intercept=-4.6, floor=0.5)

_Key = tuple[Namespace, int, str, int, tuple[str, ...]]


class Retriever:
    """Evidence for a question from one tenant's one bot.

    A question is also asked in the English words that `glossary` has for it; a page in a language that is neither
    English nor the question's ranks behind. Results are kept for `ttl_s` seconds under tenant, bot, index version and
    question; the same question asked twice at once is searched once.
    """

    def __init__(
        self,
        store: VectorStore,
        embedder: Embedder,
        versions: IndexVersions,
        metrics: Metrics,
        clock: Clock,
        *,
        glossary: Glossary,
        guess: LanguageGuess,
        calibration: Calibration = WORDLLAMA_CALIBRATION,
        dense_weight: float = DENSE_WEIGHT,
        ttl_s: float = 300.0,
        size: int = 2048,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._versions = versions
        self._metrics = metrics
        self._glossary = glossary
        self._guess = guess
        self._calibration = calibration
        self._dense_weight = dense_weight
        self._found: TTLCache[_Key, Sequence[Passage]] = TTLCache(size, ttl_s, timer=lambda: clock().timestamp())
        self._embedded: LRUCache[str, Vectors] = LRUCache(size)
        self._languages: LRUCache[str, str | None] = LRUCache(16 * size)
        self._under_way: dict[_Key, asyncio.Task[Sequence[Passage]]] = {}

    async def search(
        self, tenant_id: str, bot: str, query: str, limit: int = 5, tags: Sequence[str] = ()
    ) -> list[Passage]:
        """Best first; empty where the knowledge holds nothing near. A passage marked `weak` is no ground for an answer.

        Args:
            query: any language; what is beyond 2,000 characters is not looked at.
            tags: where given, only documents that carry one of them.

        Raises InvalidInput for a limit outside 1-50, Unavailable where the embedder does not answer.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"'limit' must be between 1 and {MAX_LIMIT}.")
        started = perf_counter()
        try:
            passages = await self._cached(
                Namespace(tenant_id, bot), " ".join(query[:MAX_QUERY_CHARACTERS].split()), limit, tags
            )
        except Exception:
            self._metrics.retrieval_requests.labels(result="error").inc()
            raise
        finally:
            self._metrics.retrieval_duration_seconds.observe(perf_counter() - started)
        strong = any(not passage.weak for passage in passages)
        self._metrics.retrieval_requests.labels(result="found" if strong else "empty").inc()
        return list(passages)

    async def _cached(self, namespace: Namespace, query: str, limit: int, tags: Sequence[str]) -> Sequence[Passage]:
        version = await self._versions.current(namespace)
        digest = hashlib.sha256(query.encode("utf-8", "surrogatepass")).hexdigest()
        key: _Key = (namespace, version, digest, limit, tuple(sorted(tags)))
        known: Sequence[Passage] | None = self._found.get(key)
        if known is not None:
            self._count("hit")
            return known
        running = self._under_way.get(key)
        self._count("shared" if running else "miss")
        if running is None:
            running = asyncio.create_task(self._search(namespace, query, limit, tags))
            self._under_way[key] = running
            running.add_done_callback(lambda task: self._keep(key, task))
        # Shielded: one caller that gives up must not take the answer from the others.
        return await asyncio.shield(running)

    def _keep(self, key: _Key, task: "asyncio.Task[Sequence[Passage]]") -> None:
        del self._under_way[key]
        if not task.cancelled() and task.exception() is None:
            self._found[key] = task.result()

    def _count(self, result: str) -> None:
        self._metrics.retrieval_cache_requests.labels(result=result).inc()

    async def _search(self, namespace: Namespace, query: str, limit: int, tags: Sequence[str]) -> Sequence[Passage]:
        if not query:
            return ()
        language = self._guess(query)
        english = self._glossary.english(query, language)
        wordings = [query, english] if english else [query]
        vectors = await self._embed(wordings)
        hits = await self._store.search(
            namespace, vectors, " ".join(wordings), 4 * limit, dense_weight=self._dense_weight, tags=tags
        )
        # Two texts of one foreign language are alike to an English-centred embedder whatever they say: only
        # English wordings tell whether a passage is on the question's topic.
        topical = [row for row in range(len(wordings)) if row == 1 or language in ("en", None)]
        best = order(hits, limit, lambda hit: self._foreign(hit, language))
        return tuple(self._passage(hit, topical) for hit in best)

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        rows = {text: self._embedded[text] for text in texts if text in self._embedded}
        missing = [text for text in texts if text not in rows]
        if missing:
            fresh = dict(zip(missing, await self._embedder.embed(missing), strict=True))
            self._embedded.update(fresh)
            rows.update(fresh)
        return np.stack([rows[text] for text in texts])

    def _foreign(self, hit: Hit, language: str | None) -> bool:
        chunk = hit.chunk
        if chunk.id not in self._languages:
            self._languages[chunk.id] = self._guess(chunk.indexed_text)
        return self._languages[chunk.id] not in ("en", None, language)

    def _passage(self, hit: Hit, topical: Sequence[int]) -> Passage:
        cosine = max((hit.cosines[row] for row in topical), default=0.0)
        score = self._calibration.score(max(cosine, 0.0), hit.lexical)
        chunk = hit.chunk
        return Passage(
            chunk_id=chunk.id,
            document_id=chunk.document_id,
            slug=chunk.slug,
            title=chunk.title,
            heading=chunk.heading,
            text=chunk.text,
            score=score,
            weak=score < self._calibration.floor,
        )
