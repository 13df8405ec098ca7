"""Jobs on a generation of a bot's index: fill it beside the one that answers, compare the two, let it go."""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import Conflict
from app.jobs.port import Job, JobContext, QueueSpec, StepFailed
from app.knowledge.base import Namespace, VectorStore
from app.knowledge.generations import Generation, GenerationRepository, Generations
from app.knowledge.models import ChunkRow, Document, GenerationRow, GenerationState
from app.knowledge.questions import QuestionRepository, compare
from app.knowledge.reindex import BUILD_JOB, COMPARE_JOB, DROP_JOB
from app.knowledge.repository import IndexRepository, documents_of, lacking
from app.storage.db import Database

QUEUE = "reindex"
BATCH = 20
# Times that documents which came in meanwhile are looked for; one that is still missing then cannot be indexed.
ROUNDS = 3
ATTEMPTS = 5
MOST_LACKING = 1_000
ASKED = 30


class OneDocument(Protocol):
    """What puts a kept document into one generation: `app.knowledge.indexing.Indexer`."""

    async def add(self, tenant_id: str, document_id: str, generation: Generation, *, attempts: int = 1) -> bool: ...


class Building:
    """The work behind `app.knowledge.reindex`. Every step may run again: what is in the index already is not embedded
    a second time."""

    def __init__(
        self, db: Database, store: VectorStore, generations: Generations, indexer: OneDocument, clock: Clock
    ) -> None:
        self._db = db
        self._store = store
        self.generations = generations
        self._indexer = indexer
        self._clock = clock

    @property
    def jobs(self) -> tuple[Job, ...]:
        return (
            Job(BUILD_JOB, QUEUE, self.build),
            Job(COMPARE_JOB, QUEUE, self.compare),
            Job(DROP_JOB, QUEUE, self.drop),
        )

    @property
    def queues(self) -> tuple[QueueSpec, ...]:
        """One at a time: a rebuild must not take the embedder from uploads."""
        return (QueueSpec(QUEUE, worker_concurrency=1),)

    async def build(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        """Every document batch by batch, then those that came in meanwhile, then the comparison."""
        total: int = await context.step("begin", self._begin, payload)
        try:
            done = await self._fill(context, payload, total)
            state: str = await context.step("finish", self._finish, payload, attempts=ATTEMPTS)
            if state == GenerationState.READY:
                await context.step("compare", self._compare, payload, attempts=ATTEMPTS)
        except StepFailed as error:
            await context.step("fail", self._fail, payload, error.reason)
            raise
        return {"documents": done, "state": state}

    async def compare(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        return await context.step("compare", self._compare, payload, attempts=ATTEMPTS)

    async def drop(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        return {"dropped": await context.step("drop", self._drop, payload, attempts=ATTEMPTS)}

    async def _fill(self, context: JobContext, payload: dict[str, Any], total: int) -> int:
        done, after = 0, ""
        while True:
            found: dict[str, Any] = await context.step("index", self._index, payload, after, done, attempts=ATTEMPTS)
            if not found["after"]:
                return done
            done, after = found["done"], found["after"]
            await context.progress(done, max(total, done))

    async def _begin(self, payload: dict[str, Any]) -> int:
        generation = await self._generation(payload)
        await self._store.ensure(_namespace(payload), self.generations.embedder(generation.embedder).dimension)
        async with self._db.transaction(payload["tenant_id"]) as session:
            total = await documents_of(session, payload["tenant_id"], payload["bot"])
            await self._set(session, payload, documents_total=total, documents_done=0)
        return total

    async def _index(self, payload: dict[str, Any], after: str, done: int) -> dict[str, Any]:
        """The next batch of documents in id order; an empty `after` ends it."""
        async with self._db.transaction(payload["tenant_id"]) as session:
            building = await self._state(session, payload) == GenerationState.BUILDING
            held = (Document.tenant_id == payload["tenant_id"], Document.bot == payload["bot"], Document.id > after)
            query = select(Document.id).where(*held).order_by(Document.id).limit(BATCH)
            ids = (await session.scalars(query)).all() if building else ()
        await self._add(payload, ids)
        async with self._db.transaction(payload["tenant_id"]) as session:
            await self._set(session, payload, documents_done=done + len(ids))
        return {"done": done + len(ids), "after": ids[-1] if ids else ""}

    async def _add(self, payload: dict[str, Any], document_ids: Sequence[str]) -> None:
        generation = await self._generation(payload)
        for document_id in document_ids:
            await self._indexer.add(payload["tenant_id"], document_id, generation)

    async def _finish(self, payload: dict[str, Any]) -> str:
        """Brings in what came meanwhile, then `ready`. The state; raises Conflict where documents stay out."""
        scope = (payload["tenant_id"], payload["bot"], payload["generation"])
        for _ in range(ROUNDS):
            async with self._db.transaction(payload["tenant_id"]) as session:
                state = await self._state(session, payload)
                if state != GenerationState.BUILDING:
                    return state
                missing = await lacking(session, *scope, limit=MOST_LACKING)
                if not missing:
                    await self._set(session, payload, state=GenerationState.READY, last_error=None)
                    return GenerationState.READY
            await self._add(payload, missing)
        raise Conflict(f"{len(missing)} documents cannot be brought into it, '{missing[0]}' for one.")

    async def _compare(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What the evaluation set says; empty without one."""
        tenant_id, bot = payload["tenant_id"], payload["bot"]
        async with self._db.reading(payload["tenant_id"]) as session:
            questions = await QuestionRepository(session, tenant_id).of_bot(bot)
        if not questions:
            return {}

        async def search(generation: Generation, question: str) -> list[str]:
            return await self._slugs(Namespace(tenant_id, bot, generation.id), generation, question)

        active = await self.generations.active(tenant_id, bot)
        report = await compare(search, questions, await self._generation(payload), active, self._clock())
        said = report.model_dump(mode="json")
        async with self._db.transaction(payload["tenant_id"]) as session:
            await self._set(session, payload, report=said)
        return said

    async def _slugs(self, namespace: Namespace, generation: Generation, question: str) -> list[str]:
        """As the store ranks them: the steps after it are the same for every generation."""
        vectors = await self.generations.embedder(generation.embedder).embed([question])
        hits = await self._store.search(namespace, vectors, question, ASKED)
        return list(dict.fromkeys(hit.chunk.slug for hit in hits))

    async def _drop(self, payload: dict[str, Any]) -> bool:
        """False where the generation is in use again."""
        namespace = _namespace(payload)
        async with self._db.transaction(payload["tenant_id"]) as session:
            state = await IndexRepository(session, namespace.tenant_id).state(namespace.bot)
            if namespace.generation in (state.active, state.previous):
                return False
            documents = select(Document.id).where(
                Document.tenant_id == namespace.tenant_id, Document.bot == namespace.bot
            )
            held = (ChunkRow.tenant_id == namespace.tenant_id, ChunkRow.generation == namespace.generation)
            await session.execute(delete(ChunkRow).where(*held, ChunkRow.document_id.in_(documents)))
        await self._store.drop(namespace)
        return True

    async def _fail(self, payload: dict[str, Any], reason: str) -> None:
        async with self._db.transaction(payload["tenant_id"]) as session:
            if await self._state(session, payload) == GenerationState.BUILDING:
                await self._set(session, payload, state=GenerationState.FAILED, last_error=reason)

    async def _generation(self, payload: dict[str, Any]) -> Generation:
        return await self.generations.get(payload["tenant_id"], payload["generation"])

    async def _state(self, session: AsyncSession, payload: dict[str, Any]) -> str:
        return (await GenerationRepository(session, payload["tenant_id"]).get(payload["generation"])).state

    async def _set(self, session: AsyncSession, payload: dict[str, Any], **values: Any) -> None:
        held = (GenerationRow.tenant_id == payload["tenant_id"], GenerationRow.id == payload["generation"])
        await session.execute(update(GenerationRow).where(*held).values(**values, updated_at=self._clock()))


def _namespace(payload: dict[str, Any]) -> Namespace:
    return Namespace(payload["tenant_id"], payload["bot"], payload["generation"])
