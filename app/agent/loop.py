"""The run loop: the model asks for tools until it answers, and the answer is of the type that was asked for.

The model may have tools that read run, and no other: whatever a message, a passage or a tool's result talks it
into, a write that it asks for is refused. Writes are planned by the pack's own code after the answer.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Generic, TypeVar

import orjson
from pydantic import BaseModel

from app.agent.answers import RoutedReply
from app.agent.budgets import NO_CAPS, Caps, refuse_request
from app.agent.model import NOTHING_USED, Message, ModelReply, ModelRequest, ToolCall, ToolSpec, Usage
from app.agent.parsing import InvalidAnswer, parse_answer, parse_arguments
from app.agent.prompts import Prompt
from app.agent.routing import DeadlineExceeded, ModelRouter
from app.agent.tools import Effect, OutcomeState, ToolCallPlan, ToolExecutor, ToolOutcome
from app.errors import BudgetExceeded, TrellisError
from app.ids import new_id
from app.principal import Principal
from app.telemetry import spans
from app.telemetry.metrics import Metrics

Answer = TypeVar("Answer", bound=BaseModel)

MAX_CALLS_A_TURN: Final = 8
MAX_RESULT_CHARACTERS: Final = 16_000
_OUT_OF_STEPS: Final = "No more tools: answer now, with what you have."


class AgentFailed(TrellisError):
    """The model gave no valid answer. `detail` says in what way; the answer itself is not quoted."""

    status: ClassVar[int] = 502
    code: ClassVar[str] = "agent-failed"
    title: ClassVar[str] = "The agent came to no answer"


@dataclass(frozen=True, slots=True)
class AgentSpec(Generic[Answer]):
    """One agent: what it answers with, the tools that the model may ask for, the model route, and its bounds.

    `max_steps` counts model calls; the last one is made without tools. One repair of an invalid answer may come
    on top. `caps` bounds all calls of a run together, `max_tokens` each answer.
    """

    name: str
    answer: type[Answer]
    tools: tuple[str, ...]
    route: str
    max_steps: int = 6
    caps: Caps = NO_CAPS
    max_tokens: int = 800
    answer_schema: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "answer_schema", self.answer.model_json_schema())


@dataclass(frozen=True, slots=True)
class AgentResult(Generic[Answer]):
    """An answer and what it took; times in milliseconds.

    `steps` is the number of model calls. `usage` and `cost_micros` are what was paid for: an answer from the
    cache counts nothing. `model`, `provider` and `route` are those of the last call. `model_ms` is the time
    spent waiting for models.
    """

    answer: Answer
    steps: int
    tool_outcomes: tuple[ToolOutcome, ...]
    usage: Usage
    cost_micros: int
    model: str
    provider: str
    route: str
    model_ms: float
    duration_ms: float


@dataclass(slots=True)
class _Run(Generic[Answer]):
    """What one run knows, and what it has used so far."""

    id: str
    principal: Principal
    spec: AgentSpec[Answer]
    subject_id: str
    request: ModelRequest
    deadline: float
    fresh: bool
    steps: int = 0
    outcomes: list[ToolOutcome] = field(default_factory=list)
    usage: Usage = NOTHING_USED
    cost_micros: int = 0
    model_s: float = 0.0

    def say(self, *messages: Message) -> None:
        self.request = replace(self.request, messages=(*self.request.messages, *messages))

    def take_tools_away(self) -> None:
        self.request = replace(self.request, tools=())


class Agent:
    """Runs any spec. Holds nothing of a run."""

    def __init__(self, router: ModelRouter, executor: ToolExecutor, metrics: Metrics) -> None:
        self._router = router
        self._executor = executor
        self._metrics = metrics

    async def run(
        self,
        principal: Principal,
        spec: AgentSpec[Answer],
        prompt: Prompt,
        *,
        values: Mapping[str, Any],
        facts: Mapping[str, Any],
        subject_id: str,
        deadline_s: float,
        fresh: bool = False,
    ) -> AgentResult[Answer]:
        """Answers one prompt.

        Args:
            values: the prompt's placeholders.
            facts: the same input for the offline model.
            subject_id: whom or what the run is about, for tools and the audit log.
            deadline_s: seconds for all of it; the spec's own cap on time holds too.
            fresh: True passes the answer cache by.

        Raises:
            AgentFailed: no valid answer after one repair, or tools asked for when there were no more.
            BudgetExceeded: a cap of the spec or the tenant's day.
            DeadlineExceeded: out of time.
            ModelUnavailable: every provider failed.
        """
        started = time.perf_counter()
        seconds = deadline_s if spec.caps.seconds is None else min(deadline_s, spec.caps.seconds)
        request = ModelRequest(
            messages=prompt.render(**values),
            tools=self._offered(spec),
            answer_schema=spec.answer_schema,
            max_tokens=spec.max_tokens,
            prompt=prompt.name,
            prompt_version=prompt.version,
            facts=facts,
        )
        deadline = asyncio.get_running_loop().time() + seconds
        run = _Run(new_id("run"), principal, spec, subject_id, request, deadline, fresh)
        with spans.span(
            spans.AGENT_RUN,
            {spans.AGENT: spec.name, spans.PROMPT: prompt.name, spans.PROMPT_VERSION: prompt.version},
        ) as span:
            outcome = "failed"
            try:
                answer, last = await self._in_time(run, capped=seconds < deadline_s)
                outcome = "done"
            except BaseException as error:
                outcome = _outcome(error)
                raise
            finally:
                span.set_attribute(spans.STEPS, run.steps)
                self._metrics.agent_steps.observe(run.steps)
                duration_s = time.perf_counter() - started
                self._metrics.agent_run_duration_seconds.labels(spec.name, outcome).observe(duration_s)
        return _result(run, answer, last, duration_s)

    def _offered(self, spec: AgentSpec[Answer]) -> tuple[ToolSpec, ...]:
        """The spec's tools that read: a model is not even shown the others."""
        specs = [(self._executor.registry.get(name), self._executor.registry.spec(name)) for name in spec.tools]
        return tuple(shown for tool, shown in specs if tool is not None and tool.effect is Effect.READ)

    async def _in_time(self, run: _Run[Answer], *, capped: bool) -> tuple[Answer, RoutedReply]:
        try:
            async with asyncio.timeout_at(run.deadline) as limit:
                return await self._answer(run)
        except (TimeoutError, DeadlineExceeded) as error:
            if isinstance(error, TimeoutError) and not limit.expired():
                raise
            if capped:
                refuse_request(self._metrics, "cap on time")
            raise DeadlineExceeded("The agent did not answer in time: ask again, or allow more time.") from error

    async def _answer(self, run: _Run[Answer]) -> tuple[Answer, RoutedReply]:
        while True:
            if run.request.tools and run.steps + 1 >= run.spec.max_steps:
                run.take_tools_away()
                if run.steps:
                    run.say(Message("user", _OUT_OF_STEPS))
            last = await self._ask(run)
            if not last.reply.tool_calls:
                return await self._parsed(run, last)
            if not run.request.tools:
                raise AgentFailed(f"The agent '{run.spec.name}' went on asking for tools when it had to answer.")
            await self._use_tools(run, last.reply)

    async def _ask(self, run: _Run[Answer]) -> RoutedReply:
        left = run.spec.caps.less(run.usage.total, run.cost_micros)
        run.steps += 1
        routed = await self._router.complete(
            run.request, run.spec.route, run.principal, run.deadline, left, use_cache=not run.fresh
        )
        run.model_s += routed.model_s
        if not routed.cached:
            run.usage += routed.reply.usage
            run.cost_micros += routed.cost_micros
        return routed

    async def _parsed(self, run: _Run[Answer], last: RoutedReply) -> tuple[Answer, RoutedReply]:
        """The answer as its type; where it does not fit, the model may repair it once."""
        try:
            return parse_answer(run.spec.answer, last.reply.text), last
        except InvalidAnswer as error:
            run.take_tools_away()
            run.say(Message("assistant", last.reply.text), Message("user", _repair(error.problem)))
        last = await self._ask(run)
        try:
            return parse_answer(run.spec.answer, last.reply.text), last
        except InvalidAnswer as error:
            raise AgentFailed(f"The agent '{run.spec.name}' gave no valid answer: {error.problem}") from error

    async def _use_tools(self, run: _Run[Answer], reply: ModelReply) -> None:
        run.say(Message("assistant", reply.text, reply.tool_calls))
        outcomes: dict[int, ToolOutcome] = {}
        plans: dict[int, ToolCallPlan] = {}
        for index, call in enumerate(reply.tool_calls):
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
        for index, call in enumerate(reply.tool_calls):
            run.outcomes.append(outcomes[index])
            run.say(_told(call, outcomes[index]))

    def _refusal(self, run: _Run[Answer], name: str, index: int) -> str | None:
        """Why the model may not make the call; None where it may."""
        tool = self._executor.registry.get(name)
        if tool is not None and tool.effect is Effect.WRITE:
            return f"The tool '{name}' changes things: only the program calls it, after your answer. Answer now."
        offered = [spec.name for spec in run.request.tools]
        if name not in offered:
            return f"There is no tool '{name[:64]}' for you. You may call: {', '.join(offered)}."
        return None if index < MAX_CALLS_A_TURN else f"At most {MAX_CALLS_A_TURN} calls at a time: ask again."


def _result(run: _Run[Answer], answer: Answer, last: RoutedReply, duration_s: float) -> AgentResult[Answer]:
    return AgentResult(
        answer=answer,
        steps=run.steps,
        tool_outcomes=tuple(run.outcomes),
        usage=run.usage,
        cost_micros=run.cost_micros,
        model=last.reply.model,
        provider=last.provider,
        route=last.route,
        model_ms=run.model_s * 1000,
        duration_ms=duration_s * 1000,
    )


def _told(call: ToolCall, outcome: ToolOutcome) -> Message:
    """A tool's outcome as the model reads it."""
    told = outcome.result if outcome.state is OutcomeState.DONE else {"error": outcome.error}
    text = orjson.dumps(told).decode()
    if len(text) > MAX_RESULT_CHARACTERS:
        text = f"{text[:MAX_RESULT_CHARACTERS]} (cut: the result has {len(text)} characters)"
    return Message("tool", text, tool_call_id=call.id)


def _repair(problem: str) -> str:
    return f"That answer cannot be used: {problem} Give the whole answer again, as one JSON object and nothing else."


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, BudgetExceeded):
        return "refused"
    return "timeout" if isinstance(error, DeadlineExceeded) else "failed"
