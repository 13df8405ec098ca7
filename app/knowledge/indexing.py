"""One document into one generation of the index: cut, screened, embedded in batches, rows and vectors in step."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import orjson
import stamina
import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import Retryable, TrellisError
from app.governance.injection import Finding, suspicious
from app.knowledge.base import Chunk, Embedder, Namespace, VectorStore
from app.knowledge.chunking import chunk_given, chunk_markdown
from app.knowledge.generations import FIRST, Generation, Generations
from app.knowledge.models import Document, DocumentStatus
from app.knowledge.page import CHUNKS
from app.knowledge.repository import ChunkRepository, DocumentRepository, Standing
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from app.telemetry.names import CHUNKS as CHUNK_COUNT
from app.telemetry.names import EMBEDDINGS, KNOWLEDGE_UPSERT, MODEL, OPERATION, named
from app.telemetry.spans import span

Result = TypeVar("Result")

BATCH = 64
# Cutting and screening this much takes under a millisecond: a thread would cost about as much.
INLINE_CHARACTERS = 2_000
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
INTERNAL = "An internal error stopped it: try again, and if it stays look at the server's log."
_NONE: frozenset[str] = frozenset()

log = structlog.get_logger(__name__)


class Overtaken(Exception):
    """Newer content took the document's place, or it was deleted: whoever did that brings rows and vectors in order."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The chunks of a document in one generation, and what was found in those that carry instructions."""

    generation: Generation
    chunks: Sequence[Chunk]
    findings: Mapping[str, Sequence[Finding]]

    @property
    def clean(self) -> list[Chunk]:
        return [chunk for chunk in self.chunks if chunk.id not in self.findings]


class Plan(NamedTuple):
    """Which chunks are ready already; and whether the document had no rows before, hence nowhere a vector."""

    ready: frozenset[str]
    first: bool


class Indexer:
    """Rows first (`plan`), vectors batch by batch (`embed`), then what they replaced goes (`settle`).

    Each step may run again: chunks whose row is `ready` and whose vector is stored are not embedded a second time.
    """

    def __init__(
        self, db: Database, store: VectorStore, generations: Generations, metrics: Metrics, clock: Clock
    ) -> None:
        self._db = db
        self._store = store
        self._generations = generations
        self._metrics = metrics
        self._clock = clock

    async def cut(self, document: Document, generation: Generation) -> Cut:
        if len(document.body) <= INLINE_CHARACTERS:
            return _cut(document, generation)
        return await asyncio.to_thread(_cut, document, generation)

    async def plan(
        self, session: AsyncSession, document: Document, cuts: Sequence[Cut], *, alone: bool = False
    ) -> Plan:
        """Rows for the cuts: new ones `queued`, vanished ones superseded.

        `alone`: the rows of other generations stay as they are.
        """
        rows = ChunkRepository(session, document.tenant_id)
        known = await rows.standing(document.id)
        stale = {cut.generation.id for cut in cuts if _is_stale(document, cut.generation)}
        planned = [self._row(cut, chunk) for cut in cuts for chunk in cut.chunks]
        changes, ready = _changes(planned, known, stale)
        await rows.insert([row for row in planned if row["id"] not in known])
        await rows.change(changes)
        wanted = {row["id"] for row in planned}
        touched = {cut.generation.id for cut in cuts} if alone else {row.generation for row in known.values()}
        gone = [row.id for row in known.values() if row.id not in wanted and row.generation in touched]
        await rows.mark([id for id in gone if not known[id].superseded], superseded=True)
        return Plan(ready, not known)

    async def embed(self, document: Document, cut: Cut, plan: Plan, *, attempts: int = 1) -> int:
        """Vectors for the clean chunks that have none, in batches; then those of vanished chunks go. How many were new.

        `attempts` above 1 waits for an embedder or a store that is away. Raises Overtaken; what fails is on the rows
        of the batch, and raised.
        """
        namespace = namespace_of(document, cut.generation)
        embedder = self._generations.embedder(cut.generation.embedder)
        await self._store.ensure(namespace, embedder.dimension)
        stored = _NONE if plan.first else (await self._store.chunk_ids(namespace, document.id)).get(document.id, _NONE)
        clean = cut.clean
        fresh = [chunk for chunk in clean if chunk.id not in plan.ready or chunk.id not in stored]
        for number, batch in enumerate(_batches(fresh)):
            if number:
                await self._mark_before(document, fresh[(number - 1) * BATCH : number * BATCH])
            await self._batch(document, namespace, embedder, batch, attempts)
        await self._store.delete_chunks(namespace, sorted(stored - {chunk.id for chunk in clean}))
        self._metrics.ingest_chunks.inc(len(fresh))
        return len(fresh)

    async def settle(self, session: AsyncSession, document: Document, cut: Cut, plan: Plan) -> Document:
        """The rows are `ready`, superseded ones gone. The document as it is now, locked. Raises Overtaken."""
        kept = await present(session, document)
        rows = ChunkRepository(session, document.tenant_id)
        if not plan.first:
            await rows.remove_superseded(document.id)
        await rows.settle(document.id, cut.generation.id)
        return kept

    async def follow(self, document: Document, cut: Cut, plan: Plan) -> int:
        """A planned cut into a generation that does not answer; how many chunks were new. Raises Overtaken.

        What fails is on the rows, not raised: the document answers, the generation is behind.
        """
        try:
            return await self._complete(document, cut, plan)
        except Overtaken:
            raise
        except Exception as error:
            scope = {"document_id": document.id, "generation": cut.generation.id}
            log.warning("index generation falls behind", **scope, error=str(error))
            return 0

    async def withdraw(self, document: Document, cuts: Sequence[Cut]) -> None:
        """After Overtaken: vectors of ours that no row stands for any more are taken out again."""
        async with self._db.transaction(document.tenant_id) as session:
            known = await ChunkRepository(session, document.tenant_id).standing(document.id)
        for cut in cuts:
            left = [chunk.id for chunk in cut.chunks if chunk.id not in known]
            await self._store.delete_chunks(namespace_of(document, cut.generation), left)

    async def add(self, tenant_id: str, document_id: str, generation: Generation, *, attempts: int = 1) -> bool:
        """Puts a kept document into one more generation, beside what answers now; a rebuild is one call a document.

        False where the document is gone, or its newer content has a turn of its own.
        """
        async with self._db.transaction(tenant_id) as session:
            document = await DocumentRepository(session, tenant_id).find(document_id)
        if document is None or not document.body:
            return False
        cuts = [await self.cut(document, generation)]
        try:
            async with self._db.transaction(tenant_id) as session:
                await present(session, document)
                plan = await self.plan(session, document, cuts, alone=True)
            await self._complete(document, cuts[0], plan, attempts=attempts)
        except Overtaken:
            await self.withdraw(document, cuts)
            return False
        return True

    async def _complete(self, document: Document, cut: Cut, plan: Plan, *, attempts: int = 1) -> int:
        """`embed`, then `settle` in a transaction of its own; how many chunks were new."""
        embedded = await self.embed(document, cut, plan, attempts=attempts)
        async with self._db.transaction(document.tenant_id) as session:
            await self.settle(session, document, cut, plan)
        return embedded

    def _row(self, cut: Cut, chunk: Chunk) -> dict[str, Any]:
        found = cut.findings.get(chunk.id, ())
        return {
            "id": chunk.id,
            "created_at": self._clock(),
            "document_id": chunk.document_id,
            "generation": cut.generation.id,
            "ordinal": chunk.ordinal,
            "heading": chunk.heading,
            "text": chunk.text,
            "findings": [{"rule": finding.rule, "excerpt": finding.excerpt} for finding in found],
            # In quarantine nothing more is to come.
            "status": DocumentStatus.READY if found else DocumentStatus.QUEUED,
            "last_error": None,
            "superseded": False,
        }

    async def _mark_before(self, document: Document, batch: Sequence[Chunk]) -> None:
        """The batch before the next one is ready; the last one's rows are settled with the document."""
        async with self._db.transaction(document.tenant_id) as session:
            await present(session, document)
            rows = ChunkRepository(session, document.tenant_id)
            await rows.mark((chunk.id for chunk in batch), status=DocumentStatus.READY, last_error=None)

    async def _batch(
        self, document: Document, namespace: Namespace, embedder: Embedder, batch: Sequence[Chunk], attempts: int
    ) -> None:
        texts = [chunk.embedded_text for chunk in batch]
        try:
            with span(
                named(EMBEDDINGS, embedder.name),
                {OPERATION: EMBEDDINGS, MODEL: embedder.name, CHUNK_COUNT: len(batch)},
            ):
                vectors = await _patiently(lambda: embedder.embed(texts), attempts)
            with span(KNOWLEDGE_UPSERT, {CHUNK_COUNT: len(batch)}):
                await _patiently(lambda: self._store.upsert(namespace, batch, vectors), attempts)
        except Exception as error:
            async with self._db.transaction(document.tenant_id) as session:
                rows = ChunkRepository(session, document.tenant_id)
                ids = [chunk.id for chunk in batch]
                await rows.mark(ids, status=DocumentStatus.FAILED, last_error=sentence(error))
            raise


async def present(session: AsyncSession, document: Document) -> Document:
    """The document's row, locked. Raises Overtaken where it is gone or holds other content by now."""
    kept = await DocumentRepository(session, document.tenant_id).locked(document.id)
    if kept is None or kept.content_hash != document.content_hash:
        raise Overtaken
    return kept


def namespace_of(document: Document, generation: Generation) -> Namespace:
    return Namespace(document.tenant_id, document.bot, generation.id)


def sentence(error: Exception) -> str:
    """What a failure says to whoever put the document in: never more of an error that is not ours."""
    return error.detail if isinstance(error, TrellisError) else INTERNAL


def _is_stale(document: Document, generation: Generation) -> bool:
    """Whether the rows speak of another embedder's vectors: only the first generation's may change, by a setting."""
    return generation.id == FIRST and document.embedder != generation.embedder


def _changes(
    planned: Sequence[Mapping[str, Any]], known: Mapping[str, Standing], stale: set[str]
) -> tuple[list[dict[str, Any]], frozenset[str]]:
    """What differs in rows that stay, by column; and the ids whose vectors are good."""
    changes, ready = [], set()
    for row in planned:
        was = known.get(row["id"])
        if was is None:
            continue
        good = was.status == DocumentStatus.READY and not was.findings and row["generation"] not in stale
        status = DocumentStatus.READY if good else row["status"]
        if good:
            ready.add(was.id)
        wanted = (row["ordinal"], status, row["findings"], False)
        if (was.ordinal, was.status, was.findings, was.superseded) != wanted:
            names = ("id", "ordinal", "status", "findings", "superseded", "last_error")
            changes.append(dict(zip(names, (was.id, *wanted, None), strict=True)))
    return changes, frozenset(ready)


def _cut(document: Document, generation: Generation) -> Cut:
    chunks, whole = _chunks(document, generation)
    findings = {chunk.id: found for chunk in chunks if (found := suspicious(chunk.indexed_text))}
    if not findings and (spread := suspicious(whole)):
        # What only the whole text shows (a comment over two chunks) cannot be pinned to one of them.
        findings = {chunk.id: spread for chunk in chunks}
    return Cut(generation, chunks, findings)


def _chunks(document: Document, generation: Generation) -> tuple[list[Chunk], str]:
    """The chunks, and the whole text."""
    names = (document.id, document.slug, document.title)
    if document.media_type == CHUNKS:
        texts = orjson.loads(document.body)
        return chunk_given(*names, texts, document.tags, generation.id), "\n\n".join(texts)
    body = document.body
    return chunk_markdown(*names, body, document.tags, generation.bounds, generation.id), body


def _batches(chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
    for start in range(0, len(chunks), BATCH):
        yield chunks[start : start + BATCH]


async def _patiently(call: Callable[[], Awaitable[Result]], attempts: int) -> Result:
    """Again after 1, 2, 4 ... seconds, where the error passes by itself."""
    retries = stamina.AsyncRetryingCaller(
        attempts=attempts, timeout=None, wait_initial=FIRST_WAIT_S, wait_max=LONGEST_WAIT_S
    )
    return await retries(Retryable, call)
