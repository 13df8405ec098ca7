"""`/v1/teams`: ask a team, and read what was asked. For API keys of agents; end users are refused."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.http.deps import Agent
from app.http.streaming import LastEventId, wants_stream
from app.packs.teams.schemas import QuestionIn, QuestionOut, QuestionPage, TeamList
from app.packs.teams.service import TeamService
from app.packs.teams.serving import ANSWERS, Serving


def build_questions_router(service: TeamService, serving: Serving) -> APIRouter:
    router = APIRouter(tags=["teams"])
    _add_asking(router, serving)
    _add_reading(router, service)
    return router


def _add_asking(router: APIRouter, serving: Serving) -> None:
    @router.post(
        "/v1/teams/{team}/ask", responses=ANSWERS, response_class=Response, summary="Put a question to a team of agents"
    )
    async def ask_team(request: Request, team: str, body: QuestionIn, principal: Agent) -> Response:
        """The answer comes within the question's limits, and says what is missing and why."""
        stream = body.stream or wants_stream(request.headers.get("accept"))
        return await serving.respond(request, principal, team, body, stream=stream)

    @router.get(
        "/v1/teams/{team}/ask/streams/{stream_id}",
        responses=ANSWERS,
        response_class=Response,
        summary="Go on with a stream after its last event that arrived",
    )
    async def resume_stream(team: str, stream_id: str, principal: Agent, last_event_id: LastEventId = None) -> Response:
        return serving.resume(principal, team, stream_id, last_event_id)


def _add_reading(router: APIRouter, service: TeamService) -> None:
    @router.get("/v1/teams", summary="The teams, their members and what each may look up")
    async def list_teams(principal: Agent) -> TeamList:
        return await service.teams(principal)

    @router.get("/v1/teams/questions", summary="What was asked, newest first")
    async def list_questions(
        principal: Agent,
        team: Annotated[str | None, Query(max_length=60)] = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> QuestionPage:
        return await service.page(principal, team, cursor, limit)

    @router.get("/v1/teams/questions/{question_id}", summary="A question with its tasks, their evidence and their cost")
    async def get_question(question_id: str, principal: Agent) -> QuestionOut:
        return await service.get(principal, question_id)
