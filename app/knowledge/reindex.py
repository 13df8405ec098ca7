"""What a person decides about a bot's index: build another generation beside, switch to it, go back.

Decisions touch rows alone, so a command may take them beside the server that owns the vectors; what has to be done to
vectors is a job (`app.knowledge.building`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import ConfigError, Conflict, InvalidInput
from app.governance.audit import Audit
from app.ids import new_id
from app.jobs.engine import Jobs
from app.knowledge.base import Namespace
from app.knowledge.chunking import Bounds
from app.knowledge.generations import KEPT_UP, Generation, GenerationRepository, Generations, id_of, public_name
from app.knowledge.models import GenerationRow, GenerationState
from app.knowledge.questions import TOLERANCE, Asked, Comparison, QuestionRepository, questions_digest
from app.knowledge.repository import IndexRepository, IndexState, Pointers, lacking
from app.principal import Principal

BUILD_JOB = "knowledge.reindex"
COMPARE_JOB = "knowledge.compare"
DROP_JOB = "knowledge.drop_generation"
# Another process may take a generation for the active one for a second after it was left. Once more later: a put that
# began before may still write into it.
DROP_DELAYS_S = (5.0, 3600.0)


@dataclass(frozen=True, slots=True)
class IndexView:
    """A bot's index as it stands: `first` is the generation without a row, `rows` the others, oldest first."""

    state: IndexState
    first: Generation
    rows: Sequence[GenerationRow]
    questions: int


class Reindexing:
    """Every change is one transaction of the caller, with its audit entry; `moved` follows the commit by itself.

    `build`, `compare` and `drop` answer the id of the job that does it.
    """

    def __init__(self, generations: Generations, jobs: Jobs, audit: Audit, clock: Clock) -> None:
        self._generations = generations
        self._versions = generations.versions
        self._jobs = jobs
        self._audit = audit
        self._clock = clock

    async def view(self, session: AsyncSession, principal: Principal, bot: str) -> IndexView:
        repository = GenerationRepository(session, principal.tenant_id)
        return IndexView(
            state=await IndexRepository(session, principal.tenant_id).state(bot),
            first=self._generations.first,
            rows=await repository.all(GenerationRow.bot == bot),
            questions=len(await QuestionRepository(session, principal.tenant_id).of_bot(bot)),
        )

    async def build(
        self, session: AsyncSession, principal: Principal, bot: str, embedder: str | None, bounds: Bounds | None
    ) -> tuple[GenerationRow, str]:
        """A new candidate; what is not given is as in the active generation.

        Raises InvalidInput for an embedder that is not offered, Conflict where there is a candidate already or the
        candidate would be what answers now.
        """
        state = await self._held(session, principal, bot)
        rows = GenerationRepository(session, principal.tenant_id)
        active = await self._defined(rows, state.active)
        name = self._offered(embedder) if embedder else active.embedder
        wanted = bounds or active.bounds
        if (name, wanted) == (active.embedder, active.bounds):
            raise Conflict(f"The index of '{bot}' is made this way already: name another embedder or other bounds.")
        await self._clear_the_way(session, principal, bot, state)
        row = rows.add(
            GenerationRow(
                id=new_id("gen"),
                created_at=self._clock(),
                bot=bot,
                embedder=name,
                bounds={"largest": wanted.largest, "smallest": wanted.smallest, "overlap": wanted.overlap},
                state=GenerationState.BUILDING,
                documents_done=0,
                documents_total=0,
                report={},
                updated_at=self._clock(),
            )
        )
        job_id = await self._enqueue(session, BUILD_JOB, principal, bot, row.id)
        await self._record(session, principal, "index.build", bot, {"generation": row.id, "embedder": name})
        return row, job_id

    async def retry(self, session: AsyncSession, principal: Principal, bot: str, generation: str) -> str:
        """Builds on from what is there. Raises NotFound, Conflict for one that answers or was dropped."""
        state = await self._held(session, principal, bot)
        row = await self._candidate(session, principal, bot, generation, state)
        row.state, row.last_error, row.updated_at = GenerationState.BUILDING, None, self._clock()
        job_id = await self._enqueue(session, BUILD_JOB, principal, bot, row.id)
        await self._record(session, principal, "index.retry", bot, {"generation": row.id})
        return job_id

    async def compare(self, session: AsyncSession, principal: Principal, bot: str, generation: str) -> str:
        """Asks the candidate and the active one the evaluation set. Raises NotFound, Conflict."""
        state = await self._held(session, principal, bot)
        row = await self._ready(session, principal, bot, generation, state)
        if not await QuestionRepository(session, principal.tenant_id).of_bot(bot):
            raise Conflict(f"'{bot}' has no evaluation set: put questions first (PUT /v1/bots/{bot}/index/questions).")
        return await self._enqueue(session, COMPARE_JOB, principal, bot, row.id)

    async def ask(self, session: AsyncSession, principal: Principal, bot: str, asked: Sequence[Asked]) -> None:
        """The bot's evaluation set, in place of the former. Raises InvalidInput."""
        await QuestionRepository(session, principal.tenant_id).replace(bot, asked, self._clock)
        await self._record(session, principal, "index.questions", bot, {"questions": len(asked)})

    async def switch(
        self, session: AsyncSession, principal: Principal, bot: str, generation: str, *, force: bool
    ) -> IndexState:
        """The candidate answers from the commit on; what answered before stays for `roll_back`, and what was kept
        before that goes.

        Raises NotFound, or Conflict: a candidate that is not ready or lacks documents is never switched to; one that
        was not compared, or is worse, only with `force`.
        """
        state = await self._held(session, principal, bot)
        row = await self._ready(session, principal, bot, generation, state)
        await self._refuse_incomplete(session, principal, row)
        doubt = await self._doubt(session, principal, row, state)
        if doubt and not force:
            raise Conflict(f"{doubt}, or switch with force.")
        if state.previous is not None:
            await self._let_go(session, principal, bot, state.previous)
        moved = await self._point(session, principal, bot, state, Pointers(row.id, state.active))
        data = {"to": row.id, "from": public_name(state.active), "forced": bool(doubt)}
        await self._record(session, principal, "index.switched", bot, data)
        return moved

    async def roll_back(self, session: AsyncSession, principal: Principal, bot: str) -> IndexState:
        """What answered before answers again, and the other way round. Raises Conflict where none was kept."""
        state = await self._held(session, principal, bot)
        if state.previous is None:
            raise Conflict(f"'{bot}' has no former index to go back to.")
        moved = await self._point(session, principal, bot, state, Pointers(state.previous, state.active))
        data = {"to": public_name(state.previous), "from": public_name(state.active)}
        await self._record(session, principal, "index.rolled_back", bot, data)
        return moved

    async def drop(self, session: AsyncSession, principal: Principal, bot: str, generation: str) -> str:
        """A candidate or the former generation goes. Raises NotFound, Conflict for the one that answers."""
        state = await self._held(session, principal, bot)
        wanted = id_of(generation)
        if wanted == state.active:
            raise Conflict(f"Index generation '{generation}' is the one that answers: switch or roll back first.")
        if wanted:
            await GenerationRepository(session, principal.tenant_id).of_bot(bot, wanted)
        elif state.previous != wanted:
            raise Conflict(f"The first index of '{bot}' is gone already.")
        if wanted == state.previous:
            await self._point(session, principal, bot, state, Pointers(state.active, None))
        job_id = await self._let_go(session, principal, bot, wanted)
        await self._record(session, principal, "index.dropped", bot, {"generation": generation})
        return job_id

    async def _held(self, session: AsyncSession, principal: Principal, bot: str) -> IndexState:
        """The bot's state, which nobody else changes until the transaction ends."""
        state = await self._versions.bump(session, Namespace(principal.tenant_id, bot))
        self._after_commit(session, Namespace(principal.tenant_id, bot), state)
        return state

    async def _point(
        self, session: AsyncSession, principal: Principal, bot: str, state: IndexState, pointers: Pointers
    ) -> IndexState:
        await IndexRepository(session, principal.tenant_id).point(bot, pointers)
        moved = IndexState(state.version, *pointers)
        self._after_commit(session, Namespace(principal.tenant_id, bot), moved)
        return moved

    def _after_commit(self, session: AsyncSession, namespace: Namespace, state: IndexState) -> None:
        event.listen(session.sync_session, "after_commit", lambda _: self._versions.moved(namespace, state), once=True)

    def _offered(self, embedder: str) -> str:
        try:
            return self._generations.embedder(embedder).name
        except ConfigError as error:
            raise InvalidInput(error.detail) from error

    async def _defined(self, rows: GenerationRepository, generation_id: str) -> Generation:
        if not generation_id:
            return self._generations.first
        row = await rows.get(generation_id)
        return Generation(row.id, row.embedder, Bounds(**row.bounds))

    async def _clear_the_way(self, session: AsyncSession, principal: Principal, bot: str, state: IndexState) -> None:
        """Refuses a second candidate; one that failed goes."""
        for row in await GenerationRepository(session, principal.tenant_id).all(GenerationRow.bot == bot):
            if row.id in state or row.state == GenerationState.DROPPED:
                continue
            if row.state in KEPT_UP:
                raise Conflict(f"'{bot}' has the candidate '{row.id}' already: switch to it, or delete it first.")
            await self._let_go(session, principal, bot, row.id)

    async def _candidate(
        self, session: AsyncSession, principal: Principal, bot: str, generation: str, state: IndexState
    ) -> GenerationRow:
        if id_of(generation) in (state.active, state.previous):
            which = "answers" if id_of(generation) == state.active else "answered before: roll back to it"
            raise Conflict(f"Index generation '{generation}' is no candidate: it {which}.")
        row = await GenerationRepository(session, principal.tenant_id).of_bot(bot, generation)
        if row.state == GenerationState.DROPPED:
            raise Conflict(f"Index generation '{generation}' was dropped: build another one.")
        return row

    async def _ready(
        self, session: AsyncSession, principal: Principal, bot: str, generation: str, state: IndexState
    ) -> GenerationRow:
        row = await self._candidate(session, principal, bot, generation, state)
        if row.state != GenerationState.READY:
            how = f"{row.documents_done} of {row.documents_total} documents are in it"
            why = f" ({row.last_error})" if row.last_error else ""
            raise Conflict(f"Index generation '{generation}' is {row.state}: {how}{why}.")
        return row

    async def _refuse_incomplete(self, session: AsyncSession, principal: Principal, row: GenerationRow) -> None:
        missing = await lacking(session, principal.tenant_id, row.bot, row.id, limit=1)
        if missing:
            raise Conflict(
                f"Index generation '{row.id}' does not hold every document of '{row.bot}' yet, '{missing[0]}' for one: "
                "try again when they are through, or retry its build."
            )

    async def _doubt(
        self, session: AsyncSession, principal: Principal, row: GenerationRow, state: IndexState
    ) -> str | None:
        """Why the candidate should not be switched to, as the beginning of a sentence; None where nothing speaks
        against it."""
        questions = await QuestionRepository(session, principal.tenant_id).of_bot(row.bot)
        if not questions:
            return f"'{row.bot}' has no evaluation set to compare with: put one"
        report = Comparison.model_validate(row.report) if row.report else None
        current = (questions_digest(questions), public_name(state.active))
        if report is None or (report.questions_digest, report.against) != current:
            return f"Index generation '{row.id}' was not compared with what answers now: compare it"
        if report.worse:
            new, old = report.candidate, report.active
            return (
                f"Index generation '{row.id}' is worse than what answers now (nDCG@10 {new.ndcg_at_10:.3f} against "
                f"{old.ndcg_at_10:.3f}, recall@5 {new.recall_at_5:.3f} against {old.recall_at_5:.3f}, tolerance "
                f"{TOLERANCE}): delete it"
            )
        return None

    async def _let_go(self, session: AsyncSession, principal: Principal, bot: str, generation_id: str) -> str:
        if generation_id:
            row = await GenerationRepository(session, principal.tenant_id).of_bot(bot, generation_id)
            row.state, row.updated_at = GenerationState.DROPPED, self._clock()
        soon, later = DROP_DELAYS_S
        await self._enqueue(session, DROP_JOB, principal, bot, generation_id, delay_s=later)
        return await self._enqueue(session, DROP_JOB, principal, bot, generation_id, delay_s=soon)

    async def _enqueue(
        self, session: AsyncSession, job: str, principal: Principal, bot: str, generation_id: str, delay_s: float = 0
    ) -> str:
        payload = {"tenant_id": principal.tenant_id, "bot": bot, "generation": generation_id}
        job_id = new_id("job")
        await self._jobs.enqueue(session, job, payload, job_id=job_id, delay_s=delay_s)
        return job_id

    async def _record(
        self, session: AsyncSession, principal: Principal, action: str, bot: str, data: dict[str, Any]
    ) -> None:
        await self._audit.record(session, principal, action, bot, data)
