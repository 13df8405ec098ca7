"""Documents as durable jobs: one a document, from the request that brought it to `ready` or `failed`."""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import Conflict, NotFound, RateLimited
from app.governance.audit import Audit
from app.ids import new_id
from app.jobs.engine import Jobs
from app.jobs.port import Job, JobContext, JobState, QueueSpec, Schedule
from app.knowledge.ingest import Ingestor
from app.knowledge.models import Document, DocumentStatus
from app.knowledge.page import File, Page
from app.knowledge.repair import Repairs
from app.knowledge.repository import UNFINISHED, DocumentHeads, DocumentRepository, UploadRepository, unfinished
from app.principal import Principal, Role
from app.storage.db import Database

INGEST_JOB = "knowledge.ingest"
SWEEP_JOB = "knowledge.sweep"
RECONCILE_JOB = "knowledge.reconcile"
QUEUE = "knowledge"
UPKEEP = "knowledge.upkeep"
# With waits of 1, 2, 4, 8, 16 and 30 s between them: an embedder that restarts does not fail an upload.
ATTEMPTS = 7
MAX_KEPT_BYTES = 2 << 30
"""Of a tenant's files that wait to be read, or that could not be: they are in the database until then."""
SWEPT_AT_ONCE = 200
_ALIVE = (JobState.QUEUED, JobState.RUNNING)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Submitted:
    """`changed` is False where the same content was there, or under way, already."""

    document: Document
    changed: bool


class IngestJobs:
    """Takes documents in, in the caller's transaction, and sees each to its end."""

    def __init__(
        self,
        db: Database,
        ingestor: Ingestor,
        repairs: Repairs,
        jobs: Jobs,
        audit: Audit,
        clock: Clock,
        *,
        concurrency: int,
        max_kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        self._db = db
        self._ingestor = ingestor
        self._repairs = repairs
        self._jobs = jobs
        self._audit = audit
        self._clock = clock
        self._concurrency = concurrency
        self._max_kept_bytes = max_kept_bytes

    async def submit(self, session: AsyncSession, principal: Principal, bot: str, given: Page | File) -> Submitted:
        """Keeps the document, its file and its job together; the same content again queues nothing.

        Raises Forbidden, InvalidInput, TooLarge, Conflict where another request puts the same slug in, RateLimited
        where too many of the tenant's files wait.
        """
        principal.require(Role.AGENT)
        document, changed = await self._ingestor.keep(session, principal.tenant_id, bot, given)
        if changed:
            if isinstance(given, File):
                await self._refuse_flood(session, principal.tenant_id)
            await self._enqueue(session, document)
            about = {"bot": bot, "media_type": document.media_type, "bytes": document.size_bytes}
            await self._audit.record(session, principal, "document.submitted", document.id, about)
        return Submitted(document, changed)

    async def retry(self, session: AsyncSession, principal: Principal, bot: str, document_id: str) -> Document:
        """Queues a failed document again; what is indexed already stays.

        Raises NotFound, Forbidden, and Conflict where it has not failed.
        """
        principal.require(Role.AGENT)
        documents = DocumentHeads(session, principal.tenant_id)
        document = await documents.locked(document_id)
        if document is None or document.bot != bot:
            raise documents.not_found(document_id)
        if document.status != DocumentStatus.FAILED:
            raise Conflict(f"The document '{document.slug}' is {document.status}: only a failed one is tried again.")
        document.status, document.last_error, document.updated_at = DocumentStatus.QUEUED, None, self._clock()
        await self._enqueue(session, document)
        await self._audit.record(session, principal, "document.retried", document.id, {"bot": bot})
        return document

    async def remove(self, principal: Principal, bot: str, document_id: str) -> None:
        """Takes a document out of everything. Raises Forbidden, NotFound."""
        principal.require(Role.AGENT)

        async def noted(session: AsyncSession) -> None:
            await self._audit.record(session, principal, "document.deleted", document_id, {"bot": bot})

        await self._ingestor.remove(principal.tenant_id, bot, document_id, noted)

    async def forget(self, principal: Principal, bot: str) -> int:
        """Takes all of a bot's documents out of everything; how many there were. Raises Forbidden below 'admin'."""
        principal.require(Role.ADMIN)

        async def noted(session: AsyncSession) -> None:
            await self._audit.record(session, principal, "knowledge.deleted", bot, {})

        return await self._ingestor.forget(principal.tenant_id, bot, noted)

    async def run(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        """One step: how far a document is lies in its rows, so it goes on from there after a crash."""
        return await context.step("ingest", self._ingested, payload["tenant_id"], payload["document_id"])

    async def sweep(self) -> int:
        """Fails the documents whose job ended without a word of it, so that none is under way for ever; how many.

        A worker's start needs it, and from time to time what else may end a job: a person, or ten crashes in a row.
        """
        async with self._db.operator_transaction() as session:
            waiting = iter(await unfinished(session))
        failed = 0
        while part := list(islice(waiting, SWEPT_AT_ONCE)):
            states = await self._jobs.states([job_id for _, _, job_id in part])
            ended = [entry for entry in part if states.get(entry[2]) not in _ALIVE]
            failed += sum([await self._give_up(*entry) for entry in ended])
        return failed

    def declared(self) -> tuple[tuple[Job, ...], tuple[QueueSpec, ...], tuple[Schedule, ...]]:
        jobs = (
            Job(INGEST_JOB, QUEUE, self.run),
            Job(SWEEP_JOB, UPKEEP, self._swept),
            Job(RECONCILE_JOB, UPKEEP, self._reconciled),
        )
        # Upkeep has one hand over all workers: what one repairs another would repair as well.
        queues = (QueueSpec(QUEUE, self._concurrency), QueueSpec(UPKEEP, 1, polling_interval_s=5.0, everywhere=1))
        schedules = (
            Schedule(SWEEP_JOB, "*/5 * * * *", SWEEP_JOB),
            Schedule(RECONCILE_JOB, "47 * * * *", RECONCILE_JOB),
        )
        return jobs, queues, schedules

    async def _refuse_flood(self, session: AsyncSession, tenant_id: str) -> None:
        if await UploadRepository(session, tenant_id).kept_bytes() > self._max_kept_bytes:
            raise RateLimited(
                f"More than {self._max_kept_bytes >> 20:,} MB of files wait to be read, or could not be: send this one "
                "again later, and delete the failed ones.",
                retry_after=60,
            )

    async def _enqueue(self, session: AsyncSession, document: Document) -> None:
        document.job_id = new_id(INGEST_JOB)
        payload = {"tenant_id": document.tenant_id, "document_id": document.id}
        await self._jobs.enqueue(session, INGEST_JOB, payload, job_id=document.job_id)

    async def _ingested(self, tenant_id: str, document_id: str) -> dict[str, Any]:
        try:
            done = await self._ingestor.process(tenant_id, document_id, attempts=ATTEMPTS)
        except NotFound:
            return {"status": "deleted"}
        return {"status": done.status, "chunks": done.chunks, "embedded": done.embedded}

    async def _swept(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        failed = await context.step("sweep", self.sweep)
        return {"failed": failed, "caught_up": await context.step("catch up", self._repairs.catch_up)}

    async def _reconciled(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        return {"repaired": await context.step("reconcile", self._suspected)}

    async def _suspected(self) -> int:
        return await self._repairs.reconcile(suspected=True)

    async def _give_up(self, tenant_id: str, document_id: str, job_id: str) -> bool:
        """False where the document went on since it was looked at."""
        async with self._db.transaction(tenant_id) as session:
            document = await DocumentRepository(session, tenant_id).locked(document_id)
            if document is None or document.job_id != job_id or document.status not in UNFINISHED:
                return False
            document.status = DocumentStatus.FAILED
            document.last_error = "The work on it ended without a result: try it again."
        log.warning("document given up", document_id=document_id, job_id=job_id)
        return True
