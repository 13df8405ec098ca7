"""A team over a running service: its own tools, and one model whose part each prompt plays."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from app.agent.breaker import Breakers
from app.agent.budget_store import DailyCaps
from app.agent.budgets import Budgets
from app.agent.loop import Agent
from app.agent.model import ModelReply, ModelRequest, TextDelta, ToolCall
from app.agent.models import ToolMode
from app.agent.prices import Prices
from app.agent.providers import CHEAP, STRONG
from app.agent.routing import ModelRouter, Route
from app.agent.tools import Effect, Tool, ToolContext, ToolExecutor, ToolPolicies, ToolRegistry
from app.cache.lru import LruCache
from app.cache.tiered import TieredCache
from app.container import Container
from app.packs.teams.limits import Limits
from app.packs.teams.service import TeamService
from app.packs.teams.team import MemberSpec, Teams, TeamSpec
from app.principal import Principal, Role
from tests.support.agents import AT_ONCE, PRICE, reply
from tests.support.service import TENANT

ASKER = Principal(TENANT, "key_asker", Role.AGENT)
ADMIN = Principal(TENANT, "test", Role.ADMIN)
PLANNER, JOINER = "teams_plan", "teams_join"

Said = str | tuple[ToolCall, ...] | Exception
Part = Callable[[ModelRequest], Said | Awaitable[Said]]


class Playing:
    """A model that plays each prompt's part; keeps what it was asked."""

    provider, model = "scripted", "script-1"

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        self.asked: list[ModelRequest] = []

    async def complete(self, request: ModelRequest, *, timeout_s: float) -> ModelReply:
        self.asked.append(request)
        said = self.parts[request.prompt](request)
        found = await said if isinstance(said, Awaitable) else said
        if isinstance(found, Exception):
            raise found
        return reply(found) if isinstance(found, str) else reply("", found)

    async def stream(self, request: ModelRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | ModelReply, None]:
        yield await self.complete(request, timeout_s=timeout_s)

    def of(self, prompt: str) -> list[ModelRequest]:
        return [request for request in self.asked if request.prompt == prompt]


def plan(*tasks: tuple[str, str, list[int]]) -> Part:
    named = [{"member": member, "question": question, "after": after} for member, question, after in tasks]
    return lambda _request: orjson.dumps({"tasks": named}).decode()


def answer(text: str, evidence: Sequence[str] = (), missing: Sequence[str] = ()) -> str:
    return orjson.dumps({"answer": text, "evidence": list(evidence), "missing": list(missing)}).decode()


def joint(text: str, evidence: Sequence[str] = (), missing: Sequence[Mapping[str, str]] = ()) -> Part:
    return lambda _request: orjson.dumps(
        {"answer": text, "evidence": list(evidence), "missing": list(missing)}
    ).decode()


def call(tool: str, **args: Any) -> tuple[ToolCall, ...]:
    return (ToolCall("c1", tool, orjson.dumps(args).decode()),)


def looks_up(tool: str, said: str) -> Part:
    """Calls the tool once, then answers."""
    return lambda request: said if any(m.role == "tool" for m in request.messages) else call(tool)


class NoArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")


def reading(name: str, result: Any, **more: Any) -> Tool:
    async def run(_context: ToolContext, _args: NoArgs) -> Any:
        return result

    return Tool(name, "Looks it up.", NoArgs, run, Effect.READ, **{"attempts": 1, **more})


def writing(name: str, written: list[str]) -> Tool:
    async def run(context: ToolContext, _args: NoArgs) -> Any:
        written.append(context.key)
        return {}

    return Tool(name, "Changes it.", NoArgs, run, Effect.WRITE)


def team(members: Mapping[str, Sequence[str]], **limits: Any) -> Teams:
    """A team `crew` of these members, by name with their tools; each plays the prompt `teams_<name>`."""
    specs = tuple(
        MemberSpec(name=name, title=name.title(), knows=f"what is about {name}", prompt=f"teams_{name}", tools=tools)
        for name, tools in members.items()
    )
    spec = TeamSpec(name="crew", title="Crew", answers="everything", members=specs, limits=Limits(**limits))
    return Teams({"crew": spec})


async def service_with(
    container: Container,
    model: Any,
    teams: Teams,
    tools: Iterable[Tool],
    *,
    caps: DailyCaps = DailyCaps(),  # noqa: B008 - frozen
) -> TeamService:
    """The container's own service of teams, but for the model, the teams and the tools."""
    kit, registry = container.kit, ToolRegistry(tools)
    policies = ToolPolicies(container.db, container.clock, container.audit)
    async with container.db.operator_transaction() as session:
        for name in registry.names:
            await policies.set(session, ADMIN, name, ToolMode.ALLOW)
    executor = ToolExecutor(
        container.db,
        container.clock,
        registry,
        policies,
        Breakers(kit.metrics),
        container.audit,
        metrics=kit.metrics,
        retry=AT_ONCE,
    )
    router = ModelRouter(
        [Route(name, (model,)) for name in (CHEAP, STRONG)],
        Breakers(kit.metrics),
        Prices.load(overrides={(model.provider, model.model): PRICE}),
        TieredCache("models", LruCache(), None, kit.metrics),
        Budgets(container.db, container.clock, lambda _principal: caps, kit.metrics),
        metrics=kit.metrics,
        clock=container.clock,
        retry=AT_ONCE,
    )
    return TeamService(replace(kit, agent=Agent(router, executor, kit.metrics), executor=executor), teams)
