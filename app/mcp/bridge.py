"""`trellis mcp`: a server over standard streams that asks the running one, with the key of whoever started it."""

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import Any

from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)

from app.errors import TrellisError
from app.mcp.endpoint import PATH
from app.mcp.server import INSTRUCTIONS

Post = Callable[[str, Any], Awaitable[Any]]
"""POSTs a JSON document to a path of the running server and gives the answer's; raises TrellisError."""


async def bridge(post: Post) -> None:
    """Serves until the standard input ends. Raises TrellisError where the running server does not answer at first."""
    await ask(post, "tools/list", {})
    relay = _Relay(post)
    server: Server[Any] = Server(
        "trellis",
        version=version("trellis"),
        instructions=INSTRUCTIONS,
        on_list_tools=relay.list,
        on_call_tool=relay.call,
    )
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


class _Relay:
    def __init__(self, post: Post) -> None:
        self._post = post

    async def list(
        self, _context: ServerRequestContext[Any], _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        try:
            return ListToolsResult.model_validate(await ask(self._post, "tools/list", {}))
        except TrellisError as error:
            raise MCPError(INTERNAL_ERROR, error.detail) from error

    async def call(self, _context: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        wanted = {"name": params.name, "arguments": params.arguments or {}}
        try:
            return CallToolResult.model_validate(await ask(self._post, "tools/call", wanted))
        except TrellisError as error:
            return CallToolResult(content=[TextContent(text=error.detail)], is_error=True)


async def ask(post: Post, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The result of one request. Raises MCPError where the server answers with an error, TrellisError where it does
    not answer."""
    answer = await post(PATH, {"jsonrpc": "2.0", "id": 1, "method": method, "params": dict(params)})
    if "error" in answer:
        raise MCPError(answer["error"]["code"], answer["error"]["message"])
    result: dict[str, Any] = answer["result"]
    return result
