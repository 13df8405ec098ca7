"""`trellis mcp`: our tools for a desktop agent, and what is offered and mounted."""

import asyncio
import os
from typing import Any, Final

import typer
from rich.table import Table

from app.administration.rest import Rest
from app.console import KeyOption, UrlOption, out
from app.errors import TrellisError
from app.integrations.mcp.config import load_servers
from app.integrations.mcp.servers import McpServer
from app.mounts import Mounts
from app.settings import Settings, load_settings
from app.telemetry.setup import build_metrics

REACH_S: Final = 10.0
mcp = typer.Typer(help="Tools by the Model Context Protocol; without a command, a server over standard streams.")


@mcp.callback(invoke_without_command=True)
def serve(context: typer.Context, url: UrlOption = None, key: KeyOption = None) -> None:
    """Offer the running server's tools over standard streams, for a desktop agent to start."""
    if context.invoked_subcommand is not None:
        return
    # 16 MB and most of a second that no other command needs.
    from app.mcp.bridge import bridge

    async def work() -> None:
        async with Rest.open(load_settings(), url, key) as rest:
            await bridge(rest.post)

    asyncio.run(work())


@mcp.command("tools")
def tools(url: UrlOption = None, key: KeyOption = None) -> None:
    """List what the running server offers to other agents with this key, and what is mounted from other servers."""
    asyncio.run(_tools(load_settings(), url, key))


async def _tools(settings: Settings, url: str | None, key: str | None) -> None:
    try:
        async with Rest.open(settings, url, key) as rest:
            answer = await rest.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}})
        out.print(_offered(answer["result"]["tools"]))
    except TrellisError as error:
        out.print(f"What is offered is not known. {error.detail}")
    out.print(await _mounted(settings))


def _offered(offers: list[dict[str, Any]]) -> Table:
    table = Table("Offered to other agents", "Effect", "What it does")
    for offer in offers:
        reads = offer.get("annotations", {}).get("readOnlyHint", False)
        table.add_row(offer["name"], "read" if reads else "write", offer["description"])
    return table


async def _problem(server: McpServer) -> str:
    """Why the server cannot be reached; "" where it can."""
    try:
        await server.reach(REACH_S)
    except TrellisError as error:
        return error.detail
    return ""


async def _mounted(settings: Settings) -> Table | str:
    if settings.mcp_servers_file is None:
        return "Nothing is mounted: TRELLIS_MCP_SERVERS_FILE names no file of servers."
    mounts = Mounts(load_servers(settings.mcp_servers_file, os.environ), build_metrics("", settings.phase))
    try:
        problems = await asyncio.gather(*map(_problem, mounts.servers))
    finally:
        await mounts.close()
    away = {server.spec.name: why for server, why in zip(mounts.servers, problems, strict=True) if why}
    table = Table("Mounted", "Effect", "What it does")
    for one in mounts.mounted():
        missing = away.get(one.server, f"The MCP server '{one.server}' has no tool '{one.tool}'.")
        table.add_row(one.name, one.effect, one.known.description if one.known else missing)
    return table
