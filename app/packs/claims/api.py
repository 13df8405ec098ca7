"""`/v1/claims`: the insurer puts members in; a signed-in member reads their own and asks."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.conversation.assistant import MAX_QUESTION
from app.conversation.serving import ANSWERS, Conversations
from app.http.deps import Admin, CurrentUser, user_limit
from app.http.streaming import LastEventId, wants_stream
from app.pack import Kit
from app.packs.claims.answering import Answering
from app.packs.claims.reading import read_members
from app.packs.claims.schemas import (
    Balances,
    ClaimDetail,
    ClaimPage,
    ImportReport,
    MembersIn,
    PolicyOut,
    State,
    Year,
    claim_filter,
)
from app.packs.claims.service import ClaimsService
from app.packs.claims.tools import BOT

MEMBERS_PATH = "/v1/claims/members"
CHAT_PATH = "/v1/claims/chat"
CHATS_A_MINUTE = 10


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    message: str = Field(min_length=1, max_length=MAX_QUESTION)
    stream: bool = False


def _members_body() -> dict[str, Any]:
    """The request body for the API's description: the endpoint reads it itself, for it comes in two forms."""
    content = {
        "application/json": {"schema": _inlined(MembersIn.model_json_schema())},
        "text/csv": {"schema": {"type": "string", "description": "A header line, then a claim a line"}},
    }
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: dict[str, Any]) -> Any:
    """The schema without references, which would mean something else inside the API's description."""
    named = schema.pop("$defs")

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolved(named[node["$ref"].rpartition("/")[2]])
        return {name: resolved(item) for name, item in node.items()}

    return resolved(schema)


def build_router(kit: Kit, service: ClaimsService, answering: Answering) -> APIRouter:
    router = APIRouter(tags=["claims"])
    _add_import(router, service)
    _add_reading(router, service)
    _add_chat(router, kit, answering)
    return router


def _add_import(router: APIRouter, service: ClaimsService) -> None:
    @router.put(MEMBERS_PATH, openapi_extra=_members_body(), summary="Add or change members, policies and claims")
    async def put_members(request: Request, principal: Admin) -> ImportReport:
        """All of the body or nothing; the same body again changes nothing. Amounts are whole hundredths.

        As CSV the columns are `user_id`, `name`, `email`, `policy_number`, `product`, `currency`, `starts_on`,
        `ends_on`, `limits` (`dental=120000;optical=30000`), `claim_number`, `benefit`, `state`, `amount_claimed`,
        `amount_paid`, `incurred_on` and `note`.
        """
        body = await request.body()
        given = await asyncio.to_thread(read_members, request.headers.get("content-type", ""), body)
        return await service.put_members(principal, given)


def _add_reading(router: APIRouter, service: ClaimsService) -> None:
    @router.get("/v1/claims/policies", summary="The signed-in member's policies")
    async def list_policies(principal: CurrentUser) -> list[PolicyOut]:
        return await service.policies(principal)

    @router.get("/v1/claims/balance", summary="What is left of the signed-in member's limits")
    async def balance(principal: CurrentUser, year: Annotated[Year | None, Query()] = None) -> Balances:
        return await service.balances(principal, year)

    @router.get("/v1/claims", summary="The signed-in member's claims, newest first")
    async def list_claims(
        principal: CurrentUser,
        state: Annotated[State | None, Query(description="A state, or `open` for all that are not settled")] = None,
        year: Annotated[Year | None, Query(description="In which the cost was incurred")] = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> ClaimPage:
        return await service.claims(principal, claim_filter(state, year), cursor, limit)

    @router.get("/v1/claims/{number}", summary="One claim of the signed-in member")
    async def get_claim(number: str, principal: CurrentUser) -> ClaimDetail:
        return await service.claim(principal, number)


def _add_chat(router: APIRouter, kit: Kit, answering: Answering) -> None:
    conversations = Conversations(kit.assistant, kit.streams)

    @router.post(
        CHAT_PATH,
        dependencies=[user_limit("claims-chat", CHATS_A_MINUTE)],
        responses=ANSWERS,
        response_class=Response,
        summary="Ask about one's own claims, or how the insurance works",
    )
    async def chat(request: Request, question: Question, principal: CurrentUser) -> Response:
        spec = await answering.spec(principal)
        stream = question.stream or wants_stream(request.headers.get("accept"))
        return await conversations.respond(request, principal, spec, question.message, scope=CHAT_PATH, stream=stream)

    @router.get(
        f"{CHAT_PATH}/streams/{{stream_id}}",
        responses=ANSWERS,
        response_class=Response,
        summary="Go on with a stream after its last event that arrived",
    )
    async def resume(
        stream_id: str,
        principal: CurrentUser,
        last_event_id: LastEventId = None,
    ) -> Response:
        return conversations.resume(principal, scope=CHAT_PATH, stream_id=stream_id, last_event_id=last_event_id)

    @router.delete("/v1/claims/memory", status_code=204, summary="Forget what was said with the claims assistant")
    async def forget(principal: CurrentUser) -> None:
        await kit.memory.forget(principal.tenant_id, principal.user, BOT)
