"""`/v1/bots/{bot}/documents`: what a bot may rest its answers on, taken in as durable jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.bots import InBot
from app.http.deps import Admin, Agent, CurrentPrincipal, Once
from app.http.uploads import FORM, JSON, StoreIn, TextIn, read_document
from app.knowledge.generations import Generations, public_name
from app.knowledge.jobs import IngestJobs, Submitted
from app.knowledge.models import ChunkRow, Document, DocumentStatus
from app.knowledge.page import File, Page
from app.knowledge.repository import ChunkRepository, DocumentHeads
from app.knowledge.retrieve import Retriever
from app.principal import Principal
from app.storage.db import Database

DOCUMENTS_PATH = "/v1/bots/{bot}/documents"
STORE_PATH = "/embed_and_store"
MOST_FINDINGS = 50

DocumentId = Annotated[str, Path(max_length=64)]


@dataclass(frozen=True, slots=True)
class Desk:
    """What the endpoints are served with."""

    db: Database
    intake: IngestJobs
    generations: Generations
    retriever: Retriever


class DocumentAccepted(BaseModel):
    """`changed` is false where the same content is there, or under way, already; `job_id` is its job."""

    document_id: str
    slug: str
    title: str
    status: DocumentStatus
    changed: bool
    job_id: str | None
    media_type: str
    size_bytes: int


class DocumentOut(BaseModel):
    """`chunks` are those of the index that answers; `quarantined` of them carry instructions and are no evidence.
    `content_hash` is SHA-256 over what was handed in: it tells whether a file changed.
    """

    model_config = ConfigDict(from_attributes=True)

    id: str
    bot: str
    slug: str
    title: str
    tags: list[str]
    media_type: str
    file_name: str | None
    size_bytes: int
    content_hash: str
    status: DocumentStatus
    last_error: str | None
    warnings: list[str]
    chunks: int
    quarantined: int
    job_id: str | None
    created_at: datetime
    updated_at: datetime


class DocumentPage(BaseModel):
    items: list[DocumentOut]
    next_cursor: str | None


class Progress(BaseModel):
    """Chunks that are indexed, of those that are to be; 0 of 0 until the text is read and cut."""

    done: int
    total: int


class InIndex(BaseModel):
    """How much of the document one generation of the index holds; `active` is the one that answers."""

    generation: str
    active: bool
    chunks: dict[DocumentStatus, int]


class Finding(BaseModel):
    rule: str
    excerpt: str


class QuarantinedChunk(BaseModel):
    """A chunk that is kept out of evidence, and why."""

    chunk_id: str
    heading: str
    findings: list[Finding]


class DocumentDetail(DocumentOut):
    """`in_quarantine` holds the first 50 chunks."""

    progress: Progress
    indexes: list[InIndex]
    in_quarantine: list[QuarantinedChunk]


class ChunkOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    ordinal: int
    heading: str
    text: str
    status: DocumentStatus
    last_error: str | None
    findings: list[Finding]


class ChunkPage(BaseModel):
    items: list[ChunkOut]
    next_cursor: int | None


class PassageOut(BaseModel):
    """`score` is 0 to 1; a `weak` passage is no ground for an answer."""

    model_config = ConfigDict(from_attributes=True)

    chunk_id: str
    document_id: str
    slug: str
    title: str
    heading: str
    text: str
    score: float
    weak: bool


class Passages(BaseModel):
    items: list[PassageOut]


class Forgotten(BaseModel):
    """How many documents there were."""

    documents: int


_FORM_SCHEMA = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "Markdown, text, HTML, PDF or .docx"},
        "slug": {"type": "string", "description": "Without it, made from the file's name."},
        "title": {"type": "string", "description": "Without it, the file's own."},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}


def _body(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": {kind: {"schema": schema} for kind, schema in content.items()}}
    }


def documents_router(desk: Desk) -> APIRouter:
    router = APIRouter(tags=["knowledge"])
    _add_intake(router, desk)
    _add_reading(router, desk)
    _add_search(router, desk)
    _add_removal(router, desk)
    return router


def _add_intake(router: APIRouter, desk: Desk) -> None:
    async def take(principal: Principal, once: Once, bot: str, given: Page | File) -> Response:
        async def work(session: AsyncSession) -> DocumentAccepted:
            return _accepted(await desk.intake.submit(session, principal, bot, given))

        answer = await once.run(202, work)
        answer.headers["Location"] = _address(bot, orjson.loads(answer.body)["document_id"])
        return answer

    @router.post(
        DOCUMENTS_PATH,
        status_code=202,
        response_model=DocumentAccepted,
        openapi_extra=_body({FORM: _FORM_SCHEMA, JSON: TextIn.model_json_schema()}),
        summary="Put a document in, in place of what its slug held",
    )
    async def put_document(bot: InBot, request: Request, principal: Agent, once: Once) -> Response:
        return await take(principal, once, bot, await read_document(request))

    @router.post(
        STORE_PATH,
        status_code=202,
        response_model=DocumentAccepted,
        summary="The same for a text, or for chunks that the sender cut",
    )
    async def embed_and_store(body: StoreIn, principal: Agent, once: Once) -> Response:
        return await take(principal, once, body.bot_id, body.given())

    @router.post(
        f"{DOCUMENTS_PATH}/{{document_id}}/retry",
        status_code=202,
        response_model=DocumentAccepted,
        summary="Try a failed document again, from where it failed",
    )
    async def retry_document(bot: InBot, document_id: DocumentId, principal: Agent, once: Once) -> Response:
        async def work(session: AsyncSession) -> DocumentAccepted:
            document = await desk.intake.retry(session, principal, bot, document_id)
            return _accepted(Submitted(document, changed=True))

        return await once.run(202, work)


def _add_reading(router: APIRouter, desk: Desk) -> None:
    @router.get(DOCUMENTS_PATH, summary="A bot's documents, newest first")
    async def list_documents(
        bot: InBot,
        principal: CurrentPrincipal,
        status: DocumentStatus | None = None,
        slug: Annotated[str | None, Query(max_length=96)] = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> DocumentPage:
        wanted = ((Document.status, status), (Document.slug, slug))
        conditions = [column == value for column, value in wanted if value is not None]
        async with desk.db.reading(principal.tenant_id) as session:
            documents = DocumentHeads(session, principal.tenant_id)
            page = await documents.page(Document.bot == bot, *conditions, cursor=cursor, limit=limit)
        return DocumentPage(items=[_out(document) for document in page.items], next_cursor=page.next_cursor)

    @router.get(f"{DOCUMENTS_PATH}/{{document_id}}", summary="How far a document is, and what was found in it")
    async def get_document(bot: InBot, document_id: DocumentId, principal: CurrentPrincipal) -> DocumentDetail:
        active = await desk.generations.active(principal.tenant_id, bot)
        async with desk.db.reading(principal.tenant_id) as session:
            document = await DocumentHeads(session, principal.tenant_id).get_of_bot(bot, document_id)
            chunks = ChunkRepository(session, principal.tenant_id)
            counts = await chunks.counts(document_id)
            quarantined = await chunks.in_quarantine(document_id, active.id) if document.quarantined_count else ()
        return _detail(document, active.id, counts, quarantined)

    @router.get(f"{DOCUMENTS_PATH}/{{document_id}}/chunks", summary="The pieces of a document, in reading order")
    async def list_chunks(
        bot: InBot,
        document_id: DocumentId,
        principal: CurrentPrincipal,
        cursor: Annotated[int | None, Query(ge=0, le=1 << 31)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> ChunkPage:
        active = await desk.generations.active(principal.tenant_id, bot)
        after = -1 if cursor is None else cursor
        async with desk.db.reading(principal.tenant_id) as session:
            await DocumentHeads(session, principal.tenant_id).get_of_bot(bot, document_id)
            chunks = ChunkRepository(session, principal.tenant_id)
            rows = await chunks.after(document_id, active.id, after, limit + 1)
        items = [ChunkOut.model_validate(row) for row in rows[:limit]]
        return ChunkPage(items=items, next_cursor=items[-1].ordinal if len(rows) > limit else None)


def _add_search(router: APIRouter, desk: Desk) -> None:
    @router.get("/v1/bots/{bot}/search", summary="The passages that a question finds")
    async def search(
        bot: InBot,
        principal: CurrentPrincipal,
        q: Annotated[str, Query(min_length=1, max_length=2000)],
        limit: Annotated[int, Query(ge=1, le=50)] = 5,
        tag: Annotated[list[str] | None, Query(max_length=20)] = None,
    ) -> Passages:
        found = await desk.retriever.search(principal.tenant_id, bot, q, limit, tag or ())
        return Passages(items=[PassageOut.model_validate(passage) for passage in found])


def _add_removal(router: APIRouter, desk: Desk) -> None:
    @router.delete(f"{DOCUMENTS_PATH}/{{document_id}}", status_code=204, summary="Take a document out of everything")
    async def delete_document(bot: InBot, document_id: DocumentId, principal: Agent) -> None:
        await desk.intake.remove(principal, bot, document_id)

    @router.delete("/v1/bots/{bot}/knowledge", summary="Take all of a bot's documents out of everything")
    async def delete_knowledge(bot: InBot, principal: Admin) -> Forgotten:
        return Forgotten(documents=await desk.intake.forget(principal, bot))


def _address(bot: str, document_id: str) -> str:
    return f"{DOCUMENTS_PATH.format(bot=bot)}/{document_id}"


def _accepted(submitted: Submitted) -> DocumentAccepted:
    document = submitted.document
    return DocumentAccepted(
        document_id=document.id,
        slug=document.slug,
        title=document.title,
        status=DocumentStatus(document.status),
        changed=submitted.changed,
        job_id=document.job_id,
        media_type=document.media_type,
        size_bytes=document.size_bytes,
    )


def _fields(document: Document) -> dict[str, Any]:
    same = set(DocumentOut.model_fields) - {"chunks", "quarantined"}
    counts = {"chunks": document.chunk_count, "quarantined": document.quarantined_count}
    return {name: getattr(document, name) for name in same} | counts


def _out(document: Document) -> DocumentOut:
    return DocumentOut(**_fields(document))


def _detail(
    document: Document, active: str, counts: Mapping[str, Mapping[str, int]], quarantined: Sequence[ChunkRow]
) -> DocumentDetail:
    indexes = [
        InIndex(
            generation=public_name(generation),
            active=generation == active,
            chunks={DocumentStatus(status): count for status, count in by_status.items()},
        )
        for generation, by_status in sorted(counts.items())
    ]
    done = sum(index.chunks.get(DocumentStatus.READY, 0) for index in indexes)
    return DocumentDetail(
        **_fields(document),
        progress=Progress(done=done, total=sum(sum(index.chunks.values()) for index in indexes)),
        indexes=indexes,
        in_quarantine=[
            QuarantinedChunk(chunk_id=row.id, heading=row.heading, findings=[Finding(**one) for one in row.findings])
            for row in quarantined[:MOST_FINDINGS]
        ],
    )
