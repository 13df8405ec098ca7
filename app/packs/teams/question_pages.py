"""The console's pages of teams: a question is asked, watched while the members work, and read with its evidence."""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.http.leaving import unless_gone
from app.http.streaming import LastEventId, wants_stream
from app.pack import Kit
from app.packs.teams.models import QuestionState, TaskState
from app.packs.teams.schemas import MAX_QUESTION, QuestionIn
from app.packs.teams.service import TeamService
from app.packs.teams.serving import Serving
from app.packs.teams.team import PACK
from app.principal import Principal, Role
from app.web.forms import read_form
from app.web.paging import query_of
from app.web.places import BASE
from app.web.shell import ConsolePrincipal, CurrentShell

TEAMS: Final = f"{BASE}/{PACK}"
ASK: Final = f"{TEAMS}/ask"
PAGE: Final = 20
QUESTION_KINDS: Final[Mapping[str, str]] = {
    QuestionState.RUNNING: "new",
    QuestionState.DONE: "done",
    QuestionState.PARTIAL: "waiting",
    QuestionState.FAILED: "failed",
}
"""The badge of each state of a question."""
TASK_KINDS: Final[Mapping[str, str]] = {
    TaskState.DONE: "done",
    TaskState.FAILED: "failed",
    TaskState.TIMEOUT: "failed",
    TaskState.REFUSED: "waiting",
    TaskState.SKIPPED: "waiting",
}
"""The badge of each state of a sub-question."""
_MARK: Final = re.compile(r"\[(\d{1,4})\]")


class QuestionForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    team: str = Field(min_length=1, max_length=60)
    question: str = Field(min_length=1, max_length=MAX_QUESTION)
    subject: str = Field("", max_length=128)


def add_questions(routes: APIRouter, kit: Kit, service: TeamService) -> None:
    _add_list(routes, kit, service)
    _add_asking(routes, Serving(service, kit.streams, lambda _team: ASK), service)
    _add_question(routes, service)


def _add_list(routes: APIRouter, kit: Kit, service: TeamService) -> None:
    @routes.get("")
    async def list_questions(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        team: Annotated[str, Query(max_length=60)] = "",
        subject: Annotated[str, Query(max_length=128)] = "",
        cursor: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        found = await service.page(principal, None, cursor, PAGE)
        return shell.page(
            request,
            "teams/questions.html",
            teams=(await service.teams(principal)).teams,
            team=team,
            subject=subject,
            questions=found.items,
            kinds=QUESTION_KINDS,
            longest=MAX_QUESTION,
            stopped=kit.flags.killed(PACK, principal.tenant_id),
            cursor=cursor,
            first="",
            more=query_of({}, found.next_cursor) if found.next_cursor else None,
        )


def _add_asking(routes: APIRouter, serving: Serving, service: TeamService) -> None:
    @routes.post("/ask")
    async def ask(request: Request, principal: ConsolePrincipal) -> Response:
        """Streamed to our own script; a browser without it waits for the answer, and is sent to its page."""
        principal.require(Role.AGENT)
        form = await read_form(request, QuestionForm)
        body = QuestionIn(question=form.question, subject=form.subject)
        if wants_stream(request.headers.get("accept")):
            return await serving.respond(request, principal, form.team, body, stream=True)
        answer = await unless_gone(request.receive, service.ask(principal, form.team, body))
        return RedirectResponse(f"{TEAMS}/questions/{answer.id}", 303)

    @routes.get("/ask/streams/{stream_id}")
    async def resume(principal: ConsolePrincipal, stream_id: str, last_event_id: LastEventId = None) -> Response:
        return serving.resume(principal, "", stream_id, last_event_id)


def _add_question(routes: APIRouter, service: TeamService) -> None:
    @routes.get("/questions/{question_id}")
    async def show(request: Request, shell: CurrentShell, principal: ConsolePrincipal, question_id: str) -> Response:
        return shell.page(request, "teams/question.html", **await _question(service, principal, question_id))

    @routes.get("/questions/{question_id}/live")
    async def live(request: Request, shell: CurrentShell, principal: ConsolePrincipal, question_id: str) -> Response:
        return shell.page(request, "teams/question_live.html", **await _question(service, principal, question_id))


async def _question(service: TeamService, principal: Principal, question_id: str) -> dict[str, Any]:
    question = await service.get(principal, question_id)
    titles = {
        member.name: member.title
        for team in (await service.teams(principal)).teams
        if team.name == question.team
        for member in team.members
    }
    text = question.answer.text if question.answer else ""
    return {
        "question": question,
        "titles": titles,
        "pieces": pieces(text, {task.number for task in question.tasks}),
        "readable": readable,
        "kinds": QUESTION_KINDS,
        "task_kinds": TASK_KINDS,
        "running": question.state == QuestionState.RUNNING,
    }


def pieces(text: str, numbers: Collection[int]) -> list[tuple[str, int | None]]:
    """The text in parts, each with the sub-question that the mark behind it (`[2]`) names; None where there is none."""
    found: list[tuple[str, int | None]] = []
    begun = 0
    for mark in _MARK.finditer(text):
        if int(mark[1]) in numbers:
            found.append((text[begun : mark.start()], int(mark[1])))
            begun = mark.end()
    return [*found, (text[begun:], None)]


def readable(quote: str) -> Any:
    """The row of a tool that a quote is, where it is a whole one; else the quote."""
    if quote.startswith("{"):
        try:
            return orjson.loads(quote)
        except orjson.JSONDecodeError:
            return quote
    return quote
