"""A question to evidence: language, embedding, hybrid search, order, calibrated score; cached by index version."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import orjson
from cachetools import LRUCache

from app.cache.base import bot_tag, document_tag, person_tag
from app.cache.tiered import Made, TieredCache
from app.errors import InvalidInput
from app.governance.flags import FlagSpec
from app.knowledge.base import Embedder, Hit, Passage, Vectors, VectorStore
from app.knowledge.boosts import History, Liking
from app.knowledge.calibration import Calibrations
from app.knowledge.generations import Generations, Serving
from app.knowledge.language import Glossary, LanguageGuess
from app.knowledge.ranking import Calibration, order
from app.knowledge.rewriting import FEEDBACK_HITS, expand
from app.telemetry import names, spans
from app.telemetry.metrics import Metrics

DENSE_WEIGHT = 0.7
# The vectors of a longer text say nothing about any part of it.
MAX_QUERY_CHARACTERS = 2000
MAX_LIMIT = 50
KNOWN_CHUNKS = 4096
FOREIGN_WORTH = 0.5

REWRITE = "retrieval.rewrite"
BOOSTS = "retrieval.boosts"
FLAGS = (
    FlagSpec(REWRITE, False, "Searches twice: the second time towards what the first search found best."),
    FlagSpec(BOOSTS, False, "Prefers documents that the user's earlier answers cited, a little."),
)
SwitchedOn = Callable[[str, str], bool]
"""A flag's value by its name and a tenant."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How one search is to differ; None is the way of the settings and the flags.

    Args:
        dense_weight: 0 (words only) to 1 (vectors only).
        diversity: 0 to 1, see `app.knowledge.ranking.order`.
        rewrite: search twice, the second time towards the best of the first (`app.knowledge.rewriting.expand`).
    """

    dense_weight: float | None = None
    diversity: float | None = None
    rewrite: bool | None = None

    def check(self) -> None:
        """Raises InvalidInput."""
        for name in ("dense_weight", "diversity"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidInput(f"'{name}' must be between 0 and 1.")


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured for an embedder and a collection: see docs/decisions/0009-hybrid-retrieval.md.

    `calibration`: None takes that of the embedder, see `app.knowledge.calibration`.
    """

    calibration: Calibration | None = None
    dense_weight: float = DENSE_WEIGHT
    diversity: float = 0.0


@dataclass(frozen=True, slots=True)
class _Search:
    """One search with everything that its result depends on, beside the index and the user's history."""

    query: str
    limit: int
    tags: tuple[str, ...]
    document_ids: tuple[str, ...]
    dense_weight: float
    diversity: float
    rewrite: bool

    def key(self, serving: Serving, user: str | None, liking: Liking) -> str:
        asked = [
            *serving.namespace,
            serving.version,
            serving.generation.embedder,
            hashlib.sha256(self.query.encode("utf-8", "surrogatepass")).hexdigest(),
            self.limit,
            self.tags,
            self.document_ids,
            self.dense_weight,
            self.diversity,
            self.rewrite,
            user,
            liking.stamp,
        ]
        return "retrieval:" + hashlib.sha256(orjson.dumps(asked)).hexdigest()


@dataclass(frozen=True, slots=True)
class _Question:
    """A question in its wordings.

    Args:
        wordings: the query itself, then the English words that the glossary has for it.
        vectors: float32 of shape (wordings, dimension).
        topical: the wordings that tell whether a passage is on the question's topic. Two texts of one foreign
            language are alike to an English-centred embedder whatever they say: only English ones do.
    """

    wordings: Sequence[str]
    language: str | None
    vectors: Vectors
    topical: Sequence[int]


class Retriever:
    """Evidence for a question from one tenant's one bot.

    A question is also asked in the English words that `glossary` has for it; a page in a language that is neither
    English nor the question's ranks behind. Results are kept for `ttl_s` seconds under tenant, bot, generation, index
    version, question and options, and under the user where the user's history has a say; the same question asked twice
    at once is searched once.
    """

    def __init__(
        self,
        store: VectorStore,
        generations: Generations,
        cache: TieredCache,
        metrics: Metrics,
        *,
        glossary: Glossary,
        guess: LanguageGuess,
        history: History,
        switched_on: SwitchedOn = lambda _name, _tenant: False,
        tuning: Tuning | None = None,
        ttl_s: float = 3600.0,
    ) -> None:
        self._store = store
        self._generations = generations
        self._cache = cache
        self._metrics = metrics
        self._glossary = glossary
        self._guess = guess
        self._history = history
        self._switched_on = switched_on
        self._tuning = tuning or Tuning()
        self._ttl_s = ttl_s
        self._calibrations = Calibrations()
        self._languages: LRUCache[str, str | None] = LRUCache(KNOWN_CHUNKS)

    async def search(
        self,
        tenant_id: str,
        bot: str,
        query: str,
        limit: int = 5,
        tags: Sequence[str] = (),
        *,
        user: str | None = None,
        document_ids: Sequence[str] = (),
        options: SearchOptions | None = None,
    ) -> list[Passage]:
        """Best first; empty where the knowledge holds nothing near. A passage marked `weak` is no ground for an answer.

        Args:
            query: any language; what is beyond 2,000 characters is not looked at.
            tags: where given, only documents that carry one of them.
            user: whose earlier answers may have a say (`Principal.user`), where the flag for it is on.
            document_ids: where given, only these documents.

        Raises InvalidInput for a limit outside 1-50 or an option out of its range, Unavailable where the embedder does
        not answer.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput(f"'limit' must be between 1 and {MAX_LIMIT}.")
        search = self._plan(tenant_id, query, limit, tags, document_ids, options or SearchOptions())
        started = perf_counter()
        try:
            passages = await self._traced(tenant_id, bot, user, search) if search.query else []
        except Exception:
            self._metrics.retrieval_requests.labels(result="error").inc()
            raise
        finally:
            self._metrics.retrieval_duration_seconds.observe(perf_counter() - started)
        strong = any(not passage.weak for passage in passages)
        self._metrics.retrieval_score.observe(max((passage.score for passage in passages), default=0.0))
        self._metrics.retrieval_requests.labels(result="found" if strong else "empty").inc()
        return passages

    async def cited(self, tenant_id: str, bot: str, user: str, document_ids: Sequence[str]) -> None:
        """An answer to the user's question cited these documents; nothing is kept where the flag for it is off."""
        if self._switched_on(BOOSTS, tenant_id):
            await self._history.cited(tenant_id, bot, user, document_ids)

    async def export(self, tenant_id: str, user: str) -> Mapping[str, Any]:
        """What is kept of the user, see `History.export`."""
        return await self._history.export(tenant_id, user)

    async def forget(self, tenant_id: str, user: str) -> int:
        """Erases what is kept of the user, and every search that it had a say in; how many entries."""
        return await self._history.forget(tenant_id, user) + await self._cache.drop(person_tag(tenant_id, user))

    def _plan(
        self,
        tenant_id: str,
        query: str,
        limit: int,
        tags: Sequence[str],
        document_ids: Sequence[str],
        options: SearchOptions,
    ) -> _Search:
        options.check()
        tuning, rewrite = self._tuning, options.rewrite
        return _Search(
            query=" ".join(query[:MAX_QUERY_CHARACTERS].split()),
            limit=limit,
            tags=tuple(sorted(tags)),
            document_ids=tuple(sorted(document_ids)),
            dense_weight=tuning.dense_weight if options.dense_weight is None else options.dense_weight,
            diversity=tuning.diversity if options.diversity is None else options.diversity,
            rewrite=self._switched_on(REWRITE, tenant_id) if rewrite is None else rewrite,
        )

    async def _traced(self, tenant_id: str, bot: str, user: str | None, search: _Search) -> list[Passage]:
        with spans.span(names.RETRIEVAL, {names.OPERATION: names.RETRIEVAL, names.DATA_SOURCE: bot}) as span:
            passages = await self._cached(tenant_id, bot, user, search)
            span.set_attribute(names.PASSAGES, len(passages))
        return passages

    async def _cached(self, tenant_id: str, bot: str, user: str | None, search: _Search) -> list[Passage]:
        serving = await self._generations.serving(tenant_id, bot)
        asker = user if user is not None and self._switched_on(BOOSTS, tenant_id) else None
        liking = Liking() if asker is None else await self._history.liking(tenant_id, bot, asker)

        async def make() -> Made:
            passages = await self._search(serving, search, liking)
            sources = {document_tag(tenant_id, passage.document_id) for passage in passages}
            person = () if asker is None else (person_tag(tenant_id, asker),)
            return Made(orjson.dumps(passages), (bot_tag(tenant_id, bot), *sorted(sources), *person))

        raw = await self._cache.get_or_make(search.key(serving, asker, liking), self._ttl_s, make, tenant_id)
        return [Passage(**fields) for fields in orjson.loads(raw)]

    async def _search(self, serving: Serving, search: _Search, liking: Liking) -> Sequence[Passage]:
        embedder = self._generations.embedder(serving.generation.embedder)
        with spans.span(
            names.named(names.EMBEDDINGS, embedder.name),
            {names.OPERATION: names.EMBEDDINGS, names.MODEL: embedder.name, names.DIMENSION: embedder.dimension},
        ):
            question = await self._question(search.query, embedder)

        def worth(hit: Hit) -> float:
            foreign = self._foreign(hit, question.language)
            return liking.boost(hit.chunk.document_id) * (FOREIGN_WORTH if foreign else 1.0)

        hits = await self._hits(serving, search, question, question.vectors)
        if search.rewrite:
            nearer = expand(question.vectors, order(hits, FEEDBACK_HITS, worth))
            hits = await self._hits(serving, search, question, nearer)
        best = order(hits, search.limit, worth, diversity=search.diversity)
        calibration = self._tuning.calibration or await self._calibrations.of(embedder)
        return [_passage(hit, question, calibration) for hit in best]

    async def _hits(self, serving: Serving, search: _Search, question: _Question, vectors: Vectors) -> Sequence[Hit]:
        return await self._store.search(
            serving.namespace,
            vectors,
            " ".join(question.wordings),
            4 * search.limit,
            dense_weight=search.dense_weight,
            tags=search.tags,
            document_ids=search.document_ids,
        )

    async def _question(self, query: str, embedder: Embedder) -> _Question:
        language = self._guess(query)
        english = self._glossary.english(query, language)
        wordings = [query, english] if english else [query]
        topical = [row for row in range(len(wordings)) if row == 1 or language in ("en", None)]
        return _Question(wordings, language, await embedder.embed(wordings), topical)

    def _foreign(self, hit: Hit, language: str | None) -> bool:
        chunk = hit.chunk
        if chunk.id not in self._languages:
            self._languages[chunk.id] = self._guess(chunk.indexed_text)
        return self._languages[chunk.id] not in ("en", None, language)


def _passage(hit: Hit, question: _Question, calibration: Calibration) -> Passage:
    cosine = max((float(question.vectors[row] @ hit.vector) for row in question.topical), default=0.0)
    chunk, score = hit.chunk, calibration.score(max(cosine, 0.0), hit.lexical)
    return Passage(
        chunk_id=chunk.id,
        document_id=chunk.document_id,
        slug=chunk.slug,
        title=chunk.title,
        heading=chunk.heading,
        text=chunk.text,
        score=score,
        weak=score < calibration.floor,
    )
