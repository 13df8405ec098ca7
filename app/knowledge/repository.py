"""Queries of the room, each held to a tenant."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.ids import new_id
from app.knowledge.base import Namespace
from app.knowledge.models import ChunkRow, Document, KnowledgeIndex
from app.storage.repository import TenantRepository


class DocumentRepository(TenantRepository[Document]):
    model = Document
    noun = "document"

    async def by_slug(self, bot: str, slug: str) -> Document | None:
        return await self.first(Document.bot == bot, Document.slug == slug)

    async def of_bot(self, bot: str) -> Sequence[Document]:
        return await self.all(Document.bot == bot)


class ChunkRepository(TenantRepository[ChunkRow]):
    model = ChunkRow
    noun = "chunk"

    async def of_document(self, document_id: str) -> Sequence[ChunkRow]:
        query = self.query(ChunkRow.document_id == document_id).order_by(ChunkRow.ordinal)
        rows: Sequence[ChunkRow] = (await self.session.scalars(query)).all()
        return rows

    async def evidence_ids(self, bot: str) -> Mapping[str, frozenset[str]]:
        """By document, the chunks that should have a vector."""
        columns = select(ChunkRow.document_id, ChunkRow.id, ChunkRow.findings).join(Document)
        held = columns.where(ChunkRow.tenant_id == self.tenant_id, Document.bot == bot)
        found: dict[str, set[str]] = {}
        for document_id, chunk_id, findings in await self.session.execute(held):
            if not findings:
                found.setdefault(document_id, set()).add(chunk_id)
        return {document_id: frozenset(ids) for document_id, ids in found.items()}

    async def quarantined(self, bot: str) -> Sequence[ChunkRow]:
        """What a person should look at: chunks kept out of evidence, with why."""
        documents = select(Document.id).where(
            Document.tenant_id == self.tenant_id, Document.bot == bot, Document.quarantined_count > 0
        )
        rows = await self.all(ChunkRow.document_id.in_(documents))
        return [row for row in rows if row.quarantined]

    async def replace(self, document_id: str, rows: Sequence[ChunkRow]) -> None:
        await self.remove(document_id)
        for row in rows:
            self.add(row)

    async def remove(self, document_id: str) -> None:
        where = (ChunkRow.tenant_id == self.tenant_id, ChunkRow.document_id == document_id)
        await self.session.execute(delete(ChunkRow).where(*where))


class Pointers(NamedTuple):
    """The generation that answers, and the one that did before."""

    active: str
    previous: str | None


class IndexState(NamedTuple):
    """Where a bot's knowledge stands: its version, the generation that answers, and the one that did before."""

    version: int = 0
    active: str = ""
    previous: str | None = None


class IndexRepository(TenantRepository[KnowledgeIndex]):
    model = KnowledgeIndex
    noun = "knowledge index"

    async def state(self, bot: str) -> IndexState:
        """Version 0 and the first generation before the first change."""
        columns = select(KnowledgeIndex.version, KnowledgeIndex.active, KnowledgeIndex.previous)
        row = (await self.session.execute(columns.where(*self._of(bot)))).one_or_none()
        return IndexState(*row) if row else IndexState()

    async def bump(self, bot: str, clock: Clock, pointers: Pointers | None = None) -> IndexState:
        """The next version, counted by the database, so that two writers never give the same one; `pointers` are
        set with it."""
        values = pointers._asdict() if pointers else {}
        step = update(KnowledgeIndex).where(*self._of(bot)).values(version=KnowledgeIndex.version + 1, **values)
        columns = (KnowledgeIndex.version, KnowledgeIndex.active, KnowledgeIndex.previous)
        row = (await self.session.execute(step.returning(*columns))).one_or_none()
        if row is not None:
            return IndexState(*row)
        state = IndexState(1, *(pointers or ()))
        self.add(KnowledgeIndex(id=new_id("kix"), created_at=clock(), bot=bot, **state._asdict()))
        return state

    def _of(self, bot: str) -> tuple[ColumnElement[bool], ...]:
        return KnowledgeIndex.tenant_id == self.tenant_id, KnowledgeIndex.bot == bot


async def namespaces(session: AsyncSession) -> list[Namespace]:
    """Every namespace that has a document: for start-up work only, across tenants."""
    rows = await session.execute(select(Document.tenant_id, Document.bot).distinct())
    return [Namespace(tenant_id, bot) for tenant_id, bot in rows]
