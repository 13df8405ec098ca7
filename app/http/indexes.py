"""`/v1/bots/{bot}/index`: how a bot's documents are indexed, and another way to, built beside and switched to."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.bots import InBot
from app.http.deps import Admin, CurrentPrincipal, Once
from app.knowledge.chunking import Bounds
from app.knowledge.generations import public_name
from app.knowledge.models import GenerationRow, GenerationState
from app.knowledge.questions import MAX_QUESTIONS, TOLERANCE, Asked, Comparison, QuestionRepository
from app.knowledge.reindex import IndexView, Reindexing
from app.storage.db import Database

GenerationId = Annotated[str, Path(pattern=r"^[a-z0-9_]{1,64}$")]


class Indexing(Protocol):
    @property
    def db(self) -> Database: ...
    @property
    def reindexing(self) -> Reindexing: ...


class BoundsIn(BaseModel):
    """Sizes of a chunk in characters; `overlap` is what a piece of a split section repeats of the one before."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)

    largest: int = Field(1200, ge=200, le=8000)
    smallest: int = Field(120, ge=0, le=4000)
    overlap: int = Field(120, ge=0, le=4000)

    @model_validator(mode="after")
    def _fit(self) -> "BoundsIn":
        if max(self.smallest, self.overlap) > self.largest // 2:
            raise ValueError("'smallest' and 'overlap' must be at most half of 'largest'")
        return self


class BuildIn(BaseModel):
    """What is not given is as in the index that answers."""

    model_config = ConfigDict(extra="forbid")

    embedder: str | None = Field(None, min_length=1, max_length=120)
    bounds: BoundsIn | None = None


class SwitchIn(BaseModel):
    """`force` switches to one that was not compared, or is worse."""

    model_config = ConfigDict(extra="forbid")

    generation: str = Field(min_length=1, max_length=64)
    force: bool = False


class QuestionsIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    questions: list[Asked] = Field(max_length=MAX_QUESTIONS)


class GenerationOut(BaseModel):
    """`use`: `active` answers, `previous` is kept up to date to go back to, `candidate` may be switched to."""

    id: str
    embedder: str
    bounds: BoundsIn
    use: str
    state: GenerationState
    documents_done: int | None = None
    documents_total: int | None = None
    report: Comparison | None = None
    last_error: str | None = None
    created_at: datetime | None = None


class IndexOut(BaseModel):
    """`version` moves with every change; `tolerance` is how much worse a candidate may be without `force`."""

    bot: str
    version: int
    active: str
    previous: str | None
    questions: int
    tolerance: float = TOLERANCE
    generations: list[GenerationOut]


class Started(BaseModel):
    """A job that works on a generation; look at the index for how far it is."""

    generation: str
    job_id: str


class Pointed(BaseModel):
    active: str
    previous: str | None
    version: int


def indexes_router(indexing: Indexing) -> APIRouter:
    router = APIRouter(prefix="/v1/bots/{bot}/index", tags=["index"])
    _add_reading(router, indexing)
    _add_building(router, indexing)
    _add_switching(router, indexing)
    return router


def _add_reading(router: APIRouter, indexing: Indexing) -> None:
    @router.get("", summary="The generations of a bot's index, their progress and comparison")
    async def show(bot: InBot, principal: CurrentPrincipal) -> IndexOut:
        async with indexing.db.reading(principal.tenant_id) as session:
            return index_out(bot, await indexing.reindexing.view(session, principal, bot))

    @router.get("/questions", summary="The bot's evaluation set")
    async def questions(bot: InBot, principal: CurrentPrincipal) -> QuestionsIn:
        async with indexing.db.reading(principal.tenant_id) as session:
            rows = await QuestionRepository(session, principal.tenant_id).of_bot(bot)
        return QuestionsIn(questions=[Asked(question=row.question, slugs=row.slugs) for row in rows])

    @router.put("/questions", summary="Put the evaluation set in place of the former")
    async def put_questions(bot: InBot, body: QuestionsIn, principal: Admin) -> QuestionsIn:
        async with indexing.db.transaction(principal.tenant_id) as session:
            await indexing.reindexing.ask(session, principal, bot, body.questions)
        return body


def _add_building(router: APIRouter, indexing: Indexing) -> None:
    reindexing = indexing.reindexing

    @router.post("/generations", status_code=202, response_model=Started, summary="Build another index beside")
    async def build(bot: InBot, body: BuildIn, principal: Admin, once: Once) -> Response:
        async def work(session: AsyncSession) -> Started:
            bounds = Bounds(**body.bounds.model_dump()) if body.bounds else None
            row, job_id = await reindexing.build(session, principal, bot, body.embedder, bounds)
            return Started(generation=row.id, job_id=job_id)

        return await once.run(202, work)

    def job(change: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[Response]]:
        async def endpoint(bot: InBot, generation: GenerationId, principal: Admin, once: Once) -> Response:
            async def work(session: AsyncSession) -> Started:
                return Started(generation=generation, job_id=await change(session, principal, bot, generation))

            return await once.run(202, work)

        return endpoint

    path = "/generations/{generation}"
    changes: Sequence[tuple[str, str, Callable[..., Awaitable[str]], str]] = (
        ("POST", f"{path}/retry", reindexing.retry, "Build on from what is there"),
        ("POST", f"{path}/compare", reindexing.compare, "Compare with what answers, on the evaluation set"),
        ("DELETE", path, reindexing.drop, "Let a candidate or the former index go"),
    )
    for method, at, change, summary in changes:
        name = f"index_{change.__name__}"
        router.add_api_route(
            at, job(change), methods=[method], status_code=202, response_model=Started, summary=summary, name=name
        )


def _add_switching(router: APIRouter, indexing: Indexing) -> None:
    reindexing = indexing.reindexing

    @router.post("/switch", response_model=Pointed, summary="Let the candidate answer")
    async def switch(bot: InBot, body: SwitchIn, principal: Admin, once: Once) -> Response:
        async def work(session: AsyncSession) -> Pointed:
            state = await reindexing.switch(session, principal, bot, body.generation, force=body.force)
            return pointed(state.active, state.previous, state.version)

        return await once.run(200, work)

    @router.post("/rollback", response_model=Pointed, summary="Let the former index answer again")
    async def rollback(bot: InBot, principal: Admin, once: Once) -> Response:
        async def work(session: AsyncSession) -> Pointed:
            state = await reindexing.roll_back(session, principal, bot)
            return pointed(state.active, state.previous, state.version)

        return await once.run(200, work)


def pointed(active: str, previous: str | None, version: int) -> Pointed:
    former = None if previous is None else public_name(previous)
    return Pointed(active=public_name(active), previous=former, version=version)


def index_out(bot: str, view: IndexView) -> IndexOut:
    """What people are shown of an index; generations that were dropped are left out."""
    state = view.state
    shown = [_first(view)] if view.first.id in (state.active, state.previous) else []
    shown += [_row(row, view) for row in view.rows if row.state != GenerationState.DROPPED]
    at = pointed(*state[1:], state.version)
    return IndexOut(bot=bot, questions=view.questions, generations=shown, **at.model_dump())


def _first(view: IndexView) -> GenerationOut:
    return GenerationOut(
        id=public_name(view.first.id),
        embedder=view.first.embedder,
        bounds=BoundsIn.model_validate(view.first.bounds),
        use=_use(view.first.id, view),
        state=GenerationState.READY,
    )


def _row(row: GenerationRow, view: IndexView) -> GenerationOut:
    return GenerationOut(
        id=row.id,
        embedder=row.embedder,
        bounds=BoundsIn(**row.bounds),
        use=_use(row.id, view),
        state=GenerationState(row.state),
        documents_done=row.documents_done,
        documents_total=row.documents_total,
        report=Comparison.model_validate(row.report) if row.report else None,
        last_error=row.last_error,
        created_at=row.created_at,
    )


def _use(generation_id: str, view: IndexView) -> str:
    if generation_id == view.state.active:
        return "active"
    return "previous" if generation_id == view.state.previous else "candidate"
