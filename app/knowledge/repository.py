"""Queries of the room, each held to a tenant."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, String, case, cast, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from app.clock import Clock
from app.ids import new_id
from app.knowledge.base import Namespace
from app.knowledge.models import ChunkRow, Document, DocumentStatus, KnowledgeIndex, Upload
from app.storage.repository import TenantRepository

# SQLite takes 32,766 values in one statement, PostgreSQL the double.
_IN_ONE_STATEMENT = 1_000
UNFINISHED = (DocumentStatus.QUEUED, DocumentStatus.PROCESSING)


class DocumentRepository(TenantRepository[Document]):
    model = Document
    noun = "document"

    async def by_slug(self, bot: str, slug: str) -> Document | None:
        return await self.first(Document.bot == bot, Document.slug == slug)

    async def of_bot(self, bot: str) -> Sequence[Document]:
        return await self.all(Document.bot == bot)

    async def get_of_bot(self, bot: str, document_id: str) -> Document:
        """Raises NotFound; another bot's document is not found either."""
        document = await self.first(Document.id == document_id, Document.bot == bot)
        if document is None:
            raise self.not_found(document_id)
        return document

    async def locked(self, document_id: str) -> Document | None:
        """As it is now, held against everybody else until the transaction ends."""
        query = self.query(Document.id == document_id).with_for_update().execution_options(populate_existing=True)
        row: Document | None = (await self.session.scalars(query)).first()
        return row


class DocumentHeads(DocumentRepository):
    """Documents without their text, which may be a megabyte each."""

    def query(self, *where: ColumnElement[bool]) -> Select[Any]:
        return super().query(*where).options(defer(Document.body, raiseload=True))


class UploadRepository(TenantRepository[Upload]):
    model = Upload
    noun = "upload"

    async def put(self, document: Document, content: bytes) -> None:
        """In place of what was kept for the document."""
        await self.remove(document.id)
        self.add(Upload(id=document.id, created_at=document.updated_at, content=content))

    async def remove(self, document_id: str) -> None:
        where = (Upload.tenant_id == self.tenant_id, Upload.id == document_id)
        await self.session.execute(delete(Upload).where(*where))

    async def kept_bytes(self) -> int:
        """Of the tenant's files that wait to be read, or that could not be."""
        where = (Document.tenant_id == self.tenant_id, Document.status.in_((*UNFINISHED, DocumentStatus.FAILED)))
        size = select(func.sum(Document.size_bytes)).where(*where, Document.file_name.is_not(None))
        return await self.session.scalar(size) or 0


class Standing(NamedTuple):
    """How a chunk's row stands, without its text."""

    id: str
    generation: str
    ordinal: int
    status: str
    findings: list[Any]
    superseded: bool


class ChunkRepository(TenantRepository[ChunkRow]):
    model = ChunkRow
    noun = "chunk"

    async def of_document(self, document_id: str) -> Sequence[ChunkRow]:
        query = self.query(ChunkRow.document_id == document_id).order_by(ChunkRow.generation, ChunkRow.ordinal)
        rows: Sequence[ChunkRow] = (await self.session.scalars(query)).all()
        return rows

    async def after(self, document_id: str, generation: str, ordinal: int, limit: int) -> Sequence[ChunkRow]:
        """The present chunks of one generation in reading order, from behind `ordinal`."""
        held = (ChunkRow.document_id == document_id, ChunkRow.generation == generation, ChunkRow.ordinal > ordinal)
        query = self.query(*held, ChunkRow.superseded.is_(False)).order_by(ChunkRow.ordinal).limit(limit)
        rows: Sequence[ChunkRow] = (await self.session.scalars(query)).all()
        return rows

    async def standing(self, document_id: str) -> dict[str, Standing]:
        columns = [getattr(ChunkRow, name) for name in Standing._fields]
        found = await self.session.execute(select(*columns).where(*self._of(document_id)))
        return {row[0]: Standing(*row) for row in found}

    async def evidence_ids(
        self, bot: str, generation: str = "", document_id: str | None = None
    ) -> Mapping[str, frozenset[str]]:
        """By document, or of the one that is named, the chunks that should have a vector in the generation."""
        columns = select(ChunkRow.document_id, ChunkRow.id, ChunkRow.findings).join(Document)
        held = columns.where(
            ChunkRow.tenant_id == self.tenant_id, Document.bot == bot, ChunkRow.generation == generation
        )
        if document_id is not None:
            held = held.where(ChunkRow.document_id == document_id)
        found: dict[str, set[str]] = {}
        for document_id, chunk_id, findings in await self.session.execute(held):
            if not findings:
                found.setdefault(document_id, set()).add(chunk_id)
        return {document_id: frozenset(ids) for document_id, ids in found.items()}

    async def evidence_count(self, bot: str, generation: str) -> int:
        """How many chunks should have a vector in the generation."""
        documents = select(Document.id).where(Document.tenant_id == self.tenant_id, Document.bot == bot)
        held = (ChunkRow.tenant_id == self.tenant_id, ChunkRow.generation == generation)
        clean = cast(ChunkRow.findings, String) == "[]"
        query = select(func.count()).select_from(ChunkRow).where(*held, clean, ChunkRow.document_id.in_(documents))
        return int((await self.session.scalars(query)).one())

    async def counts(self, document_id: str) -> dict[str, dict[str, int]]:
        """By generation and status, the chunks of the present content."""
        columns = select(ChunkRow.generation, ChunkRow.status, func.count())
        held = columns.where(*self._of(document_id), ChunkRow.superseded.is_(False))
        found: dict[str, dict[str, int]] = {}
        for generation, status, count in await self.session.execute(
            held.group_by(ChunkRow.generation, ChunkRow.status)
        ):
            found.setdefault(generation, {})[status] = count
        return found

    async def progress(self, document_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """By document, how many chunks of its present content are ready, and how many there are, in all generations.

        One that has no chunks yet is left out.
        """
        ready = func.sum(case((ChunkRow.status == DocumentStatus.READY, 1), else_=0))
        columns = select(ChunkRow.document_id, ready, func.count())
        held = (ChunkRow.tenant_id == self.tenant_id, ChunkRow.document_id.in_(document_ids))
        query = columns.where(*held, ChunkRow.superseded.is_(False)).group_by(ChunkRow.document_id)
        return {document_id: (done, total) for document_id, done, total in await self.session.execute(query)}

    async def in_quarantine(self, document_id: str, generation: str) -> list[ChunkRow]:
        """Chunks of the document that are kept out of evidence, in reading order."""
        held = (ChunkRow.document_id == document_id, ChunkRow.generation == generation)
        rows = await self.session.scalars(self.query(*held).order_by(ChunkRow.ordinal))
        return [row for row in rows if row.quarantined]

    async def quarantined(self, bot: str) -> Sequence[ChunkRow]:
        """What a person should look at: chunks kept out of evidence, with why."""
        documents = select(Document.id).where(
            Document.tenant_id == self.tenant_id, Document.bot == bot, Document.quarantined_count > 0
        )
        rows = await self.all(ChunkRow.document_id.in_(documents))
        return [row for row in rows if row.quarantined]

    async def insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows by column, stamped with the repository's tenant."""
        if rows:
            await self.session.execute(insert(ChunkRow), [{**row, "tenant_id": self.tenant_id} for row in rows])

    async def change(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """New values of the rows' columns, by `id`; the ids are ones that `standing` gave."""
        if rows:
            await self.session.execute(update(ChunkRow), list(rows))

    async def mark(self, ids: Iterable[str], **values: Any) -> None:
        """The same values in each of the rows."""
        for part in _parts(ids):
            held = (ChunkRow.tenant_id == self.tenant_id, ChunkRow.id.in_(part))
            await self.session.execute(update(ChunkRow).where(*held).values(**values))

    async def remove_superseded(self, document_id: str) -> None:
        """What was replaced goes; with the rows of generations that are no more."""
        await self.session.execute(delete(ChunkRow).where(*self._of(document_id), ChunkRow.superseded.is_(True)))

    async def settle(self, document_id: str, generation: str) -> None:
        """What is indexed is ready."""
        held = (ChunkRow.generation == generation, ChunkRow.status != DocumentStatus.READY)
        ready = update(ChunkRow).where(*self._of(document_id), *held)
        await self.session.execute(ready.values(status=DocumentStatus.READY, last_error=None))

    async def remove(self, document_id: str) -> None:
        await self.session.execute(delete(ChunkRow).where(*self._of(document_id)))

    def _of(self, document_id: str) -> tuple[ColumnElement[bool], ...]:
        return ChunkRow.tenant_id == self.tenant_id, ChunkRow.document_id == document_id


_STATE = (KnowledgeIndex.version, KnowledgeIndex.active, KnowledgeIndex.previous)


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
        row = (await self.session.execute(select(*_STATE).where(*self._of(bot)))).one_or_none()
        return IndexState(*row) if row else IndexState()

    async def bump(self, bot: str, clock: Clock) -> IndexState:
        """The next version, counted by the database, so that two writers never give the same one; holds the bot's row
        for this transaction."""
        dialect = postgresql if self.session.get_bind().dialect.name == "postgresql" else sqlite
        first = {"version": 1, "active": "", "previous": None}
        row = dialect.insert(KnowledgeIndex).values(
            id=new_id("kix"), tenant_id=self.tenant_id, created_at=clock(), bot=bot, **first
        )
        step = row.on_conflict_do_update(
            index_elements=["tenant_id", "bot"], set_={"version": KnowledgeIndex.version + 1}
        )
        return IndexState(*(await self.session.execute(step.returning(*_STATE))).one())

    async def point(self, bot: str, pointers: Pointers) -> None:
        """To the generations that answer and did before. The row is there and held: see `bump`."""
        await self.session.execute(update(KnowledgeIndex).where(*self._of(bot)).values(pointers._asdict()))

    def _of(self, bot: str) -> tuple[ColumnElement[bool], ...]:
        return KnowledgeIndex.tenant_id == self.tenant_id, KnowledgeIndex.bot == bot


async def namespaces(session: AsyncSession) -> list[Namespace]:
    """Every namespace that has a document: for repairs only, across tenants."""
    rows = await session.execute(select(Document.tenant_id, Document.bot).distinct())
    return [Namespace(tenant_id, bot) for tenant_id, bot in rows]


async def lacking(
    session: AsyncSession, tenant_id: str, bot: str, generation_id: str, *, limit: int, after: str = ""
) -> list[str]:
    """Ids, from behind `after`, of ready documents that a generation holds no chunk of, or not every chunk yet."""
    rows = select(ChunkRow.status).where(
        ChunkRow.tenant_id == tenant_id,
        ChunkRow.document_id == Document.id,
        ChunkRow.generation == generation_id,
        ChunkRow.superseded.is_(False),
    )
    unfinished = rows.where(ChunkRow.status != DocumentStatus.READY).exists()
    wanting = or_(~rows.exists(), unfinished)
    held = (Document.tenant_id == tenant_id, Document.bot == bot, Document.status == DocumentStatus.READY)
    query = select(Document.id).where(*held, Document.chunk_count > 0, Document.id > after, wanting)
    return list((await session.scalars(query.order_by(Document.id).limit(limit))).all())


async def documents_of(session: AsyncSession, tenant_id: str, bot: str) -> int:
    held = (Document.tenant_id == tenant_id, Document.bot == bot)
    return int((await session.scalars(select(func.count()).select_from(Document).where(*held))).one())


async def unfinished(session: AsyncSession) -> list[tuple[str, str, str]]:
    """Tenant, document and job of what waits for a job, across tenants: for the sweep only."""
    columns = select(Document.tenant_id, Document.id, Document.job_id)
    rows = await session.execute(columns.where(Document.status.in_(UNFINISHED), Document.job_id.is_not(None)))
    return [(tenant_id, document_id, job_id or "") for tenant_id, document_id, job_id in rows]


async def count_by_status(session: AsyncSession) -> dict[str, int]:
    """Documents of all tenants by status, 0 for a status that none has."""
    rows = await session.execute(select(Document.status, func.count().label("documents")).group_by(Document.status))
    return dict.fromkeys(map(str, DocumentStatus), 0) | {row.status: row.documents for row in rows}


def _parts(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while part := list(islice(left, _IN_ONE_STATEMENT)):
        yield part
