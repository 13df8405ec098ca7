"""The chat agent over HTTP: ask a bot, come back to a stream, say whether the answer helped, set bots up."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.conversation.serving import ANSWERS, Conversations
from app.http.bots import InBot
from app.http.deps import CurrentPrincipal, CurrentUser, user_limit
from app.http.streaming import LastEventId, wants_stream
from app.memory import Turn
from app.pack import Kit
from app.packs.chat.bots import Bots
from app.packs.chat.feedback import Feedback
from app.packs.chat.schemas import (
    BotOut,
    BotPage,
    BotSettings,
    ChatIn,
    FeedbackIn,
    FeedbackOut,
    HistoryMessage,
    SeedChatIn,
)
from app.principal import Principal

SEED_PATH = "/chat"
# Of an end user, answers from this process's cache not counted: the tenant's day is not one person's to spend.
CHATS_A_MINUTE = 30


def chat_path(bot: str) -> str:
    return f"/v1/bots/{bot}/chat"


def build_router(kit: Kit, bots: Bots) -> APIRouter:
    router = APIRouter(tags=["chat"])
    _add_chat(router, kit, bots)
    _add_feedback(router, Feedback(kit))
    _add_bots(router, kit, bots)
    return router


def _add_chat(router: APIRouter, kit: Kit, bots: Bots) -> None:
    conversations = Conversations(kit.assistant, kit.streams)
    limits = [user_limit("chat", CHATS_A_MINUTE, keys=False)]

    async def respond(request: Request, principal: Principal, bot: str, body: ChatIn) -> Response:
        spec = await bots.spec(principal, bot)
        stream = body.stream or wants_stream(request.headers.get("accept"))
        history = None if body.history is None else turns_of(body.history, kit)
        return await conversations.respond(
            request, principal, spec, body.message, scope=chat_path(bot), stream=stream, history=history
        )

    @router.post(
        "/v1/bots/{bot}/chat",
        dependencies=limits,
        responses=ANSWERS,
        response_class=Response,
        summary="Ask a bot",
    )
    async def chat(request: Request, bot: InBot, body: ChatIn, principal: CurrentUser) -> Response:
        return await respond(request, principal, bot, body)

    @router.post(
        SEED_PATH,
        dependencies=limits,
        responses=ANSWERS,
        response_class=Response,
        summary="Ask a bot, named in the body",
    )
    async def chat_by_id(request: Request, body: SeedChatIn, principal: CurrentUser) -> Response:
        return await respond(request, principal, body.bot_id, body)

    @router.get(
        "/v1/bots/{bot}/chat/streams/{stream_id}",
        responses=ANSWERS,
        response_class=Response,
        summary="Go on with a stream after its last event that arrived",
    )
    async def resume(bot: InBot, stream_id: str, principal: CurrentUser, last_event_id: LastEventId = None) -> Response:
        return conversations.resume(principal, scope=chat_path(bot), stream_id=stream_id, last_event_id=last_event_id)

    @router.delete("/v1/bots/{bot}/memory", status_code=204, summary="Forget what was said with this bot")
    async def forget(bot: InBot, principal: CurrentUser) -> None:
        await kit.memory.forget(principal.tenant_id, principal.user, bot)


def _add_feedback(router: APIRouter, feedback: Feedback) -> None:
    @router.post("/v1/bots/{bot}/answers/{decision_id}/feedback", summary="Say whether an answer helped")
    async def give(bot: InBot, decision_id: str, body: FeedbackIn, principal: CurrentUser) -> FeedbackOut:
        return await feedback.give(principal, bot, decision_id, body)


def _add_bots(router: APIRouter, kit: Kit, bots: Bots) -> None:
    db = kit.ports.db

    @router.get("/v1/bots", summary="The bots that can be asked, by name")
    async def list_bots(
        principal: CurrentPrincipal,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> BotPage:
        return await bots.list(principal, cursor, limit)

    @router.get("/v1/bots/{bot}", summary="How a bot answers")
    async def get_bot(bot: InBot, principal: CurrentPrincipal) -> BotOut:
        return await bots.get(principal, bot)

    @router.put("/v1/bots/{bot}", summary="Set a bot up")
    async def put_bot(bot: InBot, body: BotSettings, principal: CurrentPrincipal) -> BotOut:
        async with db.transaction(principal.tenant_id) as session:
            changed = await bots.put(session, principal, bot, body)
        bots.changed(principal, bot)
        return changed

    @router.delete("/v1/bots/{bot}", status_code=204, summary="Take a bot's settings away")
    async def delete_bot(bot: InBot, principal: CurrentPrincipal) -> None:
        async with db.transaction(principal.tenant_id) as session:
            await bots.remove(session, principal, bot)
        bots.changed(principal, bot)


def turns_of(history: list[HistoryMessage], kit: Kit) -> list[Turn]:
    now = kit.ports.clock()
    return [Turn(message.role, message.content, now) for message in history]
