"""The run loop: the model asks for tools until it answers, typed (`run`) or in free text (`talk`)."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from app.agent.answers import RoutedReply
from app.agent.budgets import NO_CAPS, Caps, Tally, refuse_request
from app.agent.model import Message, ModelRequest, TextDelta, Usage
from app.agent.once import OnceSpec
from app.agent.parsing import InvalidAnswer, parse_answer
from app.agent.prompts import Prompt
from app.agent.routing import DeadlineExceeded, ModelRouter
from app.agent.steps import AgentFailed, Bounded, Run, Steps, Tell
from app.agent.talk import TalkItem, TalkResult, TalkSpec
from app.agent.tools import ToolExecutor, ToolOutcome
from app.errors import BudgetExceeded
from app.principal import Principal
from app.telemetry import names, spans
from app.telemetry.metrics import Metrics

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class AgentSpec(Generic[Answer]):
    """One agent: what it answers with, the tools that the model may ask for, the model route, and its bounds.

    `max_steps` counts model calls; the last one is made without tools. One repair of an invalid answer may come
    on top. `caps` bounds all calls of a run together, `max_tokens` each answer. `pack` is whose cost they are, where
    that is not the name.
    """

    name: str
    answer: type[Answer]
    tools: tuple[str, ...]
    route: str
    max_steps: int = 6
    caps: Caps = NO_CAPS
    max_tokens: int = 800
    pack: str = ""
    answer_schema: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "answer_schema", _schema_of(self.answer))


# A millisecond and more each time, and a team makes a spec for every run of a member.
@lru_cache(maxsize=128)
def _schema_of(answer: type[BaseModel]) -> Mapping[str, Any]:
    return answer.model_json_schema()


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


class Agent:
    """Runs any spec. Holds nothing of a run."""

    def __init__(self, router: ModelRouter, executor: ToolExecutor, metrics: Metrics) -> None:
        self._router = router
        self._steps = Steps(router, executor)
        self._metrics = metrics

    def identity(self, route: str) -> str:
        """As `ModelRouter.identity`, for who keeps answers of its own."""
        return self._router.identity(route)

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
        tell: Tell | None = None,
        tally: Tally | None = None,
    ) -> AgentResult[Answer]:
        """Answers one prompt.

        Args:
            values: the prompt's placeholders.
            facts: the same input for the offline model.
            subject_id: whom or what the run is about, for tools and the audit log.
            deadline_s: seconds for all of it; the spec's own cap on time holds too.
            fresh: True passes the answer cache by.
            tell: what the model is told of a call that is done; its result where None.
            tally: counts what the run uses as it uses it, for a caller to whom an error is not free of cost.

        Raises:
            AgentFailed: no valid answer after one repair, or tools asked for when there were no more.
            BudgetExceeded: a cap of the spec or the tenant's day.
            DeadlineExceeded: out of time.
            ModelUnavailable: every provider failed.
        """
        started = time.perf_counter()
        request = ModelRequest(
            messages=prompt.render(**values),
            tools=self._steps.offered(spec),
            answer_schema=spec.answer_schema,
            max_tokens=spec.max_tokens,
            prompt=prompt.name,
            prompt_version=prompt.version,
            facts=facts,
            pack=spec.pack or spec.name,
        )
        run = Run(principal, spec, subject_id, request, *_deadline(spec, deadline_s), fresh=fresh)
        run.tell, run.tally = tell or run.tell, tally or run.tally
        with self._observed(run, started):
            async for item in self._steps.until_answer(run):
                if isinstance(item, RoutedReply):
                    last = item
            answer, last = await self._parsed(run, spec, last)
        return AgentResult(answer, **_taken(run, last, started))

    async def once(
        self,
        principal: Principal,
        spec: OnceSpec,
        prompt: Prompt,
        *,
        values: Mapping[str, Any],
        facts: Mapping[str, Any],
        subject_id: str,
        deadline_s: float,
        tally: Tally,
    ) -> RoutedReply:
        """One reply as the model wrote it, valid or not, from no cache; `finish_reason` tells one that was cut off.

        Arguments are those of `run`. Raises BudgetExceeded, DeadlineExceeded or ModelUnavailable.
        """
        started = time.perf_counter()
        request = ModelRequest(
            messages=prompt.render(**values),
            answer_schema=spec.answer_schema,
            max_tokens=spec.max_tokens,
            prompt=prompt.name,
            prompt_version=prompt.version,
            facts=facts,
            pack=spec.pack or spec.name,
        )
        run = Run(principal, spec, subject_id, request, *_deadline(spec, deadline_s), fresh=True, tally=tally)
        with self._observed(run, started):
            run.begin_step()
            return await self._steps.ask(run)

    async def talk(
        self,
        principal: Principal,
        spec: TalkSpec,
        messages: tuple[Message, ...],
        *,
        prompt: Prompt,
        facts: Mapping[str, Any],
        subject_id: str,
        deadline_s: float,
        streamed: bool,
        tell: Tell | None = None,
    ) -> AsyncGenerator[TalkItem, None]:
        """Answers in free text; the last item is the TalkResult. Close it (`aclosing`) where you leave early.

        Args:
            messages: what the prompt made, with all that the model is to see.
            prompt: whose name and version the calls carry.
            facts: the same input for the offline model.
            subject_id: whom or what the turn is about, for tools and the audit log.
            deadline_s: seconds for all of it; the spec's own cap on time holds too.
            streamed: False asks for whole replies, which costs less: the text then comes in one piece.
            tell: what the model is told of a call that is done; its result where None.

        No reply comes from a cache: who talks caches whole answers. A turn that is left early or cancelled ends
        the model call, and what it used is paid for.

        Raises as `run` does, and ModelStreamBroken where the model broke off after a part of its answer.
        """
        started = time.perf_counter()
        request = ModelRequest(
            messages=messages,
            tools=self._steps.offered(spec),
            temperature=spec.temperature,
            max_tokens=spec.max_tokens,
            prompt=prompt.name,
            prompt_version=prompt.version,
            facts=facts,
            pack=spec.pack or spec.name,
        )
        deadline, capped = _deadline(spec, deadline_s)
        run = Run(principal, spec, subject_id, request, deadline, capped, fresh=True, streamed=streamed)
        if tell is not None:
            run.tell = tell
        with self._observed(run, started):
            async with aclosing(self._steps.until_answer(run)) as items:
                async for item in items:
                    if isinstance(item, RoutedReply):
                        last = item
                    else:
                        yield item
            _check_spoken(run, last)
            if not streamed:
                yield TextDelta(last.reply.text)
        yield TalkResult(last.reply.text, last.reply.finish_reason, **_taken(run, last, started))

    @contextmanager
    def _observed(self, run: Run, started: float) -> Iterator[None]:
        """The run's span and figures; being out of time is a budget where the time was the spec's own cap."""
        attributes: dict[str, str | int] = {
            names.OPERATION: names.INVOKE_AGENT,
            names.AGENT: run.spec.name,
            names.PROMPT: run.request.prompt,
            names.PROMPT_VERSION: run.request.prompt_version,
        }
        outcome = "failed"
        with spans.open_span(names.named(names.INVOKE_AGENT, run.spec.name), attributes) as run.span:
            try:
                try:
                    yield
                except DeadlineExceeded:
                    if run.capped:
                        refuse_request(self._metrics, "cap on time")
                    raise
                outcome = "done"
            except BaseException as error:
                outcome = _outcome(error)
                raise
            finally:
                run.span.set_attribute(names.STEPS, run.steps)
                self._metrics.agent_steps.observe(run.steps)
                duration_s = time.perf_counter() - started
                self._metrics.agent_run_duration_seconds.labels(run.spec.name, outcome).observe(duration_s)

    async def _parsed(self, run: Run, spec: AgentSpec[Answer], last: RoutedReply) -> tuple[Answer, RoutedReply]:
        """The answer as its type; where it does not fit, the model may repair it once."""
        try:
            return parse_answer(spec.answer, last.reply.text), last
        except InvalidAnswer as error:
            run.take_tools_away()
            run.say(Message("assistant", last.reply.text), Message("user", _repair(error.problem)))
        run.begin_step()
        last = await self._steps.ask(run)
        try:
            return parse_answer(spec.answer, last.reply.text), last
        except InvalidAnswer as error:
            raise AgentFailed(f"The agent '{spec.name}' gave no valid answer: {error.problem}") from error


def _deadline(spec: Bounded, deadline_s: float) -> tuple[float, bool]:
    """When the run ends by the event loop's clock, and whether that is the spec's own cap."""
    cap = spec.caps.seconds
    capped = cap is not None and cap < deadline_s
    seconds = cap if cap is not None and capped else deadline_s
    return asyncio.get_running_loop().time() + seconds, capped


def _check_spoken(run: Run, last: RoutedReply) -> None:
    if not last.reply.text.strip():
        raise AgentFailed(f"The agent '{run.spec.name}' gave an empty answer ({last.reply.finish_reason[:64]}).")


def _taken(run: Run, last: RoutedReply, started: float) -> dict[str, Any]:
    """What a run took, as both kinds of result tell it."""
    return {
        "steps": run.steps,
        "tool_outcomes": tuple(run.outcomes),
        "usage": run.usage,
        "cost_micros": run.cost_micros,
        "model": last.reply.model,
        "provider": last.provider,
        "route": last.route,
        "model_ms": run.model_s * 1000,
        "duration_ms": (time.perf_counter() - started) * 1000,
    }


def _repair(problem: str) -> str:
    return f"That answer cannot be used: {problem} Give the whole answer again, as one JSON object and nothing else."


def _outcome(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    if isinstance(error, BudgetExceeded):
        return "refused"
    return "timeout" if isinstance(error, DeadlineExceeded) else "failed"
