"""What a crash, a lost index, a changed embedder or one that was away left behind, brought in order from the tables."""

from collections.abc import Mapping, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import TrellisError
from app.knowledge.base import Namespace, VectorStore
from app.knowledge.generations import FIRST, Generation, Generations
from app.knowledge.indexing import namespace_of
from app.knowledge.ingest import Ingestor
from app.knowledge.models import Document, DocumentStatus
from app.knowledge.repository import ChunkRepository, DocumentHeads, lacking, namespaces
from app.storage.db import Database

# Documents that one generation is brought in one turn: the next turn goes on.
CAUGHT_UP_AT_ONCE = 1_000
_NONE: frozenset[str] = frozenset()

log = structlog.get_logger(__name__)

Stored = Mapping[str, frozenset[str]]


class Repairs:
    """Everything in the vector store derives from the tables: whatever differs is made again.

    Safe beside a server that takes documents in: what looked wrong is looked at once more, with its row held, before
    anything is done to it.
    """

    def __init__(self, db: Database, store: VectorStore, generations: Generations, ingestor: Ingestor) -> None:
        self._db = db
        self._store = store
        self._generations = generations
        self._ingestor = ingestor

    async def reconcile(self, *, suspected: bool = False) -> int:
        """Compares indexes with the tables, chunk by chunk; answers how many documents it indexed anew.

        Vectors without a row go. A document that fails again stays `failed` and does not stop the others; one that
        has a job is the job's. What a generation that does not answer has lost is left to `catch_up`.

        Args:
            suspected: only the bots whose numbers of vectors and of rows differ, or whose embedder changed.
        """
        # The writer: to a replica that lags a new document would be a stranger.
        async with self._db.operator_transaction() as session:
            found = await namespaces(session)
        chosen = [one for one in found if not suspected or await self._is_suspect(one)]
        return sum([await self._reconcile(namespace) for namespace in chosen])

    async def catch_up(self) -> int:
        """Brings documents to generations that are kept up and lack them; answers how many. A generation that cannot
        be written to stays behind until the next time."""
        async with self._db.operator_transaction() as session:
            found = await namespaces(session)
        return sum([await self._catch_up(namespace) for namespace in found])

    async def _is_suspect(self, namespace: Namespace) -> bool:
        tenant_id, bot, _ = namespace
        written = await self._generations.written(tenant_id, bot)
        counts = [await self._store.count(namespace._replace(generation=one.id)) for one in written]
        async with self._db.transaction(namespace.tenant_id) as session:
            chunks = ChunkRepository(session, tenant_id)
            expected = [await chunks.evidence_count(bot, one.id) for one in written]
            documents = await DocumentHeads(session, tenant_id).of_bot(bot)
        return counts != expected or any(self._is_left(one, written[0]) for one in documents)

    async def _reconcile(self, namespace: Namespace) -> int:
        tenant_id, bot, _ = namespace
        active, *others = await self._generations.written(tenant_id, bot)
        for generation in others:
            await self._mend(namespace._replace(generation=generation.id))
        stored = await self._mend(namespace._replace(generation=active.id), answers=True)
        async with self._db.transaction(namespace.tenant_id) as session:
            documents = await DocumentHeads(session, tenant_id).of_bot(bot)
            expected = await ChunkRepository(session, tenant_id).evidence_ids(bot, active.id)
        broken = [one for one in documents if self._is_broken(one, active, stored, expected)]
        return sum([await self._repair(document, active) for document in broken])

    async def _mend(self, namespace: Namespace, *, answers: bool = False) -> Stored:
        """Vectors without a row go; rows without a vector are `queued` again, but for the index that answers: its
        documents are looked at one by one. What is stored."""
        # Before the rows are read, and rows come before vectors: what came in between is then no stranger.
        stored = await self._store.chunk_ids(namespace)
        async with self._db.transaction(namespace.tenant_id) as session:
            chunks = ChunkRepository(session, namespace.tenant_id)
            expected = await chunks.evidence_ids(namespace.bot, namespace.generation)
            if not answers:
                await chunks.mark(_missing(expected, stored), status=DocumentStatus.QUEUED)
        await self._store.delete_chunks(namespace, _missing(stored, expected))
        return stored

    def _is_broken(self, document: Document, active: Generation, stored: Stored, expected: Stored) -> bool:
        lost = expected.get(document.id, _NONE) - stored.get(document.id, _NONE)
        return self._is_left(document, active) or (document.status == DocumentStatus.READY and bool(lost))

    def _is_left(self, document: Document, active: Generation) -> bool:
        """Whether its vectors are of an embedder that answers no more, or its work was interrupted without a job."""
        if document.status == DocumentStatus.READY:
            return active.id == FIRST and document.embedder not in ("", active.embedder)
        return document.status != DocumentStatus.FAILED and document.job_id is None

    async def _repair(self, document: Document, active: Generation) -> bool:
        stored = await self._store.chunk_ids(namespace_of(document, active), document.id)
        try:
            async with self._db.transaction(document.tenant_id) as session:
                if not await self._take(session, document, active, stored):
                    return False
            await self._ingestor.process(document.tenant_id, document.id)
        except TrellisError as error:
            log.error("document cannot be repaired", document_id=document.id, error=error.detail)
        return True

    async def _take(self, session: AsyncSession, document: Document, active: Generation, stored: Stored) -> bool:
        """Queues the document without a job, where it is as it was and still broken."""
        row = await DocumentHeads(session, document.tenant_id).locked(document.id)
        if row is None or (row.content_hash, row.status) != (document.content_hash, document.status):
            return False
        expected = await ChunkRepository(session, row.tenant_id).evidence_ids(row.bot, active.id, row.id)
        if not self._is_broken(row, active, stored, expected):
            return False
        row.status, row.job_id = DocumentStatus.QUEUED, None
        return True

    async def _catch_up(self, namespace: Namespace) -> int:
        tenant_id, bot, _ = namespace
        done = 0
        for generation in await self._generations.followers(tenant_id, bot):
            async with self._db.transaction(namespace.tenant_id) as session:
                missing = await lacking(session, tenant_id, bot, generation.id, limit=CAUGHT_UP_AT_ONCE)
            done += await self._bring(tenant_id, generation, missing)
        return done

    async def _bring(self, tenant_id: str, generation: Generation, document_ids: Sequence[str]) -> int:
        """How many came in before one did not."""
        for done, document_id in enumerate(document_ids):
            try:
                await self._ingestor.indexer.add(tenant_id, document_id, generation)
            except Exception as error:  # whatever it is, the other generations are not to wait for this one
                log.warning("index generation stays behind", generation=generation.id, error=str(error))
                return done
        return len(document_ids)


def _missing(wanted: Stored, held: Stored) -> list[str]:
    """Chunks of `wanted` that `held` lacks."""
    return sorted(chunk_id for document, ids in wanted.items() for chunk_id in ids - held.get(document, _NONE))
