"""The chat agent's part of the console: asking a bot; the documents are in `document_pages`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.conversation.assistant import MAX_QUESTION
from app.conversation.record import ANSWERED, REFUSED
from app.conversation.serving import Conversations
from app.governance.models import Decision
from app.http.bots import InBot
from app.http.streaming import LastEventId
from app.pack import Kit
from app.packs.chat.bots import PACK, Bots
from app.packs.chat.document_pages import DOCUMENTS, MOST_BOTS, add_documents
from app.packs.chat.feedback import Feedback
from app.packs.chat.schemas import BotOut, FeedbackIn
from app.principal import Principal
from app.web.forms import read_form
from app.web.pack_pages import NavEntry, PackPages
from app.web.places import BASE
from app.web.shell import ConsolePrincipal, CurrentShell

CHAT: Final = f"{BASE}/{PACK}"
# Before and behind the name of the one who asked, in "Decided to ...".
PHRASES: Final = {ANSWERED: ("answer", ""), REFUSED: ("tell", " that the documents do not say it")}
HERE: Final = Path(__file__).parent


class QuestionForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    message: str = Field(min_length=1, max_length=MAX_QUESTION)


def build_pages(kit: Kit, bots: Bots) -> PackPages:
    routes = APIRouter()
    _add_talk(routes, kit, bots)
    _add_asking(routes, kit, bots)
    add_documents(routes, kit, bots)
    return PackPages(
        router=routes,
        nav=(NavEntry("Chat", CHAT), NavEntry("Documents", DOCUMENTS)),
        templates=HERE / "templates",
        static=HERE / "static",
        words={"refused": "refused: no evidence"},
        describe=_describe,
    )


async def _describe(_session: AsyncSession, _tenant_id: str, decision: Decision) -> Mapping[str, Any]:
    cited = {row["chunk_id"] for row in decision.evidence}
    passages = [{**row, "cited": row["chunk_id"] in cited} for row in decision.inputs["passages"]]
    phrase = PHRASES[decision.action]
    return {"phrase": phrase, "inputs": decision.inputs, "answer": decision.answer, "passages": passages}


def _add_talk(routes: APIRouter, kit: Kit, bots: Bots) -> None:
    @routes.get("")
    async def talk(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        bot: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        known = await bots.offered(principal, MOST_BOTS)
        chosen = await _chosen(bots, principal, known, bot)
        turns = await kit.memory.recent(principal.tenant_id, chosen.name, principal.user) if chosen else ()
        return shell.page(request, "chat/talk.html", bots=known, chosen=chosen, turns=turns, longest=MAX_QUESTION)

    @routes.post("/bots/{bot}/forget")
    async def forget(principal: ConsolePrincipal, bot: InBot) -> Response:
        await kit.memory.forget(principal.tenant_id, principal.user, bot)
        return RedirectResponse(f"{CHAT}?bot={bot}", 303)


async def _chosen(bots: Bots, principal: Principal, known: Sequence[BotOut], name: str) -> BotOut | None:
    """The bot that was asked for, else the first one; None where there is none. Raises NotFound."""
    if name:
        return await bots.get(principal, name)
    return known[0] if known else None


def _add_asking(routes: APIRouter, kit: Kit, bots: Bots) -> None:
    conversations = Conversations(kit.assistant, kit.streams)
    feedback = Feedback(kit)

    @routes.post("/bots/{bot}/ask")
    async def ask(request: Request, principal: ConsolePrincipal, bot: InBot) -> Response:
        question = await read_form(request, QuestionForm)
        spec = await bots.spec(principal, bot)
        return await conversations.respond(
            request, principal, spec, question.message, scope=_ask_path(bot), stream=True
        )

    @routes.get("/bots/{bot}/ask/streams/{stream_id}")
    async def resume(
        principal: ConsolePrincipal,
        bot: InBot,
        stream_id: str,
        last_event_id: LastEventId = None,
    ) -> Response:
        return conversations.resume(principal, scope=_ask_path(bot), stream_id=stream_id, last_event_id=last_event_id)

    @routes.post("/bots/{bot}/answers/{decision_id}/feedback")
    async def judge(request: Request, principal: ConsolePrincipal, bot: InBot, decision_id: str) -> Response:
        await feedback.give(principal, bot, decision_id, await read_form(request, FeedbackIn))
        return Response(status_code=204)


def _ask_path(bot: str) -> str:
    return f"{CHAT}/bots/{bot}/ask"
