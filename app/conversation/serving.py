"""Turns over HTTP: whole, or as server-sent events that a client may come back to."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Final

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from app.conversation.assistant import Assistant
from app.conversation.events import CacheHit, Citation, Done, Event, Failed, Token, ToolUsed
from app.conversation.spec import AssistantSpec
from app.conversation.wire import dump
from app.http.leaving import unless_gone
from app.http.streaming import StreamEvent, Streams, problem_event, resume_after
from app.memory import Turn
from app.principal import Principal

_NAMES: Final = {Token: "token", Citation: "citation", ToolUsed: "tool"}


class AnswerOut(BaseModel):
    """An answer: what it says, what it rests on, what it cost, and which cache saved that.

    `refused`: the documents held nothing that answers, and the text says so. `grounded`: it cites a passage or rests on
    a tool's result. `cost_usd` is what this turn was charged; `saved_usd` what the answer cost when it was first made,
    where a cache gave it. `decision_id` explains it, and is what feedback is given on;
    `arm` is the one of `experiment` that answered, both null where none runs.
    """

    text: str
    citations: list[Citation]
    tools: list[ToolUsed]
    refused: bool
    grounded: bool
    cache: CacheHit
    model: str
    provider: str
    route: str
    prompt: str
    prompt_version: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_usd: float
    saved_usd: float
    model_ms: float
    duration_ms: float
    decision_id: str
    experiment: str | None
    arm: str | None


_EVENT: Final = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["start", *_NAMES.values(), "done", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
"""One event of a stream, for the API's description."""
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": AnswerOut,
        "description": "The answer; with `stream`, or where `Accept` asks for `text/event-stream`, the events `start`, "
        "`token`, `citation`, `tool`, and at last `done` (the answer) or `error` (the fields of a problem)",
        "content": {"text/event-stream": {"schema": _EVENT}},
    }
}
"""What an address that talks gives, for the API's description."""


class Conversations:
    """What an endpoint that talks needs. `scope` is its own path: a stream is found again on that path alone."""

    def __init__(self, assistant: Assistant, streams: Streams) -> None:
        self._assistant = assistant
        self._streams = streams

    async def respond(
        self,
        request: Request,
        principal: Principal,
        spec: AssistantSpec,
        question: str,
        *,
        scope: str,
        stream: bool,
        history: Sequence[Turn] | None = None,
    ) -> Response:
        """The answer as one JSON document, or, with `stream`, as the events `start`, `token`, `citation`, `tool` and at
        last `done` (that document) or `error` (a problem document's fields); `Location` says where to come back to.

        A client that goes away while it waits ends the turn at once: nothing that it could come back to was sent.
        Raises as `Assistant.turn`, where nothing was sent yet, and Abandoned.
        """
        if not stream:
            answering = self._assistant.answer(principal, spec, question, history=history)
            answer = await unless_gone(request.receive, answering)
            return Response(dump(answer), media_type="application/json")
        turn = self._assistant.turn(principal, spec, question, history=history, streamed=True)
        opened = await unless_gone(request.receive, self._streams.open(principal, scope, _sent(turn)))
        response = self._streams.response(opened)
        response.headers["location"] = opened.address
        return response

    def resume(self, principal: Principal, *, scope: str, stream_id: str, last_event_id: str | None) -> Response:
        """The stream's events after the last one that the client has. Raises NotFound, InvalidInput."""
        stream = self._streams.find(principal, scope, stream_id)
        return self._streams.response(stream, resume_after(stream, last_event_id))


async def _sent(turn: AsyncGenerator[Event, None]) -> AsyncGenerator[StreamEvent, None]:
    async with aclosing(turn) as events:
        async for event in events:
            yield _frame(event)


def _frame(event: Event) -> StreamEvent:
    if isinstance(event, Done):
        return StreamEvent("done", dump(event.answer))
    if isinstance(event, Failed):
        return problem_event(
            event.code, event.title, event.detail, event.status, event.retry_after, partial=event.partial
        )
    return StreamEvent(_NAMES[type(event)], orjson.dumps(asdict(event)))
