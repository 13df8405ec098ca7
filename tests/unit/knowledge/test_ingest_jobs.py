"""One job a document; and none under way for ever."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Forbidden, NotFound, RateLimited, Unavailable
from app.governance.audit import Audit
from app.jobs.engine import Jobs
from app.jobs.port import JobContext, JobState
from app.knowledge.jobs import INGEST_JOB, IngestJobs, Submitted
from app.knowledge.models import Document
from app.knowledge.page import File, Page
from app.knowledge.repository import DocumentRepository
from app.principal import Principal, Role
from tests.unit.knowledge.conftest import Knowledge

T, B = "acme", "docs"
AGENT = Principal(T, "key_1", Role.AGENT)
MAX_KEPT = 3_000
NOTE = Page("note", "Note", "The room is cold.", ())


@dataclass
class FakeJobs:
    """Keeps what was queued; says of each job what a test set."""

    queued: list[dict[str, Any]] = field(default_factory=list)
    known: dict[str, JobState] = field(default_factory=dict)

    async def enqueue(self, session: AsyncSession, name: str, payload: dict[str, Any], *, job_id: str) -> None:
        self.queued.append({"name": name, "job_id": job_id, **payload})
        self.known[job_id] = JobState.QUEUED

    async def states(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        return {job_id: self.known[job_id] for job_id in job_ids if job_id in self.known}


class Here:
    """A `JobContext` whose steps run at once."""

    job_id = "job_1"

    async def step(self, name: str, fn: Any, *args: Any, attempts: int = 1) -> Any:
        return await fn(*args)


@dataclass
class Intake:
    knowledge: Knowledge
    jobs: FakeJobs
    intake: IngestJobs

    async def submit(self, page: Page | File, principal: Principal = AGENT) -> Submitted:
        async with self.knowledge.db.operator_transaction() as session:
            return await self.intake.submit(session, principal, B, page)

    async def retry(self, document_id: str, principal: Principal = AGENT, bot: str = B) -> Document:
        async with self.knowledge.db.operator_transaction() as session:
            return await self.intake.retry(session, principal, bot, document_id)

    async def run(self, job: dict[str, Any]) -> dict[str, Any]:
        return await self.intake.run(cast(JobContext, Here()), job)

    async def document(self, document_id: str) -> Document:
        async with self.knowledge.db.operator_reading() as session:
            return await DocumentRepository(session, T).get(document_id)


@pytest.fixture
def intake(knowledge: Knowledge) -> Intake:
    jobs, clock = FakeJobs(), knowledge.clock
    made = IngestJobs(
        knowledge.db,
        knowledge.ingestor,
        knowledge.repairs,
        cast(Jobs, jobs),
        Audit(clock),
        clock,
        concurrency=2,
        max_kept_bytes=MAX_KEPT,
    )
    return Intake(knowledge, jobs, made)


async def test_a_document_and_its_job_stand_or_fall_together(intake: Intake) -> None:
    submitted = await intake.submit(NOTE)
    [job] = intake.jobs.queued
    assert job == {
        "name": INGEST_JOB,
        "job_id": submitted.document.job_id,
        "tenant_id": T,
        "document_id": submitted.document.id,
    }
    assert await intake.run(job) == {"status": "ready", "chunks": 1, "embedded": 1}
    assert (await intake.document(submitted.document.id)).status == "ready"


async def test_the_same_content_while_it_is_under_way_has_no_second_job(intake: Intake) -> None:
    first, again = await intake.submit(NOTE), await intake.submit(NOTE)
    assert (again.changed, again.document.job_id) == (False, first.document.job_id)
    assert len(intake.jobs.queued) == 1
    changed = await intake.submit(Page("note", "Note", "The room is warm.", ()))
    assert changed.changed
    assert [job["document_id"] for job in intake.jobs.queued] == [first.document.id] * 2


async def test_a_viewer_puts_nothing_in(intake: Intake) -> None:
    viewer = Principal(T, "key_2", Role.VIEWER)
    with pytest.raises(Forbidden):
        await intake.submit(NOTE, viewer)
    document = (await intake.submit(NOTE)).document
    with pytest.raises(Forbidden):
        await intake.retry(document.id, viewer)


async def test_files_that_wait_or_failed_leave_no_room_for_endless_more(intake: Intake) -> None:
    def file(name: str) -> File:
        return File.of(name, name, name.encode() * 1_000, (), "text/plain", f"{name}.txt")

    ended = [(await intake.submit(file(name))).document for name in "abc"]
    for tenant in (T, "rival"):
        refused = await _refused(intake, file("d"), Principal(tenant, "key_1", Role.AGENT))
        assert refused == (tenant == T)
    assert len(intake.jobs.queued) == 4
    assert not (await intake.submit(file("a"))).changed, "what is there already asks for no room"
    assert (await intake.submit(NOTE)).changed, "a text is no file"
    await intake.knowledge.ingestor.fail(ended[0], NotFound("Nothing."))
    with pytest.raises(RateLimited, match="delete the failed ones"):
        await intake.submit(file("d"))
    await intake.knowledge.ingestor.delete(T, B, "a")
    assert (await intake.submit(file("d"))).changed


async def _refused(intake: Intake, file: File, principal: Principal = AGENT) -> bool:
    try:
        await intake.submit(file, principal)
    except RateLimited:
        return True
    return False


async def test_a_job_of_a_document_that_is_gone_ends_well(intake: Intake) -> None:
    document = (await intake.submit(NOTE)).document
    await intake.knowledge.ingestor.delete(T, B, "note")
    assert await intake.run(intake.jobs.queued[0]) == {"status": "deleted"}
    with pytest.raises(NotFound):
        await intake.document(document.id)


async def test_a_failed_document_is_tried_again_and_no_other(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.knowledge.indexing.FIRST_WAIT_S", 0.0)
    document = (await intake.submit(NOTE)).document
    with pytest.raises(Conflict, match="is queued"):
        await intake.retry(document.id)
    intake.knowledge.embedder.error = Unavailable("The embedder is away.", retry_after=1)
    with pytest.raises(Unavailable):
        await intake.run(intake.jobs.queued[0])
    assert (await intake.document(document.id)).last_error == "The embedder is away."
    for principal, bot in ((Principal("rival", "key_3", Role.ADMIN), B), (AGENT, "other")):
        with pytest.raises(NotFound):
            await intake.retry(document.id, principal, bot)
    intake.knowledge.embedder.error = None
    again = await intake.retry(document.id)
    assert (again.status, again.last_error) == ("queued", None)
    assert intake.jobs.queued[-1]["job_id"] == again.job_id != document.job_id
    await intake.run(intake.jobs.queued[-1])
    with pytest.raises(Conflict, match="is ready"):
        await intake.retry(document.id)


@pytest.mark.parametrize("ended", [JobState.FAILED, JobState.CANCELLED, JobState.DONE, None])
async def test_a_document_whose_job_has_ended_is_failed(intake: Intake, ended: JobState | None) -> None:
    document = (await intake.submit(NOTE)).document
    job_id = document.job_id or ""
    for alive in (JobState.QUEUED, JobState.RUNNING):
        intake.jobs.known[job_id] = alive
        assert await intake.intake.sweep() == 0
    del intake.jobs.known[job_id]
    intake.jobs.known |= {job_id: ended} if ended else {}
    assert await intake.intake.sweep() == 1
    found = await intake.document(document.id)
    assert (found.status, "try it again" in (found.last_error or "")) == ("failed", True)
    assert await intake.intake.sweep() == 0
    await intake.retry(document.id)
    assert (await intake.document(document.id)).status == "queued"


async def test_the_start_leaves_a_document_with_a_job_to_its_job(intake: Intake) -> None:
    document = (await intake.submit(NOTE)).document
    assert await intake.knowledge.repairs.reconcile() == 0
    assert (await intake.document(document.id)).status == "queued"


async def test_a_document_that_went_on_since_is_not_given_up(intake: Intake) -> None:
    document = (await intake.submit(NOTE)).document
    await intake.run(intake.jobs.queued[0])
    assert not await intake.intake._give_up(T, document.id, document.job_id or "")
    assert (await intake.document(document.id)).status == "ready"
