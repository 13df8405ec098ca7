"""Documents into the index: idempotent, restartable, with instructions to the agent kept out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from time import perf_counter
from typing import Protocol
from weakref import WeakValueDictionary

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.cache.base import bot_tag, document_tag
from app.clock import Clock
from app.errors import ConfigError, Conflict, InvalidInput, NotFound
from app.ids import new_id
from app.knowledge.base import Namespace, Reader, VectorStore
from app.knowledge.chunking import front_matter
from app.knowledge.generations import FIRST, Generation, Generations
from app.knowledge.indexing import Cut, Indexer, Overtaken, Plan, present, sentence
from app.knowledge.models import Document, DocumentStatus
from app.knowledge.page import File, Page, check_scope, title_of
from app.knowledge.repository import DocumentHeads, DocumentRepository, UploadRepository
from app.knowledge.versions import IndexVersions
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from app.telemetry.names import KNOWLEDGE_PARSE, MEDIA_TYPE
from app.telemetry.spans import span

log = structlog.get_logger(__name__)

Within = Callable[[AsyncSession], Awaitable[None]]


class Caches(Protocol):
    async def drop(self, *tags: str) -> int:
        """Removes what was made from the things that the tags name, in every tier."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a document.

    Args:
        changed: False where the same content was ready already and nothing was done.
        embedded: chunks that were new and had to be embedded, over all generations of the index.
        quarantined: chunks kept out of evidence.
    """

    document_id: str
    slug: str
    status: DocumentStatus
    changed: bool
    chunks: int
    embedded: int
    quarantined: int


class Ingestor:
    """Keeps rows and vectors in step.

    The order: the document's row; its chunks' rows, `queued`; new vectors in, batch by batch; vectors of vanished
    chunks out; then `ready` and the index version in one transaction. A crash between leaves what a second run goes
    on from. A reader meanwhile sees old and new chunks of the document, never a foreign one. Who comes second to a
    document that changed or went meanwhile takes its own vectors out again, so a delete waits for nobody.

    A document is ready when the generation that answers holds it; the others follow, and one that cannot be written to
    falls behind (`app.knowledge.repair` brings what it lacks).

    Args:
        reader: without one, files are refused.
        caches: told of every document that changes or goes.
    """

    def __init__(
        self,
        db: Database,
        store: VectorStore,
        generations: Generations,
        versions: IndexVersions,
        metrics: Metrics,
        clock: Clock,
        *,
        reader: Reader | None = None,
        caches: Caches | None = None,
    ) -> None:
        self._db = db
        self._store = store
        self._generations = generations
        self._versions = versions
        self._metrics = metrics
        self._clock = clock
        self._reader = reader
        self._caches = caches
        self._indexer = Indexer(db, store, generations, metrics, clock)
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    @property
    def indexer(self) -> Indexer:
        return self._indexer

    async def put(
        self, tenant_id: str, bot: str, slug: str, title: str, text: str, tags: Sequence[str] = ()
    ) -> Ingested:
        """Puts a Markdown document in, in place of what the slug held; the same content again does nothing.

        Raises InvalidInput for content that cannot be kept; what fails later is on the row (`failed`,
        `last_error`) and raised, and the version that was ready before still answers.
        """
        async with self._db.transaction(tenant_id) as session:
            document, _ = await self.keep(session, tenant_id, bot, Page(slug, title, text, tuple(tags)))
            # Nobody else is to take it up.
            document.job_id = None
            written = await self._generations.written_in(session, tenant_id, bot)
        return await self._ingest(document, None, written, attempts=1)

    async def put_page(self, tenant_id: str, bot: str, source: str) -> Ingested:
        """A Markdown page whose front matter holds `slug`, `title` and perhaps `tags`."""
        meta, text = front_matter(source)
        slug, title, tags = meta.get("slug"), meta.get("title"), meta.get("tags") or []
        if not isinstance(slug, str) or not isinstance(title, str) or not isinstance(tags, list):
            raise InvalidInput("A page's front matter must hold 'slug' and 'title' as text, and 'tags' as a list.")
        return await self.put(tenant_id, bot, slug, title, text, [str(tag) for tag in tags])

    async def keep(self, session: AsyncSession, tenant_id: str, bot: str, given: Page | File) -> tuple[Document, bool]:
        """Keeps what was given as `queued`, and whether it is new; what is ready, or under way, and the same stays so.

        Raises InvalidInput or TooLarge for what cannot be kept, Conflict for a file where one of another kind stands.
        """
        given.check()
        check_scope(tenant_id, bot)
        documents = DocumentRepository(session, tenant_id)
        known = await documents.by_slug(bot, given.slug)
        if known is not None and isinstance(given, File):
            _refuse_other_kind(known, given)
        document = known or documents.add(self._blank(bot, given.slug))
        if known and document.content_hash == given.content_hash and self._stands(document):
            return document, False
        self._fill_in(document, given)
        try:
            await session.flush()
        except IntegrityError as error:
            raise Conflict(f"'{given.slug}' is being put in by another request as well: try again.") from error
        uploads = UploadRepository(session, tenant_id)
        if isinstance(given, File):
            await uploads.put(document, given.content)
        elif known:
            await uploads.remove(document.id)
        return document, True

    async def process(self, tenant_id: str, document_id: str, *, attempts: int = 1) -> Ingested:
        """Reads, chunks, screens, embeds and indexes a kept document. Safe to run again at any point.

        `attempts` above 1 waits for an embedder that is away. Raises NotFound for a document that is gone.
        """
        async with self._db.transaction(tenant_id) as session:
            document = await DocumentRepository(session, tenant_id).get(document_id)
            content = await self._content(session, document)
            written = await self._generations.written_in(session, tenant_id, document.bot)
        return await self._ingest(document, content, written, attempts=attempts)

    async def delete(self, tenant_id: str, bot: str, slug: str) -> None:
        """As `remove`, by slug."""
        async with self._db.transaction(tenant_id) as session:
            document = await DocumentHeads(session, tenant_id).by_slug(bot, slug)
        if document is None:
            raise NotFound(f"There is no document '{slug[:80]}' in the knowledge of '{bot[:80]}'.")
        await self.remove(tenant_id, bot, document.id)

    async def remove(self, tenant_id: str, bot: str, document_id: str, within: Within | None = None) -> None:
        """Takes the document out of answers first, then out of the tables, then what caches made of it.

        `within` runs in the transaction that removes the rows. Raises NotFound.
        """
        async with self._db.transaction(tenant_id) as session:
            await DocumentHeads(session, tenant_id).get_of_bot(bot, document_id)
        written = await self._generations.written(tenant_id, bot)
        await self._take_out(tenant_id, bot, written, [document_id])
        async with self._db.transaction(tenant_id) as session:
            await session.delete(await DocumentHeads(session, tenant_id).get_of_bot(bot, document_id))
            state = await self._versions.bump(session, Namespace(tenant_id, bot))
            if within is not None:
                await within(session)
        self._versions.moved(Namespace(tenant_id, bot), state)
        # A job may have put a batch in before it could see that the rows are gone.
        await self._take_out(tenant_id, bot, written, [document_id])
        await self._forget_answers(document_tag(tenant_id, document_id), bot_tag(tenant_id, bot))

    async def forget(self, tenant_id: str, bot: str, within: Within | None = None) -> int:
        """Removes a bot's whole knowledge; answers how many documents there were. `within` as in `remove`."""
        written = await self._generations.written(tenant_id, bot)
        for generation in written:
            await self._store.drop(Namespace(tenant_id, bot, generation.id))
        async with self._db.transaction(tenant_id) as session:
            documents = await DocumentHeads(session, tenant_id).of_bot(bot)
            for document in documents:
                await session.delete(document)
            state = await self._versions.bump(session, Namespace(tenant_id, bot))
            if within is not None:
                await within(session)
        self._versions.moved(Namespace(tenant_id, bot), state)
        await self._take_out(tenant_id, bot, written, [document.id for document in documents])
        await self._forget_answers(bot_tag(tenant_id, bot))
        return len(documents)

    async def fail(self, document: Document, error: Exception) -> None:
        """Says on the row what went wrong, unless other content took its place."""
        log.error("document cannot be indexed", document_id=document.id, error=str(error))
        async with self._db.transaction(document.tenant_id) as session:
            kept = await DocumentRepository(session, document.tenant_id).locked(document.id)
            if kept is not None and kept.content_hash == document.content_hash:
                kept.status, kept.last_error = DocumentStatus.FAILED, sentence(error)

    async def _content(self, session: AsyncSession, document: Document) -> bytes | None:
        """The file that is still to be read, whose document is `processing` from now on."""
        if document.file_name is None:
            return None
        upload = await UploadRepository(session, document.tenant_id).find(document.id)
        if upload is None:
            return None
        document.status = DocumentStatus.PROCESSING
        return upload.content

    async def _ingest(
        self, document: Document, content: bytes | None, written: Sequence[Generation], *, attempts: int
    ) -> Ingested:
        if document.status == DocumentStatus.READY:
            self._metrics.ingest_documents.labels(outcome="unchanged").inc()
            return _outcome(document, embedded=0, changed=False)
        started = perf_counter()
        async with self._locks.setdefault((document.tenant_id, document.id), asyncio.Lock()):
            try:
                await self._read(document, content)
                done, outcome = await self._index(document, written, attempts), "ready"
            except Overtaken:
                done, outcome = await self._overtaken(document), "overtaken"
            except Exception as error:
                self._metrics.ingest_documents.labels(outcome="failed").inc()
                await self.fail(document, error)
                raise
        self._metrics.ingest_documents.labels(outcome=outcome).inc()
        self._metrics.ingest_duration_seconds.observe(perf_counter() - started)
        return done

    async def _index(self, document: Document, written: Sequence[Generation], attempts: int) -> Ingested:
        cuts = [await self._indexer.cut(document, generation) for generation in written]
        plan = await self._plan(document, cuts)
        active, *others = cuts
        try:
            embedded = await self._indexer.embed(document, active, plan, attempts=attempts)
            kept = await self._finish(document, active, plan)
            await self._forget_answers(document_tag(document.tenant_id, document.id))
            for cut in others:
                embedded += await self._indexer.follow(document, cut, plan)
        except Overtaken:
            await self._indexer.withdraw(document, cuts)
            raise
        self._metrics.quarantined_chunks.inc(len(active.findings))
        return _outcome(kept, embedded=embedded, changed=True)

    async def _read(self, document: Document, content: bytes | None) -> None:
        """Gives the document the text of its file, where it was given as one; `_plan` keeps it."""
        if content is None:
            return
        if self._reader is None:
            raise ConfigError("This process reads no files: put the text in instead.")
        with span(KNOWLEDGE_PARSE, {MEDIA_TYPE: document.media_type}):
            found = await self._reader.text(content, document.media_type, document.file_name)
        if found.title and document.title == title_of(document.file_name or ""):
            document.title = found.title.strip()[:200] or document.title
        document.body, document.warnings = found.text, list(found.warnings)
        Page(document.slug, document.title, document.body, tuple(document.tags)).check()

    async def _plan(self, document: Document, cuts: Sequence[Cut]) -> Plan:
        async with self._db.transaction(document.tenant_id) as session:
            kept = await present(session, document)
            plan = await self._indexer.plan(session, kept, cuts)
            kept.status, kept.last_error = DocumentStatus.PROCESSING, None
            kept.title, kept.body, kept.warnings = document.title, document.body, document.warnings
            kept.chunk_count, kept.quarantined_count = len(cuts[0].chunks), len(cuts[0].findings)
            first = (cut.generation.embedder for cut in cuts if cut.generation.id == FIRST)
            kept.embedder = next(first, "")
        return plan

    async def _finish(self, document: Document, active: Cut, plan: Plan) -> Document:
        namespace = Namespace(document.tenant_id, document.bot)
        async with self._db.transaction(document.tenant_id) as session:
            kept = await self._indexer.settle(session, document, active, plan)
            kept.status = DocumentStatus.READY
            if kept.file_name is not None:
                await UploadRepository(session, document.tenant_id).remove(document.id)
            state = await self._versions.bump(session, namespace)
        self._versions.moved(namespace, state)
        return kept

    async def _overtaken(self, document: Document) -> Ingested:
        """How the document stands that newer content took over. Raises NotFound for one that was deleted."""
        async with self._db.transaction(document.tenant_id) as session:
            now = await DocumentRepository(session, document.tenant_id).get(document.id)
        return _outcome(now, embedded=0, changed=False)

    async def _take_out(
        self, tenant_id: str, bot: str, written: Sequence[Generation], document_ids: Sequence[str]
    ) -> None:
        for generation in written:
            await self._store.delete(Namespace(tenant_id, bot, generation.id), document_ids)

    async def _forget_answers(self, *tags: str) -> None:
        if self._caches is not None:
            await self._caches.drop(*tags)

    def _stands(self, document: Document) -> bool:
        """Whether nothing is to be done for it: it is ready with the settings' embedder, or has a job."""
        if document.status == DocumentStatus.READY:
            return document.embedder in ("", self._generations.first.embedder)
        return document.status != DocumentStatus.FAILED and document.job_id is not None

    def _blank(self, bot: str, slug: str) -> Document:
        now = self._clock()
        return Document(
            id=new_id("doc"),
            created_at=now,
            bot=bot,
            slug=slug,
            embedder="",
            body="",
            chunk_count=0,
            quarantined_count=0,
        )

    def _fill_in(self, document: Document, given: Page | File) -> None:
        document.tags, document.media_type = list(given.tags), given.media_type
        document.content_hash, document.updated_at = given.content_hash, self._clock()
        document.status, document.last_error, document.warnings = DocumentStatus.QUEUED, None, []
        if isinstance(given, File):
            document.title, document.file_name = given.kept_title, given.file_name
            document.size_bytes = len(given.content)
        else:
            document.title, document.body, document.file_name = given.title, given.text, None
            document.size_bytes = len(given.text.encode())


def _refuse_other_kind(known: Document, given: File) -> None:
    """`plan.docx` does not silently take the place of `plan.pdf`, unless that could not be read."""
    if known.status == DocumentStatus.FAILED or known.file_name is None:
        return
    if PurePath(known.file_name).suffix != PurePath(given.file_name).suffix:
        raise Conflict(
            f"'{given.slug}' is '{known.file_name[:80]}': give '{given.file_name[:80]}' a slug of its own, or delete "
            "that document first."
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
