"""The new side's vector index, made from the copied rows: everything in it derives from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final

from sqlalchemy import String, cast, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from app.container.index import Index
from app.errors import ConfigError, TrellisError, Unavailable
from app.knowledge.base import Chunk, Namespace
from app.knowledge.models import ChunkRow, Document, KnowledgeIndex
from app.promotion.side import parts
from app.promotion.steps import Context, Finding, StepReport

NAME: Final = "vectors"
EMBEDDED_AT_ONCE: Final = 256
SETTLED_AT_MOST: Final = 5_000
"""Chunks that a switch waits for: about a second and a half of embedding inside the process."""

Told = Callable[[int, int], None]
"""Hears how many chunks have their vector, of how many."""
Held = set[str]
"""Ids of chunks that an index holds."""


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
    """Brings an index to what its side's rows say, and writes no row.

    A chunk's id is a hash of all that is searched of it (`app.knowledge.chunking`), so the same id is the same vector:
    what is there is skipped, and a turn that was cut short is gone on with. Vectors are made again from the chunks'
    text; the embedded index they could be copied from belongs to the server that still runs on it. What the index
    holds is asked once and remembered: nobody else writes to it.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._held: dict[Namespace, Held] = {}

    async def fill(self, told: Told = lambda _done, _total: None, *, at_most: int | None = None) -> Filled:
        """Raises ConfigError for an embedder that the settings do not offer; Unavailable where the index is away, or
        lacks more than `at_most` chunks, and then nothing was done."""
        wanted = {namespace: await self._wanted(namespace) for namespace in await self._namespaces()}
        lacking = {name: sorted(chunks - await self._stored(name, chunks)) for name, chunks in wanted.items()}
        total, left = sum(map(len, wanted.values())), sum(map(len, lacking.values()))
        if at_most is not None and left > at_most:
            raise Unavailable(
                f"{left:,} pieces of documents came in since the last look, more than {at_most:,}: try again when "
                "fewer documents are being put in.",
                retry_after=60,
            )
        filled = Filled()
        told(total - left, total)
        for namespace, chunks in wanted.items():
            for part in parts(lacking[namespace], EMBEDDED_AT_ONCE):
                filled += Filled(embedded=await self._embed(namespace, part))
                left -= len(part)
                told(total - left, total)
            filled += await self._take_out(namespace, chunks)
        return filled

    async def off(self) -> list[Off]:
        """The indexes whose number of vectors is not that of their rows, as they were at the last `fill`."""
        found = []
        for namespace in await self._namespaces():
            held = self._held.get(namespace)
            rows = len(await self._wanted(namespace) if held is None else held)
            vectors = await self._index.store.count(namespace)
            found += [Off(namespace, rows, vectors)] if rows != vectors else []
        return found

    async def _namespaces(self) -> list[Namespace]:
        """Every index that is answered from or kept up, also of a bot whose documents are all gone."""
        async with self._index.db.operator_reading() as session:
            queries = [select(kind.tenant_id, kind.bot).distinct() for kind in (Document, KnowledgeIndex)]
            bots = (await session.execute(union(*queries))).all()
            return [
                Namespace(tenant_id, bot, generation.id)
                for tenant_id, bot in sorted(bots)
                for generation in await self._index.generations.written_in(session, tenant_id, bot)
            ]

    async def _wanted(self, namespace: Namespace) -> Held:
        async with self._index.db.reading(namespace.tenant_id) as session:
            chunks = select(ChunkRow.id).join(Document)
            return set((await session.scalars(chunks.where(*_evidence(namespace)))).all())

    async def _stored(self, namespace: Namespace, wanted: Held) -> Held:
        if namespace not in self._held:
            if wanted:
                embedder = await self._embedder(namespace)
                await self._index.store.ensure(namespace, embedder.dimension)
            by_document = await self._index.store.chunk_ids(namespace)
            self._held[namespace] = {chunk for chunks in by_document.values() for chunk in chunks}
        return self._held[namespace]

    async def _embed(self, namespace: Namespace, ids: Sequence[str]) -> int:
        """Fewer than asked for where documents went meanwhile."""
        async with self._index.db.reading(namespace.tenant_id) as session:
            chunks = await _chunks(session, namespace, ids)
        embedder = await self._embedder(namespace)
        vectors = await embedder.embed([chunk.embedded_text for chunk in chunks])
        await self._index.store.upsert(namespace, chunks, vectors)
        self._held[namespace] |= {chunk.id for chunk in chunks}
        return len(chunks)

    async def _take_out(self, namespace: Namespace, wanted: Held) -> Filled:
        strangers = sorted(self._held[namespace] - wanted)
        for part in parts(strangers, EMBEDDED_AT_ONCE):
            await self._index.store.delete_chunks(namespace, part)
        self._held[namespace] &= wanted
        return Filled(removed=len(strangers))

    async def _embedder(self, namespace: Namespace) -> Any:
        generation = await self._index.generations.get(namespace.tenant_id, namespace.generation)
        return self._index.generations.embedder(generation.embedder)


class VectorStep:
    """`Step`: the index of the side that rows move to. On the way back that is the data folder's own."""

    name = NAME

    def __init__(self, target: Index) -> None:
        self._target = target
        self._fill = VectorFill(target)

    async def run(self, context: Context) -> StepReport:
        return await self._filled(context, "", None)

    async def settle(self, context: Context) -> StepReport:
        """Also looks whether the index holds as much as the rows say, which nobody changes now."""
        report = await self._filled(context, "_in_switch", SETTLED_AT_MOST)
        return replace(report, findings=(*report.findings, await self._whole(context))) if report.figures else report

    async def verify(self, _context: Context) -> StepReport:
        """Nothing more: documents may be under way on the new side."""
        return StepReport(NAME)

    async def _filled(self, context: Context, when: str, at_most: int | None) -> StepReport:
        started = monotonic()
        try:
            await refuse_another_embedder(self._target)
            filled = await self._fill.fill(lambda done, total: context.progress(NAME, done, total), at_most=at_most)
        except TrellisError as error:
            if not context.back:
                raise
            # No way back may depend on an embedder: the embedded server looks after its index when it starts.
            seen = f"{error.detail} The old server makes what is missing at its next start."
            return StepReport(NAME, findings=(Finding("vectors are made", False, seen),))
        figures = _figures(filled, monotonic() - started)
        return StepReport(NAME, {f"{name}{when}": value for name, value in figures.items()})

    async def _whole(self, context: Context) -> Finding:
        """Raises Unavailable, but not on the way back."""
        off = await self._fill.off()
        seen = "; ".join(f"{one.vectors} for {one.rows} of {'/'.join(one.namespace)}" for one in off[:3])
        if off and not context.back:
            raise Unavailable(f"The index lost vectors ({seen}): run the same command again.", retry_after=5)
        return Finding("every chunk has its vector", not off, seen or "none is missing")


async def refuse_another_embedder(index: Index) -> None:
    """Raises ConfigError where documents are embedded by another embedder than these settings'."""
    wanted = index.generations.first.embedder
    async with index.db.operator_reading() as session:
        names = select(Document.embedder).where(Document.embedder.not_in(("", wanted))).distinct()
        other = (await session.scalars(names.limit(1))).first()
    if other is not None:
        raise ConfigError(
            f"The documents are embedded by '{other}', the new side's settings say '{wanted}': promote with the same "
            "TRELLIS_EMBEDDING settings, and change the embedder afterwards by rebuilding each index."
        )


def _evidence(namespace: Namespace) -> Sequence[Any]:
    """Chunks that should have a vector."""
    return (
        ChunkRow.tenant_id == namespace.tenant_id,
        Document.bot == namespace.bot,
        ChunkRow.generation == namespace.generation,
        cast(ChunkRow.findings, String) == "[]",
    )


async def _chunks(session: AsyncSession, namespace: Namespace, ids: Sequence[str]) -> list[Chunk]:
    columns = (ChunkRow.id, ChunkRow.document_id, Document.slug, Document.title, ChunkRow.heading, ChunkRow.ordinal)
    query = select(*columns, ChunkRow.text, Document.tags).join(Document)
    rows = await session.execute(query.where(ChunkRow.id.in_(ids), *_evidence(namespace)))
    return [Chunk(**{**row, "tags": tuple(row["tags"])}) for row in rows.mappings()]


def _figures(filled: Filled, seconds: float) -> Mapping[str, Any]:
    rate = round(filled.embedded / seconds) if seconds else 0
    return {"embedded": filled.embedded, "removed": filled.removed, "seconds": round(seconds, 3), "per_second": rate}
