"""The steps of a run: the model is asked, its tools run, until it answers. What `Agent.run` and `Agent.talk` share.

The model may have tools that read run, and no other: whatever a message, a passage or a tool's result talks it
into, a write that it asks for is refused. Writes are planned by the pack's own code after the answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Protocol, TypeVar

import orjson
from opentelemetry import trace

from app.agent.answers import RoutedReply
from app.agent.budgets import Caps, Tally
from app.agent.model import NOTHING_USED, Message, ModelReply, ModelRequest, TextDelta, ToolCall, ToolSpec, Usage
from app.agent.parsing import parse_arguments
from app.agent.routing import DeadlineExceeded, ModelRouter
from app.agent.talk import StepItem, TextReset, ToolEnded, ToolStarted
from app.agent.tools import Effect, OutcomeState, ToolCallPlan, ToolExecutor, ToolOutcome
from app.errors import TrellisError
from app.ids import new_id
from app.principal import Principal
from app.telemetry import spans

Result = TypeVar("Result")

MAX_CALLS_A_TURN: Final = 8
MAX_RESULT_CHARACTERS: Final = 16_000
_MAX_NAME: Final = 64
_OUT_OF_STEPS: Final = "No more tools: answer now, with what you have."

Tell = Callable[[ToolOutcome], Any]
"""What the model is told of a call that is done: JSON values."""


class AgentFailed(TrellisError):
    """The model gave no valid answer. `detail` says in what way; the answer itself is not quoted."""

    status: ClassVar[int] = 502
    code: ClassVar[str] = "agent-failed"
    title: ClassVar[str] = "The agent came to no answer"


class Bounded(Protocol):
    """What every agent's spec says of its steps."""

    @property
    def name(self) -> str: ...
    @property
    def tools(self) -> tuple[str, ...]: ...
    @property
    def route(self) -> str: ...
    @property
    def max_steps(self) -> int: ...
    @property
    def caps(self) -> Caps: ...


@dataclass(slots=True)
class Run:
    """What one run knows, and what it has used so far.

    `deadline` is of the event loop's clock; `capped`: it is the spec's own cap on time. `fresh` passes the cache
    of replies by; `streamed` has each answer come piece by piece, from no cache. `tell` is what the model is told of a
    call that is done. `tally` is the caller's: it counts every call to a provider.
    """

    principal: Principal
    spec: Bounded
    subject_id: str
    request: ModelRequest
    deadline: float
    capped: bool
    fresh: bool = False
    streamed: bool = False
    tell: Tell = field(default=lambda outcome: outcome.result)
    tally: Tally = field(default_factory=Tally)
    id: str = field(default_factory=lambda: new_id("run"))
    span: trace.Span = trace.INVALID_SPAN
    steps: int = 0
    outcomes: list[ToolOutcome] = field(default_factory=list)
    usage: Usage = NOTHING_USED
    cost_micros: int = 0
    model_s: float = 0.0

    @property
    def left(self) -> Caps:
        return self.spec.caps.less(self.usage.total, self.cost_micros)

    def say(self, *messages: Message) -> None:
        self.request = replace(self.request, messages=(*self.request.messages, *messages))

    def take_tools_away(self) -> None:
        self.request = replace(self.request, tools=())

    def begin_step(self) -> None:
        """Counts the step, and leaves the last one no tools."""
        if self.request.tools and self.steps + 1 >= self.spec.max_steps:
            self.take_tools_away()
            if self.steps:
                self.say(Message("user", _OUT_OF_STEPS))
        self.steps += 1

    def count(self, routed: RoutedReply) -> None:
        self.model_s += routed.model_s
        if not routed.cached:
            self.usage += routed.reply.usage
            self.cost_micros += routed.cost_micros


class Steps:
    """Takes the steps of any run. Holds nothing of one."""

    def __init__(self, router: ModelRouter, executor: ToolExecutor) -> None:
        self._router = router
        self._executor = executor

    def offered(self, spec: Bounded) -> tuple[ToolSpec, ...]:
        """The spec's tools that read: a model is not even shown the others."""
        specs = [(self._executor.registry.get(name), self._executor.registry.spec(name)) for name in spec.tools]
        return tuple(shown for tool, shown in specs if tool is not None and tool.effect is Effect.READ)

    async def until_answer(self, run: Run) -> AsyncGenerator[StepItem | RoutedReply, None]:
        """What happens, and last the reply that calls no tool. Raises what `Agent.run` raises."""
        while True:
            run.begin_step()
            said = False
            async with aclosing(self._asked(run)) as items:
                async for item in items:
                    if isinstance(item, RoutedReply):
                        last = item
                    else:
                        said = True
                        yield item
            if not last.reply.tool_calls:
                yield last
                return
            if not run.request.tools:
                raise AgentFailed(f"The agent '{run.spec.name}' went on asking for tools when it had to answer.")
            if said:
                yield TextReset()
            async for used in self._use_tools(run, last.reply):
                yield used

    async def ask(self, run: Run) -> RoutedReply:
        """One whole reply."""
        with spans.inside(run.span):
            reply = self._router.complete(
                run.request,
                run.spec.route,
                run.principal,
                run.deadline,
                run.left,
                use_cache=not run.fresh,
                subject_id=run.subject_id,
                tally=run.tally,
            )
            routed = await _by(run.deadline, reply)
        run.count(routed)
        return routed

    async def _asked(self, run: Run) -> AsyncGenerator[TextDelta | RoutedReply, None]:
        if not run.streamed:
            yield await self.ask(run)
            return
        replies = self._router.stream(
            run.request, run.spec.route, run.principal, run.deadline, run.left, tally=run.tally
        )
        async with aclosing(replies):
            # The call begins with the first item; its span belongs to the run's, what comes later needs no context.
            with spans.inside(run.span):
                item = await anext(replies)
            while isinstance(item, TextDelta):
                yield item
                item = await anext(replies)
        run.count(item)
        yield item

    async def _use_tools(self, run: Run, reply: ModelReply) -> AsyncGenerator[ToolStarted | ToolEnded, None]:
        run.say(Message("assistant", reply.text, reply.tool_calls))
        ids = [f"{run.steps}.{index}" for index in range(len(reply.tool_calls))]
        for call_id, call in zip(ids, reply.tool_calls, strict=True):
            yield ToolStarted(call_id, call.name[:_MAX_NAME])
        with spans.inside(run.span):
            outcomes = await _by(run.deadline, self._outcomes(run, reply.tool_calls))
        for call_id, call, outcome in zip(ids, reply.tool_calls, outcomes, strict=True):
            run.outcomes.append(outcome)
            run.say(_told(call, outcome, run.tell))
            yield ToolEnded(call_id, outcome)

    async def _outcomes(self, run: Run, calls: Sequence[ToolCall]) -> list[ToolOutcome]:
        """One for each call, in their order; those that may be made run at the same time."""
        outcomes: dict[int, ToolOutcome] = {}
        plans: dict[int, ToolCallPlan] = {}
        for index, call in enumerate(calls):
            plan = ToolCallPlan(call.name, {}, f"{run.id}:{run.steps}:{index}")
            refusal = self._refusal(run, call.name, index)
            arguments = parse_arguments(call.arguments)
            if refusal is not None:
                outcomes[index] = await self._executor.refuse(run.principal, run.subject_id, plan, refusal)
            elif isinstance(arguments, str):
                outcomes[index] = self._executor.fail(plan, arguments)
            else:
                plans[index] = replace(plan, args=arguments)
        ran = await self._executor.execute(run.principal, run.subject_id, list(plans.values()))
        outcomes.update(zip(plans, ran, strict=True))
        return [outcomes[index] for index in range(len(calls))]

    def _refusal(self, run: Run, name: str, index: int) -> str | None:
        """Why the model may not make the call; None where it may."""
        tool = self._executor.registry.get(name)
        if tool is not None and tool.effect is Effect.WRITE:
            return f"The tool '{name}' changes things: only the program calls it, after your answer. Answer now."
        offered = [spec.name for spec in run.request.tools]
        if name not in offered:
            return f"There is no tool '{name[:_MAX_NAME]}' for you. You may call: {', '.join(offered)}."
        return None if index < MAX_CALLS_A_TURN else f"At most {MAX_CALLS_A_TURN} calls at a time: ask again."


async def _by(deadline: float, work: Awaitable[Result]) -> Result:
    """Raises DeadlineExceeded where the work is not done in time."""
    try:
        async with asyncio.timeout_at(deadline) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded("The agent did not answer in time: ask again, or allow more time.") from None


def _told(call: ToolCall, outcome: ToolOutcome, tell: Tell) -> Message:
    """A tool's outcome as the model reads it."""
    told = tell(outcome) if outcome.state is OutcomeState.DONE else {"error": outcome.error}
    text = orjson.dumps(told).decode()
    if len(text) > MAX_RESULT_CHARACTERS:
        text = f"{text[:MAX_RESULT_CHARACTERS]} (cut: the result has {len(text)} characters)"
    return Message("tool", text, tool_call_id=call.id)
