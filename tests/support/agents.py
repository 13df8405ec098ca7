"""The agent room under test: models that follow a script, and everything around them built as the container does."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from app.agent.breaker import Breakers
from app.agent.budget_store import DailyCaps
from app.agent.budgets import Budgets
from app.agent.loop import Agent
from app.agent.model import Message, ModelClient, ModelReply, ModelRequest, TextDelta, ToolCall, Usage
from app.agent.models import ToolMode
from app.agent.prices import ModelPrice, Prices
from app.agent.prompts import Prompt, PromptStatus, make_prompt
from app.agent.resilience import RetryPolicy
from app.agent.routing import ModelRouter, Route
from app.agent.tools import Effect, EffectLedger, Tool, ToolContext, ToolExecutor, ToolPolicies, ToolRegistry
from app.cache.lru import LruCache
from app.cache.tiered import TieredCache
from app.clock import Clock
from app.governance.audit import Audit
from app.principal import Principal, Role
from app.storage.db import Database
from app.telemetry.metrics import Metrics

TENANT = "ten_agents"
AGENT = Principal(TENANT, "key_agent", Role.AGENT)
ADMIN = Principal(TENANT, "key_admin", Role.ADMIN)
VIEWER = Principal(TENANT, "key_viewer", Role.VIEWER)
STRANGER = Principal("ten_other", "key_other", Role.ADMIN)
AT_ONCE = RetryPolicy(attempts=2, wait_initial_s=0.001, wait_max_s=0.01, wait_jitter_s=0.0)
ROUTE = "cheap"
PRICE = ModelPrice(input=Decimal("1"), output=Decimal("2"), cached_input=Decimal("0.5"))

Step = str | tuple[ToolCall, ...] | Exception | Callable[[ModelRequest], Awaitable[ModelReply]]


class ScriptedModel:
    """Answers with the next step of its script, the last one again and again; keeps what it was asked."""

    def __init__(self, *script: Step, provider: str = "scripted", model: str = "script-1") -> None:
        self.provider = provider
        self.model = model
        self.asked: list[ModelRequest] = []
        self._script = list(script)

    @property
    def calls(self) -> int:
        return len(self.asked)

    async def complete(self, request: ModelRequest, *, timeout_s: float) -> ModelReply:
        self.asked.append(request)
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(step, Exception):
            raise step
        if isinstance(step, str):
            return reply(step)
        return reply("", step) if isinstance(step, tuple) else await step(request)

    async def stream(self, request: ModelRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | ModelReply, None]:
        whole = await self.complete(request, timeout_s=timeout_s)
        for word in re.findall(r"\S+\s*", whole.text):
            yield TextDelta(word)
        yield whole


def reply(text: str, calls: tuple[ToolCall, ...] = (), *, usage: Usage = Usage(100, 20)) -> ModelReply:  # noqa: B008
    return ModelReply(text, calls, usage, "script-1-2026", "tool_calls" if calls else "stop", 0.001)


def ask(text: str = "hello", **settings: Any) -> ModelRequest:
    return ModelRequest((Message("system", "Answer."), Message("user", text)), max_tokens=100, **settings)


class Verdict(BaseModel):
    """An answer type."""

    model_config = ConfigDict(extra="forbid")

    action: str
    confidence: float


GOOD_ANSWER = '{"action": "respond", "confidence": 0.9}'


def prompt(template: str = "Message: {{ message }}", system: str = "You decide.") -> Prompt:
    return make_prompt("test", 1, PromptStatus.ACTIVE, system, template, fence_key=b"k")


@dataclass(frozen=True)
class Room:
    """The whole room, wired."""

    db: Database
    metrics: Metrics
    audit: Audit
    breakers: Breakers
    budgets: Budgets
    policies: ToolPolicies
    ledger: EffectLedger
    executor: ToolExecutor
    router: ModelRouter
    agent: Agent

    def count(self, name: str, /, **labels: str) -> float:
        """A sample of the metric `trellis_<name>`, 0 where there is none yet."""
        return self.metrics.registry.get_sample_value(f"trellis_{name}", labels) or 0.0


def prices(clients: Iterable[ModelClient], price: ModelPrice = PRICE) -> Prices:
    return Prices.load(overrides={(client.provider, client.model): price for client in clients})


def build_room(
    db: Database,
    clock: Clock,
    *clients: ModelClient,
    tools: Iterable[Tool] = (),
    caps: DailyCaps = DailyCaps(),  # noqa: B008
    cache: LruCache | None = None,
    ledger: EffectLedger | None = None,
    breaker: Mapping[str, Any] | None = None,
    retry: RetryPolicy = AT_ONCE,
    call_timeout_s: float = 30.0,
) -> Room:
    metrics = Metrics(CollectorRegistry())
    audit = Audit(clock, metrics)
    breakers = Breakers(metrics, **(breaker or {}))
    budgets = Budgets(db, clock, lambda _principal: caps, metrics)
    policies = ToolPolicies(db, clock, audit)
    ledger = ledger or EffectLedger(db, clock)
    executor = ToolExecutor(
        db, clock, ToolRegistry(tools), policies, breakers, audit, metrics=metrics, retry=retry, ledger=ledger
    )
    providers = clients or (ScriptedModel(GOOD_ANSWER),)
    router = ModelRouter(
        [Route(ROUTE, tuple(providers))],
        breakers,
        prices(providers),
        TieredCache("models", LruCache() if cache is None else cache, None, metrics),
        budgets,
        metrics=metrics,
        clock=clock,
        retry=retry,
        call_timeout_s=call_timeout_s,
    )
    agent = Agent(router, executor, metrics)
    return Room(db, metrics, audit, breakers, budgets, policies, ledger, executor, router, agent)


async def allow(room: Room, *tools: str, mode: ToolMode | None = ToolMode.ALLOW, by: Principal = ADMIN) -> None:
    async with room.db.operator_transaction() as session:
        for tool in tools:
            await room.policies.set(session, by, tool, mode)


class SendArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    to: str = "lead@acme.example"
    body: str = "hello"


class Outside:
    """The world that tools change: what happened, by key. An idempotent world knows a key when it sees it again."""

    def __init__(self, *, idempotent: bool) -> None:
        self.idempotent = idempotent
        self.happened: list[str] = []
        self.runs = 0
        self.seen: list[tuple[ToolContext, SendArgs]] = []

    async def send(self, context: ToolContext, args: SendArgs) -> dict[str, str]:
        self.runs += 1
        self.seen.append((context, args))
        if not (self.idempotent and context.key in self.happened):
            self.happened.append(context.key)
        return {"id": f"mail-{context.key}"}

    def tool(self, **settings: Any) -> Tool:
        base: dict[str, Any] = {
            "name": "send",
            "description": "Send a mail.",
            "args": SendArgs,
            "run": self.send,
            "effect": Effect.WRITE,
            "idempotent": self.idempotent,
        }
        return Tool(**(base | settings))


class FindArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str


async def find(_context: ToolContext, args: FindArgs) -> list[str]:
    return [f"about {args.query}"]


FIND = Tool("find", "Search the pages.", FindArgs, find, Effect.READ)
