"""The tools of the application: the packs' own, those of plug-ins, those that are mounted by MCP."""

import os
from collections.abc import Sequence

from app.agent.tools import ToolRegistry
from app.container.container import Parts
from app.container.ground import Ground
from app.integrations.mcp.config import load_servers
from app.mounts import Mounts
from app.pack import Pack, Ports
from app.plugins import plugin_tools


async def open_tools(ground: Ground, ports: Ports, packs: Sequence[Pack]) -> tuple[ToolRegistry, tuple[str, ...]]:
    """All of them, and the names of those that come from outside. Raises ConfigError.

    A command reaches no MCP server by itself: only a call does.
    """
    own = [tool for pack in packs for tool in pack.tools(ports)]
    plugins = plugin_tools(ports, [tool.name for tool in own])
    path = ground.settings.mcp_servers_file
    mounts = Mounts(load_servers(path, os.environ) if path is not None else (), ground.metrics)
    ground.stack.push_async_callback(mounts.close)
    registry = ToolRegistry([*own, *plugins, *mounts.tools()])
    if ground.parts is not Parts.COMMAND:
        await mounts.start(registry)
    return registry, (*(tool.name for tool in plugins), *mounts.names)
