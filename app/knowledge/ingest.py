"""Documents into the index: idempotent, restartable, with instructions to the agent kept out."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import structlog

from app.clock import Clock
from app.errors import InvalidInput, NotFound, TrellisError
from app.governance.injection import Finding, suspicious
from app.ids import new_id
from app.knowledge.base import Chunk, Embedder, Namespace, VectorStore
from app.knowledge.chunking import Bounds, chunk_markdown, front_matter
from app.knowledge.models import ChunkRow, Document, DocumentStatus
from app.knowledge.page import Page, check_scope
from app.knowledge.repository import ChunkRepository, DocumentRepository, namespaces
from app.knowledge.versions import IndexVersions
from app.storage.db import Database
from app.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a document.

    Args:
        changed: False where the same content was ready already and nothing was done.
        embedded: chunks that were new and had to be embedded.
        quarantined: chunks kept out of evidence.
    """

    document_id: str
    slug: str
    status: DocumentStatus
    changed: bool
    chunks: int
    embedded: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class _Screened:
    """The chunks of a document, and what was found in those that carry instructions."""

    chunks: Sequence[Chunk]
    findings: Mapping[str, Sequence[Finding]]

    @property
    def clean(self) -> list[Chunk]:
        return [chunk for chunk in self.chunks if chunk.id not in self.findings]


class Ingestor:
    """Keeps rows and vectors in step.

    The order of a put: row to `processing`; new vectors in; vectors of vanished chunks out; then rows, `ready`
    and the index version in one transaction. A crash between leaves `processing`, which `reconcile` repairs; a
    reader meanwhile sees old and new chunks of the document, never a foreign one. Work on one document is in
    turn inside a process; across processes its caller holds a job key a document.
    """

    def __init__(
        self,
        db: Database,
        store: VectorStore,
        embedder: Embedder,
        versions: IndexVersions,
        metrics: Metrics,
        clock: Clock,
        bounds: Bounds | None = None,
    ) -> None:
        self._db = db
        self._store = store
        self._embedder = embedder
        self._versions = versions
        self._metrics = metrics
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()

    async def put(
        self, tenant_id: str, bot: str, slug: str, title: str, text: str, tags: Sequence[str] = ()
    ) -> Ingested:
        """Puts a Markdown document in, in place of what the slug held; the same content again does nothing.

        Raises InvalidInput for content that cannot be kept; what fails later is on the row (`failed`,
        `last_error`) and raised, and the version that was ready before still answers.
        """
        return await self.process(tenant_id, await self.queue(tenant_id, bot, slug, title, text, tags))

    async def put_page(self, tenant_id: str, bot: str, source: str) -> Ingested:
        """A Markdown page whose front matter holds `slug`, `title` and perhaps `tags`."""
        meta, text = front_matter(source)
        slug, title, tags = meta.get("slug"), meta.get("title"), meta.get("tags") or []
        if not isinstance(slug, str) or not isinstance(title, str) or not isinstance(tags, list):
            raise InvalidInput("A page's front matter must hold 'slug' and 'title' as text, and 'tags' as a list.")
        return await self.put(tenant_id, bot, slug, title, text, [str(tag) for tag in tags])

    async def queue(self, tenant_id: str, bot: str, slug: str, title: str, text: str, tags: Sequence[str] = ()) -> str:
        """Keeps the document as `queued` for `process`, and answers its id; one that is ready and the same stays so."""
        page = Page(slug, title, text, tuple(tags))
        page.check()
        check_scope(tenant_id, bot)
        async with self._db.transaction() as session:
            documents = DocumentRepository(session, tenant_id)
            document = await documents.by_slug(bot, slug)
            if document is None:
                document = documents.add(self._blank(bot, slug))
            elif self._is_ready(document, page):
                return document.id
            document.title, document.body, document.tags = title, text, list(tags)
            document.content_hash, document.updated_at = page.content_hash, self._clock()
            document.status, document.last_error = DocumentStatus.QUEUED, None
        return document.id

    async def process(self, tenant_id: str, document_id: str) -> Ingested:
        """Chunks, screens, embeds and indexes a kept document. Safe to run again at any point."""
        async with self._db.reading() as session:
            document = await DocumentRepository(session, tenant_id).get(document_id)
        async with self._lock(Namespace(tenant_id, document.bot), document.slug):
            document = await self._start(tenant_id, document_id)
            if document.status == DocumentStatus.READY:
                return _outcome(document, embedded=0, changed=False)
            try:
                return await self._index(document)
            except Exception as error:
                await self._fail(document, error)
                raise

    async def delete(self, tenant_id: str, bot: str, slug: str) -> None:
        """Takes the document out of answers first, then out of the tables. Raises NotFound."""
        namespace = Namespace(tenant_id, bot)
        async with self._lock(namespace, slug):
            async with self._db.reading() as session:
                document = await DocumentRepository(session, tenant_id).by_slug(bot, slug)
            if document is None:
                raise NotFound(f"There is no document '{slug[:80]}' in the knowledge of '{bot[:80]}'.")
            await self._store.delete(namespace, [document.id])
            async with self._db.transaction() as session:
                await ChunkRepository(session, tenant_id).remove(document.id)
                await session.delete(document)
                version = await self._versions.bump(session, namespace)
            self._versions.moved(namespace, version)

    async def forget(self, tenant_id: str, bot: str) -> int:
        """Removes a bot's whole knowledge; answers how many documents there were."""
        namespace = Namespace(tenant_id, bot)
        await self._store.drop(namespace)
        async with self._db.transaction() as session:
            documents = await DocumentRepository(session, tenant_id).of_bot(bot)
            for document in documents:
                await ChunkRepository(session, tenant_id).remove(document.id)
                await session.delete(document)
            version = await self._versions.bump(session, namespace)
        self._versions.moved(namespace, version)
        return len(documents)

    async def reconcile(self) -> int:
        """Repairs what a crash, a changed embedder or a lost index left behind; answers how many documents.

        Meant for start-up, before anything is served. A document that fails again stays `failed` and does not
        stop the others.
        """
        async with self._db.reading() as session:
            found = await namespaces(session)
        return sum([await self._reconcile(namespace) for namespace in found])

    async def _reconcile(self, namespace: Namespace) -> int:
        stored = await self._store.chunk_ids(namespace)
        async with self._db.reading() as session:
            documents = await DocumentRepository(session, namespace.tenant_id).of_bot(namespace.bot)
            expected = await ChunkRepository(session, namespace.tenant_id).evidence_ids(namespace.bot)
        known = {document.id for document in documents}
        await self._store.delete(namespace, [document_id for document_id in stored if document_id not in known])
        none: frozenset[str] = frozenset()
        broken = [
            document
            for document in documents
            if self._needs_repair(document, stored.get(document.id, none), expected.get(document.id, none))
        ]
        for document in broken:
            await self._repair(document)
        return len(broken)

    def _needs_repair(self, document: Document, stored: frozenset[str], expected: frozenset[str]) -> bool:
        if document.status == DocumentStatus.READY:
            return document.embedder != self._embedder.name or stored != expected
        return document.status != DocumentStatus.FAILED

    async def _repair(self, document: Document) -> None:
        try:
            async with self._db.transaction() as session:
                row = await DocumentRepository(session, document.tenant_id).get(document.id)
                row.status = DocumentStatus.QUEUED
            await self.process(document.tenant_id, document.id)
        except TrellisError as error:
            log.error("document cannot be repaired", document_id=document.id, error=error.detail)

    def _lock(self, namespace: Namespace, slug: str) -> asyncio.Lock:
        return self._locks.setdefault((namespace.tenant_id, namespace.bot, slug), asyncio.Lock())

    def _blank(self, bot: str, slug: str) -> Document:
        return Document(
            id=new_id("doc"),
            created_at=self._clock(),
            bot=bot,
            slug=slug,
            embedder="",
            chunk_count=0,
            quarantined_count=0,
        )

    def _is_ready(self, document: Document, page: Page) -> bool:
        same = document.content_hash == page.content_hash and document.embedder == self._embedder.name
        return same and document.status == DocumentStatus.READY

    async def _start(self, tenant_id: str, document_id: str) -> Document:
        async with self._db.transaction() as session:
            document = await DocumentRepository(session, tenant_id).get(document_id)
            if document.status != DocumentStatus.READY:
                document.status, document.last_error = DocumentStatus.PROCESSING, None
        return document

    async def _index(self, document: Document) -> Ingested:
        namespace = Namespace(document.tenant_id, document.bot)
        # Regular expressions over a long document: not on the event loop.
        screened = await asyncio.to_thread(_screen, document, self._bounds)
        await self._store.ensure(namespace, self._embedder.dimension)
        stored = (await self._store.chunk_ids(namespace, document.id)).get(document.id, frozenset())
        clean = screened.clean
        # The same chunk under another embedder has another vector.
        known = stored if document.embedder == self._embedder.name else frozenset()
        fresh = [chunk for chunk in clean if chunk.id not in known]
        if fresh:
            vectors = await self._embedder.embed([chunk.indexed_text for chunk in fresh])
            await self._store.upsert(namespace, fresh, vectors)
        await self._store.delete_chunks(namespace, sorted(stored - {chunk.id for chunk in clean}))
        kept = await self._finish(namespace, document, screened)
        self._metrics.quarantined_chunks.inc(len(screened.findings))
        return _outcome(kept, embedded=len(fresh), changed=True)

    async def _finish(self, namespace: Namespace, document: Document, screened: _Screened) -> Document:
        async with self._db.transaction() as session:
            kept = await DocumentRepository(session, namespace.tenant_id).get(document.id)
            if kept.content_hash == document.content_hash:
                kept.status = DocumentStatus.READY
            # Otherwise newer content was queued meanwhile: its own `process` follows and finishes it.
            kept.embedder = self._embedder.name
            kept.chunk_count, kept.quarantined_count = len(screened.chunks), len(screened.findings)
            rows = [_row(chunk, screened.findings.get(chunk.id, ()), self._clock) for chunk in screened.chunks]
            await ChunkRepository(session, namespace.tenant_id).replace(document.id, rows)
            version = await self._versions.bump(session, namespace)
        self._versions.moved(namespace, version)
        return kept

    async def _fail(self, document: Document, error: Exception) -> None:
        said = error.detail if isinstance(error, TrellisError) else "An internal error stopped it: try again."
        log.error("document cannot be indexed", document_id=document.id, error=str(error))
        async with self._db.transaction() as session:
            kept = await DocumentRepository(session, document.tenant_id).find(document.id)
            if kept is not None and kept.content_hash == document.content_hash:
                kept.status, kept.last_error = DocumentStatus.FAILED, said


def _screen(document: Document, bounds: Bounds) -> _Screened:
    chunks = chunk_markdown(document.id, document.slug, document.title, document.body, document.tags, bounds)
    findings = {chunk.id: found for chunk in chunks if (found := suspicious(chunk.indexed_text))}
    whole = suspicious(document.body)
    if whole and not findings:
        # What only the whole text shows (a comment over two chunks) cannot be pinned to one of them.
        findings = {chunk.id: whole for chunk in chunks}
    return _Screened(chunks, findings)


def _row(chunk: Chunk, findings: Sequence[Finding], clock: Clock) -> ChunkRow:
    return ChunkRow(
        id=chunk.id,
        created_at=clock(),
        document_id=chunk.document_id,
        ordinal=chunk.ordinal,
        heading=chunk.heading,
        text=chunk.text,
        findings=[{"rule": finding.rule, "excerpt": finding.excerpt} for finding in findings],
    )


def _outcome(document: Document, *, embedded: int, changed: bool) -> Ingested:
    return Ingested(
        document_id=document.id,
        slug=document.slug,
        status=DocumentStatus(document.status),
        changed=changed,
        chunks=document.chunk_count,
        embedded=embedded,
        quarantined=document.quarantined_count,
    )
