"""The new side's vector index, made from the copied rows: everything in it derives from them."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, String, cast, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import ConfigError
from app.knowledge.base import Chunk, Embedder, Namespace, VectorStore
from app.knowledge.generations import Generations
from app.knowledge.models import ChunkRow, Document, KnowledgeIndex
from app.knowledge.repository import ChunkRepository
from app.storage.db import Database

READ_AT_ONCE: Final = 2_000
EMBEDDED_AT_ONCE: Final = 256
CHANGED_AT_ONCE: Final = 200
_NONE: Final[frozenset[str]] = frozenset()

Told = Callable[[int, int], None]
"""Hears how many chunks have their vector, of how many."""


class Changed(NamedTuple):
    """A document that was written, or is gone."""

    tenant_id: str
    document_id: str


@dataclass(frozen=True, slots=True)
class Filled:
    """What one turn did: chunks that were embedded, and vectors without a row that were taken out."""

    embedded: int = 0
    removed: int = 0

    def __add__(self, other: "Filled") -> "Filled":
        return Filled(self.embedded + other.embedded, self.removed + other.removed)


@dataclass(frozen=True, slots=True)
class Off:
    """An index that does not hold as many vectors as there are chunks for it."""

    namespace: Namespace
    rows: int
    vectors: int


class VectorFill:
    """Brings a store to what one side's rows say, and writes no row.

    A chunk's id is a hash of all that is searched of it (`app.knowledge.chunking`), so the same id is the same vector:
    what is there is skipped, and a turn that was cut short is gone on with. Vectors are made again from the chunks'
    text; the embedded index they could be copied from belongs to the server that still runs on it.
    """

    def __init__(self, db: Database, store: VectorStore, generations: Generations) -> None:
        self._db = db
        self._store = store
        self._generations = generations

    async def fill(self, told: Told = lambda _done, _total: None) -> Filled:
        """The whole index. Raises ConfigError for an embedder that the settings do not offer, Unavailable."""
        wanted = await self._wanted()
        done, total = 0, sum(wanted.values())

        def more(chunks: int) -> None:
            nonlocal done
            done += chunks
            # Rows may have come since they were counted.
            told(done, max(done, total))

        filled = Filled()
        for namespace in wanted:
            filled += await self._fill(namespace, more)
        return filled

    async def refresh(self, changed: Iterable[Changed]) -> Filled:
        """The vectors of these documents alone."""
        filled = Filled()
        for tenant_id, group in groupby(sorted(set(changed)), key=lambda one: one.tenant_id):
            ids = [one.document_id for one in group]
            for start in range(0, len(ids), CHANGED_AT_ONCE):
                filled += await self._refresh(tenant_id, ids[start : start + CHANGED_AT_ONCE])
        return filled

    async def off(self) -> list[Off]:
        """The indexes whose number of vectors is not that of their rows."""
        wanted = await self._wanted()
        counted = [Off(namespace, rows, await self._store.count(namespace)) for namespace, rows in wanted.items()]
        return [one for one in counted if one.rows != one.vectors]

    async def mend(self) -> Filled:
        """Fills the indexes that are `off`, so that nothing is missing after changes that name no document."""
        filled = Filled()
        for one in await self.off():
            filled += await self._fill(one.namespace, lambda _chunks: None)
        return filled

    async def _wanted(self) -> dict[Namespace, int]:
        """Every index that is answered from or kept up, with the number of its chunks."""
        async with self._db.operator_transaction() as session:
            bots = await _bots(session)
        wanted = {}
        for tenant_id, bot in bots:
            for generation in await self._generations.written(tenant_id, bot):
                async with self._db.transaction(tenant_id) as session:
                    count = await ChunkRepository(session, tenant_id).evidence_count(bot, generation.id)
                wanted[Namespace(tenant_id, bot, generation.id)] = count
        return wanted

    async def _fill(self, namespace: Namespace, told: Callable[[int], None]) -> Filled:
        await self._ensure(namespace)
        stored = await self._store.chunk_ids(namespace)
        left = {chunk_id: document_id for document_id, ids in stored.items() for chunk_id in ids}
        embedded = 0
        async for part in self._chunks(namespace):
            fresh = [chunk for chunk in part if left.pop(chunk.id, None) is None]
            await self._put(namespace, fresh)
            embedded += len(fresh)
            told(len(part))
        await self._store.delete_chunks(namespace, sorted(left))
        return Filled(embedded, len(left))

    async def _refresh(self, tenant_id: str, document_ids: Sequence[str]) -> Filled:
        async with self._db.transaction(tenant_id) as session:
            held = (Document.tenant_id == tenant_id, Document.id.in_(document_ids))
            found = await session.execute(select(Document.id, Document.bot).where(*held))
            bots = dict(found.tuples().all())
            known = [bot for _, bot in await _bots(session, tenant_id)]
        filled = Filled()
        for bot in known:
            mine = [id for id in document_ids if bots.get(id, bot) == bot]
            for generation in await self._generations.written(tenant_id, bot):
                filled += await self._bring(Namespace(tenant_id, bot, generation.id), mine)
        return filled

    async def _bring(self, namespace: Namespace, document_ids: Sequence[str]) -> Filled:
        if not document_ids:
            return Filled()
        await self._ensure(namespace)
        stored = {id: (await self._store.chunk_ids(namespace, id)).get(id, _NONE) for id in document_ids}
        left = {chunk for ids in stored.values() for chunk in ids}
        fresh = []
        async for part in self._chunks(namespace, document_ids):
            fresh += [chunk for chunk in part if chunk.id not in left]
            left -= {chunk.id for chunk in part}
        await self._put(namespace, fresh)
        await self._store.delete_chunks(namespace, sorted(left))
        return Filled(len(fresh), len(left))

    async def _ensure(self, namespace: Namespace) -> None:
        await self._store.ensure(namespace, (await self._embedder(namespace)).dimension)

    async def _embedder(self, namespace: Namespace) -> Embedder:
        generation = await self._generations.get(namespace.tenant_id, namespace.generation)
        return self._generations.embedder(generation.embedder)

    async def _put(self, namespace: Namespace, chunks: Sequence[Chunk]) -> None:
        embedder = await self._embedder(namespace)
        for start in range(0, len(chunks), EMBEDDED_AT_ONCE):
            part = chunks[start : start + EMBEDDED_AT_ONCE]
            vectors = await embedder.embed([chunk.embedded_text for chunk in part])
            await self._store.upsert(namespace, part, vectors)

    async def _chunks(self, namespace: Namespace, document_ids: Sequence[str] = ()) -> AsyncIterator[Sequence[Chunk]]:
        after = ""
        while True:
            async with self._db.transaction(namespace.tenant_id) as session:
                rows = (await session.execute(_page(namespace, after, document_ids))).all()
            yield [_chunk(row) for row in rows]
            if len(rows) < READ_AT_ONCE:
                return
            after = rows[-1].id


async def _bots(session: AsyncSession, tenant_id: str | None = None) -> list[tuple[str, str]]:
    """Tenant and bot of every knowledge, also of one whose documents are all gone."""
    queries = [select(kind.tenant_id, kind.bot).distinct() for kind in (Document, KnowledgeIndex)]
    if tenant_id is not None:
        queries = [query.where(query.selected_columns.tenant_id == tenant_id) for query in queries]
    rows = await session.execute(union(*queries))
    return sorted((tenant, bot) for tenant, bot in rows)


async def refuse_another_embedder(session: AsyncSession, generations: Generations) -> None:
    """Raises ConfigError where documents are embedded by another embedder than this side's."""
    wanted = generations.first.embedder
    names = select(Document.embedder).where(Document.embedder.not_in(("", wanted))).distinct()
    other = (await session.scalars(names.limit(1))).first()
    if other is not None:
        raise ConfigError(
            f"The documents are embedded by '{other}', the new side's settings say '{wanted}': promote with the same "
            "TRELLIS_EMBEDDING settings, and change the embedder afterwards with a rebuild of each index."
        )


def _page(namespace: Namespace, after: str, document_ids: Sequence[str]) -> Select[Any]:
    """Chunks that should have a vector, in the order of their ids."""
    columns = (ChunkRow.id, ChunkRow.document_id, ChunkRow.heading, ChunkRow.ordinal, ChunkRow.text)
    of_document = (Document.slug, Document.title, Document.tags)
    query = (
        select(*columns, *of_document)
        .join(Document)
        .where(
            ChunkRow.tenant_id == namespace.tenant_id,
            Document.bot == namespace.bot,
            ChunkRow.generation == namespace.generation,
            cast(ChunkRow.findings, String) == "[]",
            ChunkRow.id > after,
        )
    )
    if document_ids:
        query = query.where(ChunkRow.document_id.in_(document_ids))
    return query.order_by(ChunkRow.id).limit(READ_AT_ONCE)


def _chunk(row: Any) -> Chunk:
    return Chunk(row.id, row.document_id, row.slug, row.title, row.heading, row.ordinal, row.text, tuple(row.tags))
