"""Questions over HTTP: answered whole, or as server-sent events that a client may come back to."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from app.http.leaving import unless_gone
from app.http.streaming import StreamEvent, Streams, resume_after
from app.packs.teams.joining import Done
from app.packs.teams.running import Progress
from app.packs.teams.schemas import PlannedTask, QuestionIn, QuestionOut, TaskOut
from app.packs.teams.service import TeamService
from app.packs.teams.views import task_out
from app.principal import Principal

PLAN, TASK_STARTED, TASK_ENDED, ANSWER = "plan", "task_started", "task_ended", "answer"
_EVENT: Final = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["start", PLAN, TASK_STARTED, TASK_ENDED, ANSWER, "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": QuestionOut,
        "description": "The question with its tasks and its answer; with `stream`, or where `Accept` asks for "
        "`text/event-stream`, the events `start`, `plan` (one a round), `task_started`, `task_ended`, and at last "
        "`answer` (the question) or `error` (the fields of a problem)",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}


class PlanOut(BaseModel):
    """One round's plan. `planned_by` is `model` or `rule`."""

    planned_by: str
    tasks: list[PlannedTask]


class Serving:
    """Answers one request, whole or streamed. `scope` gives the address where a team's streams are found again."""

    def __init__(self, service: TeamService, streams: Streams, scope: Callable[[str], str] | None = None) -> None:
        self._service = service
        self._streams = streams
        self._scope = scope or scope_of

    async def respond(
        self, request: Request, principal: Principal, team: str, body: QuestionIn, *, stream: bool
    ) -> Response:
        """Raises as `TeamService.ask` where nothing was sent yet, and Abandoned where the client went away."""
        if not stream:
            answer = await unless_gone(request.receive, self._service.ask(principal, team, body))
            return Response(answer.model_dump_json(), media_type="application/json")
        opening = self._streams.open(principal, self._scope(team), self._events(principal, team, body))
        opened = await unless_gone(request.receive, opening)
        response = self._streams.response(opened)
        response.headers["location"] = opened.address
        return response

    def resume(self, principal: Principal, team: str, stream_id: str, last_event_id: str | None) -> Response:
        """The stream's events after the last one that the client has. Raises NotFound, InvalidInput."""
        stream = self._streams.find(principal, self._scope(team), stream_id)
        return self._streams.response(stream, resume_after(stream, last_event_id))

    async def _events(self, principal: Principal, team: str, body: QuestionIn) -> AsyncGenerator[StreamEvent, None]:
        """What happens, as it happens. Closing it ends the team's work."""
        happened: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        work = asyncio.create_task(self._service.ask(principal, team, body, _progress(happened)))
        work.add_done_callback(lambda _task: happened.put_nowait(None))
        try:
            while (event := await happened.get()) is not None:
                yield event
            yield _event(ANSWER, work.result())
        finally:
            work.cancel()


def scope_of(team: str) -> str:
    """The API's address where a stream of the team is found again."""
    return f"/v1/teams/{team}/ask"


def _progress(happened: "asyncio.Queue[StreamEvent | None]") -> Progress:
    def planned(tasks: Sequence[PlannedTask], by: str) -> None:
        happened.put_nowait(_event(PLAN, PlanOut(planned_by=by, tasks=list(tasks))))

    def started(task: PlannedTask) -> None:
        happened.put_nowait(_event(TASK_STARTED, task))

    def ended(done: Done) -> None:
        shown: TaskOut = task_out(done)
        happened.put_nowait(_event(TASK_ENDED, shown))

    return Progress(planned, started, ended)


def _event(name: str, document: BaseModel) -> StreamEvent:
    return StreamEvent(name, document.model_dump_json().encode())
