"""A connection to one MCP server, over the library's client. Imported only where a server is reached."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx2
import structlog
from mcp import MCPError
from mcp.client.client import Client
from mcp.client.session import IncomingMessage
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    PARSE_ERROR,
    CallToolResult,
    ContentBlock,
    Implementation,
    TextResourceContents,
    Tool,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from app.integrations.mcp.config import ServerSpec
from app.integrations.mcp.errors import McpBroken, McpLied, McpRefused, McpTimeout, McpUnreachable
from app.integrations.mcp.results import RemoteResult, RemoteTool, bounded, described_bytes
from app.integrations.mcp.wire import Bounded, Child, Flooded

MAX_TOOLS: Final = 500
_MOST_PAGES: Final = 20
_CLOSE_S: Final = 3.0
_WHY_S: Final = 0.5
_LONGEST_REASON: Final = 300
_log = structlog.get_logger(__name__)


class Connection:
    """An open connection and the tools that the server listed when it was opened.

    The library's scopes must be left by the task that entered them, so a task of its own holds the connection open.
    """

    def __init__(self, spec: ServerSpec) -> None:
        self.tools: Mapping[str, RemoteTool] = {}
        self.stale = False
        self.retired = False
        self._spec = spec
        self._ended_by = ""
        self._unsent = False
        self._process: Child | None = None
        self._status = 0
        self._scope = anyio.CancelScope()
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = asyncio.Event()
        self._ready = asyncio.Event()
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._holder = asyncio.create_task(self._hold(), name=f"mcp:{spec.name}")

    async def opened(self, timeout_s: float) -> None:
        """Waits until the tools are known.

        Raises McpUnreachable where the server cannot be started, does not answer in time, or refuses.
        """
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._holder}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not self._ready.is_set():
            why = self._why if self._holder.done() else f"it did not answer within {timeout_s:g} s"
            raise McpUnreachable(f"The MCP server '{self._spec.name}' cannot be reached: {why}.")

    @property
    def usable(self) -> bool:
        gone = self._process is not None and self._process.why
        return not (self.retired or gone or self._holder.done())

    @property
    def _why(self) -> str:
        """Why it ended."""
        told = self._process.why if self._process is not None else ""
        return told or self._ended_by or "it ended the connection"

    async def refresh(self) -> None:
        """Asks again what the tools are. Raises as `call`."""
        self.stale = False
        try:
            self.tools = await self._within(self._listed(), self._spec.timeout_s)
        except BaseException:
            self.stale = True
            raise

    async def call(self, tool: str, args: Mapping[str, Any]) -> RemoteResult:
        """Raises McpTimeout (the connection then takes no further call), McpBroken, McpLied, McpRefused."""
        self._calls += 1
        self._idle.clear()
        try:
            result = await self._within(self._client.call_tool(tool, dict(args)), self._spec.timeout_s)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()
        found = _result(result, self._spec.max_result_chars)
        if result.is_error:
            said = found.text[:_LONGEST_REASON] or "it does not say why"
            raise McpRefused(f"The tool '{tool}' of the MCP server '{self._spec.name}' failed: {said}")
        return found

    async def leave(self) -> None:
        """Closes it once nothing runs on it any more."""
        idle = asyncio.create_task(self._idle.wait())
        await asyncio.wait({idle, self._holder}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        await self.close()

    async def close(self) -> None:
        """Ends the session and the child, by force where it does not end by itself."""
        self._closing.set()
        polite = _CLOSE_S if self._ready.is_set() else 0
        done, _ = await asyncio.wait({self._holder}, timeout=polite)
        if not done:
            self._scope.cancel()
            await asyncio.wait({self._holder}, timeout=_CLOSE_S)

    async def _hold(self) -> None:
        try:
            with self._scope:
                async with Client(self._transport(), **self._options()) as self._client:
                    self.tools = await self._listed()
                    self._ready.set()
                    await self._closing.wait()
        except Exception as error:
            self._ended_by = self._reason(error)
            self._unsent = isinstance(_innermost(error), httpx2.ConnectError | httpx2.ConnectTimeout)
            _log.warning("mcp.connection_ended", server=self._spec.name, why=self._why)

    def _options(self) -> dict[str, Any]:
        me = Implementation(name="trellis", version="1")
        return {"client_info": me, "message_handler": self._heard, "cache": None}

    async def _heard(self, message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.stale = True

    async def _listed(self) -> dict[str, RemoteTool]:
        tools: list[Tool] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await self._client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if cursor is None or len(tools) > MAX_TOOLS:
                break
        return {tool.name: _remote(tool) for tool in tools[:MAX_TOOLS]}

    async def _within(self, work: Any, timeout_s: float) -> Any:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._holder}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.cancelled():
                return task.result()
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                raise await self._broken() from error
            raise self._refusal(error) from error
        except (RuntimeError, ValidationError) as error:
            _log.warning("mcp.lied", server=self._spec.name, error=type(error).__name__)
            raise McpLied(
                f"The MCP server '{self._spec.name}' gave back what does not fit its own description."
            ) from error
        finally:
            if not task.done():
                self._abandon(task)
        if self._holder.done():
            raise await self._broken()
        self.retired = True
        raise McpTimeout(f"The MCP server '{self._spec.name}' did not answer within {timeout_s:g} s.")

    async def _broken(self) -> McpBroken | McpUnreachable:
        """What to say of a connection that ended."""
        self.retired = True
        # Over HTTP, what went wrong ends the holder, a moment after those who wait for an answer.
        await asyncio.wait({self._holder}, timeout=_WHY_S if self._process is None else 0)
        if self._unsent and self._calls <= 1:
            return McpUnreachable(f"The MCP server '{self._spec.name}' cannot be reached: {self._why}.")
        return McpBroken(f"The MCP server '{self._spec.name}' broke off: {self._why}.")

    def _refusal(self, error: MCPError) -> McpRefused | McpBroken:
        """What to say of an error answer: after some of them the tool may have done its work all the same."""
        why = self._status_or(error.message[:_LONGEST_REASON])
        if self._status >= 500 or (not self._status and error.code in (INTERNAL_ERROR, PARSE_ERROR)):
            return McpBroken(f"The MCP server '{self._spec.name}' gave no answer: {why}.")
        return McpRefused(f"The MCP server '{self._spec.name}' refused the call: {why}.")

    def _abandon(self, task: "asyncio.Task[Any]") -> None:
        # Not awaited: the library first tells the server, which may not read any more.
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()

    def _status_or(self, why: str) -> str:
        return f"it answered {self._status}" if self._status else why

    def _reason(self, error: BaseException) -> str:
        error = _innermost(error)
        if isinstance(error, Flooded):
            return str(error)
        if self._status:
            return f"it answered {self._status}"
        if isinstance(error, MCPError):
            return self._why if error.code == CONNECTION_CLOSED else error.message[:_LONGEST_REASON]
        if isinstance(error, OSError) and self._spec.command is not None:
            return f"'{self._spec.command}' cannot be started ({type(error).__name__})"
        return f"{type(error).__name__} at {self._spec.origin}"

    def _transport(self) -> Any:
        return self._http() if self._spec.url is not None else self._child()

    @asynccontextmanager
    async def _http(self) -> AsyncGenerator[Any, None]:
        spec = self._spec
        # Making the context for TLS reads files.
        transport = await asyncio.to_thread(httpx2.AsyncHTTPTransport)
        bounds = httpx2.Timeout(spec.timeout_s + 5, connect=5)
        async with (
            httpx2.AsyncClient(
                headers=spec.headers, timeout=bounds, transport=Bounded(transport, self._answered), trust_env=False
            ) as client,
            streamable_http_client(spec.url or "", http_client=client) as streams,
        ):
            yield streams

    def _answered(self, status: int) -> None:
        # 404 and 405 are how a server says that it does not know a method; the library reads them.
        self._status = status if status >= 400 and status not in (404, 405) else 0

    @asynccontextmanager
    async def _child(self) -> AsyncGenerator[Any, None]:
        self._process = child = await Child.start(self._spec)
        try:
            yield child.incoming, child.outgoing
        finally:
            with anyio.CancelScope(shield=True):
                await child.end()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _remote(tool: Tool) -> RemoteTool:
    reads = tool.annotations is not None and tool.annotations.read_only_hint is True
    return RemoteTool(tool.name, tool.description or tool.title or "", tool.input_schema, tool.output_schema, reads)


def _result(result: CallToolResult, most: int) -> RemoteResult:
    text = "\n".join(_told(block) for block in result.content)
    return bounded(text, result.structured_content, most)


def _told(block: ContentBlock) -> str:
    """A text as it is; of anything else what it is, for a model reads text alone."""
    if block.type == "text":
        return block.text
    if block.type in ("image", "audio"):
        return described_bytes(block.type, block.mime_type, len(block.data))
    if block.type == "resource_link":
        return f"[link: {block.name} <{block.uri}>]"
    if block.type == "resource":
        inner = block.resource
        if isinstance(inner, TextResourceContents):
            return inner.text
        return described_bytes("file", inner.mime_type or "", len(inner.blob))
    return f"[{block.type}]"
