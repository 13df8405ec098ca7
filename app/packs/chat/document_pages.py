"""The console's pages of documents: how far each is, what failed and why, files in, documents out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.http.bots import InBot
from app.http.uploads import read_document
from app.knowledge.models import Document
from app.knowledge.page import BOT_NAME
from app.knowledge.parsing.media import ACCEPTED
from app.knowledge.repository import UNFINISHED, ChunkRepository, DocumentHeads
from app.pack import Kit
from app.packs.chat.bots import PACK, Bots
from app.principal import Principal, Role
from app.web.paging import query_of
from app.web.places import BASE
from app.web.shell import ConsolePrincipal, CurrentShell

DOCUMENTS: Final = f"{BASE}/{PACK}/documents"
UPLOAD_PATH: Final = f"{DOCUMENTS}/{{bot}}"
PAGE: Final = 50
MOST_BOTS: Final = 200
SUFFIXES: Final = ",".join(suffix for suffixes in ACCEPTED.values() for suffix in suffixes)
Cursor = Annotated[str | None, Query(max_length=64)]


@dataclass(frozen=True, slots=True)
class Row:
    """A document in the list; `done` of `total` chunks are indexed while it is under way."""

    document: Document
    done: int = 0
    total: int = 0


def add_documents(routes: APIRouter, kit: Kit, bots: Bots) -> None:
    _add_list(routes, kit, bots)
    _add_document(routes, kit)
    _add_changes(routes, kit)


def _add_list(routes: APIRouter, kit: Kit, bots: Bots) -> None:
    @routes.get("/documents")
    async def show(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        bot: Annotated[str, Query(max_length=64, pattern=f"^({BOT_NAME})?$")] = "",
        cursor: Cursor = None,
    ) -> Response:
        known = [one.name for one in await bots.offered(principal, MOST_BOTS)]
        chosen = bot or (known[0] if known else "")
        live = await _live(kit, principal, chosen, cursor)
        return shell.page(request, "chat/documents.html", known=known, suffixes=SUFFIXES, **live)

    @routes.get("/documents/{bot}/live")
    async def live_part(
        request: Request, shell: CurrentShell, principal: ConsolePrincipal, bot: InBot, cursor: Cursor = None
    ) -> Response:
        return shell.page(request, "chat/documents_live.html", **await _live(kit, principal, bot, cursor))


async def _live(kit: Kit, principal: Principal, bot: str, cursor: str | None) -> dict[str, Any]:
    """The part that moves while documents are under way."""
    async with kit.ports.db.reading(principal.tenant_id) as session:
        found = await DocumentHeads(session, principal.tenant_id).page(Document.bot == bot, cursor=cursor, limit=PAGE)
        rows = await _rows(session, principal, found.items)
    wanted = {"bot": bot}
    return {
        "bot": bot,
        "rows": rows,
        "moving": any(row.document.status in UNFINISHED for row in rows),
        "cursor": cursor,
        "first": query_of(wanted),
        "more": query_of(wanted, found.next_cursor) if found.next_cursor else None,
    }


async def _rows(session: AsyncSession, principal: Principal, documents: Sequence[Document]) -> list[Row]:
    moving = [document.id for document in documents if document.status in UNFINISHED]
    progress = await ChunkRepository(session, principal.tenant_id).progress(moving) if moving else {}
    return [Row(document, *progress.get(document.id, (0, 0))) for document in documents]


def _add_document(routes: APIRouter, kit: Kit) -> None:
    @routes.get("/documents/{bot}/{document_id}")
    async def show(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        bot: InBot,
        document_id: str,
        after: Annotated[int, Query(ge=-1, le=1 << 31)] = -1,
    ) -> Response:
        active = await kit.generations.active(principal.tenant_id, bot)
        async with kit.ports.db.reading(principal.tenant_id) as session:
            document = await DocumentHeads(session, principal.tenant_id).get_of_bot(bot, document_id)
            [row] = await _rows(session, principal, [document])
            chunks = await ChunkRepository(session, principal.tenant_id).after(document_id, active.id, after, PAGE + 1)
        more = chunks[PAGE - 1].ordinal if len(chunks) > PAGE else None
        return shell.page(request, "chat/document.html", bot=bot, row=row, chunks=chunks[:PAGE], more=more)


def _add_changes(routes: APIRouter, kit: Kit) -> None:
    db = kit.ports.db

    @routes.post("/documents/{bot}", status_code=202)
    async def upload(request: Request, principal: ConsolePrincipal, bot: InBot) -> Response:
        """For our own script, which sends the token in a header: a form with one file."""
        principal.require(Role.AGENT)
        given = await read_document(request)
        async with db.transaction(principal.tenant_id) as session:
            await kit.documents.submit(session, principal, bot, given)
        return Response(status_code=202)

    @routes.post("/documents/{bot}/{document_id}/retry")
    async def retry(principal: ConsolePrincipal, bot: InBot, document_id: str) -> Response:
        async with db.transaction(principal.tenant_id) as session:
            await kit.documents.retry(session, principal, bot, document_id)
        return _back(bot)

    @routes.post("/documents/{bot}/{document_id}/delete")
    async def delete(principal: ConsolePrincipal, bot: InBot, document_id: str) -> Response:
        await kit.documents.remove(principal, bot, document_id)
        return _back(bot)


def _back(bot: str) -> Response:
    return RedirectResponse(f"{DOCUMENTS}?bot={quote(bot)}", 303)
