"""One MCP server as it is used: reached when it is first needed, reached again after it broke."""

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from app.errors import InvalidInput
from app.integrations.mcp.config import ServerSpec
from app.integrations.mcp.errors import McpLied, McpUnreachable
from app.integrations.mcp.results import RemoteResult, RemoteTool
from app.integrations.mcp.schema import Check, compiled

if TYPE_CHECKING:
    from app.integrations.mcp.client import Connection

OPEN_S: Final = 15.0
AGAIN_S: Final = 1.0
"""Who comes within it after a failure is told of that one: nobody waits in line for a server that is away."""
_CLIENT: Final = "app.integrations.mcp.client"


class McpServer:
    """Calls the allowed tools of one server. A call that fails costs itself alone: the next one has a new connection.

    A tool is held to how it described itself when it was first seen in this process: one that now takes or gives
    something else is not called.
    """

    def __init__(self, spec: ServerSpec) -> None:
        self.spec = spec
        self.seen: Mapping[str, RemoteTool] = {}
        self._checks: dict[str, Check] = {}
        self._current: Connection | None = None
        self._opening = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self._old: set[Connection] = set()
        self._failed: tuple[float, McpUnreachable] | None = None

    async def reach(self, timeout_s: float = OPEN_S) -> Mapping[str, RemoteTool]:
        """The allowed tools that the server has. Raises McpUnreachable, and what `Connection.call` raises."""
        await self._connected(timeout_s)
        return self.seen

    async def call(self, tool: str, args: Mapping[str, Any]) -> RemoteResult:
        """Raises InvalidInput for arguments that do not fit, McpUnreachable, McpTimeout, McpBroken, McpLied,
        McpRefused."""
        connection = await self._connected(OPEN_S)
        self._still(tool, connection.tools.get(tool))
        problem = self.problem(tool, args)
        if problem:
            raise InvalidInput(f"The arguments of '{tool}' are not valid: {problem}.")
        return await connection.call(tool, args)

    def problem(self, tool: str, args: Mapping[str, Any]) -> str:
        """What is wrong with the arguments, "" where nothing is known to be. Raises McpLied for a wrong schema."""
        known = self.seen.get(tool)
        if known is None:
            return ""
        check = self._checks.get(tool)
        if check is None:
            check = self._checks[tool] = compiled(self.spec.name, tool, known.input_schema)
        return check(args)

    async def close(self) -> None:
        """Ends the connection, and those that are ending."""
        if self._current is not None:
            self._leave(self._current)
            self._current = None
        await asyncio.gather(*(connection.close() for connection in self._old))
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _still(self, tool: str, now: RemoteTool | None) -> None:
        """Raises McpLied where the tool is not what it was."""
        whose = f"The MCP server '{self.spec.name}'"
        if now is None:
            raise McpLied(f"{whose} has no tool '{tool}' any more: take it out of its 'allow'.", uncertain=False)
        if not now.takes_as(self.seen[tool]):
            raise McpLied(
                f"{whose} changed what its tool '{tool}' takes or gives: restart Trellis to accept it.", uncertain=False
            )

    async def _connected(self, timeout_s: float) -> "Connection":
        async with self._opening:
            current = self._current
            if current is not None and current.usable and current.stale:
                await current.refresh()
            if current is None or not current.usable:
                if current is not None:
                    self._current = None
                    self._leave(current)
                current = self._current = await self._open(timeout_s)
            self._learn(current.tools)
            return current

    async def _open(self, timeout_s: float) -> "Connection":
        now = asyncio.get_running_loop().time()
        if self._failed is not None and now - self._failed[0] < AGAIN_S:
            raise self._failed[1]
        # In a thread: the library takes most of a second to import.
        client = await asyncio.to_thread(import_module, _CLIENT)
        connection: Connection = client.Connection(self.spec)
        try:
            await connection.opened(timeout_s)
        except BaseException as error:
            self._leave(connection)
            if isinstance(error, McpUnreachable):
                self._failed = (asyncio.get_running_loop().time(), error)
            raise
        return connection

    def _learn(self, tools: Mapping[str, RemoteTool]) -> None:
        new = {name: tools[name] for name in self.spec.allow if name in tools and name not in self.seen}
        self.seen = {**self.seen, **new}

    def _leave(self, connection: "Connection") -> None:
        """Closes it once the calls that it still serves have ended."""
        self._old.add(connection)
        task = asyncio.create_task(connection.leave(), name=f"mcp-close:{self.spec.name}")
        self._leaving.add(task)

        def left(done: "asyncio.Task[None]") -> None:
            self._leaving.discard(done)
            self._old.discard(connection)

        task.add_done_callback(left)
