"""Tools of other programs, by MCP: each allowed one as a `Tool`, named `mcp_<server>_<tool>`.

As a plug-in's, no tenant may use one before somebody allows it. They are there from the start, by their names in the
file; what they take is known once their server was reached.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydantic import BaseModel, RootModel, model_validator

from app.agent.tools import Effect, Tool, ToolContext, ToolRegistry
from app.errors import Forbidden, TrellisError
from app.integrations.mcp.config import ServerSpec
from app.integrations.mcp.errors import McpBroken, McpLied, McpTimeout, McpUnreachable
from app.integrations.mcp.results import RemoteTool
from app.integrations.mcp.servers import OPEN_S, McpServer
from app.integrations.mcp.shown import ANY_OBJECT, shown_description, shown_schema
from app.telemetry import names, spans
from app.telemetry.metrics import Metrics

START_S: Final = 3.0
AGAIN_S: Final = 30.0
_MOST_DESCRIPTION: Final = 1_000
_MARGIN_S: Final = 1.0
_OUTCOMES: Final[tuple[tuple[type[TrellisError], str], ...]] = (
    (McpUnreachable, "unreachable"),
    (McpTimeout, "timeout"),
    (McpBroken, "broken"),
    (McpLied, "lied"),
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Mounted:
    """One configured tool, for people: `known` is None while its server was not reached."""

    server: str
    tool: str
    name: str
    effect: Effect
    known: RemoteTool | None


class Mounts:
    """The configured servers and their tools. Reaches nothing before `start`, or the first call."""

    def __init__(self, specs: Sequence[ServerSpec], metrics: Metrics) -> None:
        self.servers = tuple(McpServer(spec) for spec in specs)
        self._metrics = metrics
        self._learning: asyncio.Task[None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.mounted())

    def mounted(self) -> list[Mounted]:
        return [_mounted(server, tool) for server in self.servers for tool in server.spec.allow]

    def tools(self) -> list[Tool]:
        """Every configured tool, as it is known by now."""
        return [tool for server in self.servers for tool in self._tools_of(server)]

    async def start(self, registry: ToolRegistry) -> None:
        """Asks every server for its tools, all together for at most `START_S` seconds.

        One that is away then is named in a warning and asked again every `AGAIN_S` seconds, in the background.
        """
        away = await self._learn(self.servers, registry, START_S)
        if away:
            self._learning = asyncio.create_task(self._keep_learning(away, registry), name="mcp-mounts")

    async def close(self) -> None:
        """Ends every connection and every child process."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait({self._learning})
        await asyncio.gather(*(server.close() for server in self.servers))

    async def _keep_learning(self, away: Sequence[McpServer], registry: ToolRegistry) -> None:
        while away:
            await asyncio.sleep(AGAIN_S)
            away = await self._learn(away, registry, OPEN_S)

    async def _learn(self, servers: Sequence[McpServer], registry: ToolRegistry, timeout_s: float) -> list[McpServer]:
        """Those that could not be reached."""
        reached = await asyncio.gather(*(_reached(server, timeout_s) for server in servers))
        for server, there in zip(servers, reached, strict=True):
            if there:
                registry.replace(self._tools_of(server))
        return [server for server, there in zip(servers, reached, strict=True) if not there]

    def _tools_of(self, server: McpServer) -> list[Tool]:
        return [self._tool(server, name) for name in server.spec.allow]

    def _tool(self, server: McpServer, remote: str) -> Tool:
        mounted = _mounted(server, remote)

        async def run(context: ToolContext, args: RootModel[dict[str, Any]]) -> dict[str, Any]:
            if not server.spec.is_for(context.principal.tenant_id):
                raise Forbidden(f"The MCP server '{server.spec.name}' is not for this tenant.")
            return await self._observed(mounted, lambda: _called(server, remote, args.root))

        return Tool(
            mounted.name,
            _description(mounted),
            _args_type(server, remote),
            run,
            mounted.effect,
            timeout_s=OPEN_S + server.spec.timeout_s + _MARGIN_S,
            attempts=1,
        )

    async def _observed(self, mounted: Mounted, call: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        started, outcome = time.perf_counter(), "failed"
        with spans.span(names.MCP_CALL, {names.MCP_SERVER: mounted.server, names.TOOL: mounted.tool}) as span:
            try:
                result = await call()
                outcome = "done"
                return result
            except TrellisError as error:
                outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "failed")
                raise
            finally:
                span.set_attribute(names.TOOL_STATE, outcome)
                self._metrics.mcp_calls.labels(mounted.server, mounted.tool, outcome).inc()
                self._metrics.mcp_call_duration_seconds.labels(mounted.server).observe(time.perf_counter() - started)


async def _reached(server: McpServer, timeout_s: float) -> bool:
    try:
        seen = await server.reach(timeout_s)
    except TrellisError as error:
        _log.warning("mcp.server_away", server=server.spec.name, why=error.detail)
        return False
    missing = [name for name in server.spec.allow if name not in seen]
    if missing:
        _log.warning("mcp.tools_missing", server=server.spec.name, tools=missing)
    return True


async def _called(server: McpServer, remote: str, args: dict[str, Any]) -> dict[str, Any]:
    result = await server.call(remote, args)
    return {"text": result.text, "data": result.data}


def _mounted(server: McpServer, remote: str) -> Mounted:
    spec, known = server.spec, server.seen.get(remote)
    reads = remote in spec.read_without_hint or (remote in spec.read and known is not None and known.read_only)
    return Mounted(spec.name, remote, spec.tool_name(remote), Effect.READ if reads else Effect.WRITE, known)


def _description(mounted: Mounted) -> str:
    if mounted.known is None:
        return f"The tool '{mounted.tool}' of the MCP server '{mounted.server}', which was not reached yet."
    said = shown_description(mounted.known)
    if mounted.known.description and not said:
        _log.warning("mcp.description_withheld", server=mounted.server, tool=mounted.tool)
    return f"{said[:_MOST_DESCRIPTION]} (a tool of the MCP server '{mounted.server}')".strip()


def _args_type(server: McpServer, remote: str) -> type[BaseModel]:
    """Any object, held to the server's own schema where that is known; a model is shown that schema."""
    known = server.seen.get(remote)
    schema = dict(shown_schema(known) if known is not None else ANY_OBJECT)

    class RemoteArgs(RootModel[dict[str, Any]]):
        @model_validator(mode="after")
        def _fits(self) -> "RemoteArgs":
            try:
                problem = server.problem(remote, self.root)
            except McpLied as error:
                problem = error.detail
            if problem:
                raise ValueError(problem)
            return self

        @classmethod
        def __get_pydantic_json_schema__(cls, _core: Any, _handler: Any) -> dict[str, Any]:
            return schema

    return RemoteArgs
