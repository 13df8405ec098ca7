"""`trellis mcp` as a desktop agent starts it, by the library's own client; and our client against our own server."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

from app.integrations.mcp.config import ServerSpec
from app.integrations.mcp.servers import McpServer
from tests.support.server import ROOT, Server, free_port, trellis

ALLOWED = ("find_lead", "list_leads", "search_knowledge", "submit_lead")
LEAD = {"name": "Ada", "email": "ada@example.org", "message": "What does the Operate plan cost?"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("mcp"), free_port(), "--sample", TRELLIS_LOG_LEVEL="ERROR") as running:
        running.wait_ready()
        yield running


def bridge(server: Server) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments to Python and the environment that start `trellis mcp` beside the server."""
    given = {"TRELLIS_HOME": str(server.home), "TRELLIS_PORT": str(server.port), "PYTHONPATH": str(ROOT)}
    return ("-m", "app.cli", "mcp"), given


async def test_a_desktop_agent_starts_the_bridge_and_uses_the_tools(server):
    arguments, given = bridge(server)
    start = StdioServerParameters(command=sys.executable, args=list(arguments), env=given)
    async with Client(start) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= set(ALLOWED)
        first = await client.call_tool("submit_lead", {**LEAD, "idempotency_key": "k1"})
        again = await client.call_tool("submit_lead", {**LEAD, "idempotency_key": "k1"})
        assert first.structured_content == again.structured_content
        found = await client.call_tool("find_lead", {"email": LEAD["email"]})
        [lead] = found.structured_content["leads"]
        assert lead["id"] == first.structured_content["lead_id"]
        wrong = await client.call_tool("find_lead", {})
        assert wrong.is_error
        assert "give one of lead_id, email and external_id" in wrong.content[0].text


@pytest.mark.parametrize("way", ["http", "stdio"])
async def test_our_client_calls_our_server(server, way):
    async with mounted(server, way) as mount:
        assert set(await mount.reach(60)) == set(ALLOWED)
        assert mount.seen["list_leads"].read_only
        assert not mount.seen["submit_lead"].read_only
        listed = await mount.call("list_leads", {"limit": 2})
        assert len(listed.data["leads"]) == 2
        assert listed.text == "", "the text only repeats the data"
        passages = await mount.call("search_knowledge", {"bot": "leads", "query": "price of the Operate plan"})
        assert passages.data["passages"]


@asynccontextmanager
async def mounted(server: Server, way: str) -> AsyncIterator[McpServer]:
    key = (server.home / "local.key").read_text().strip()
    arguments, given = bridge(server)
    spec = (
        ServerSpec(name="self", url=f"{server.address}/mcp", allow=ALLOWED)
        if way == "http"
        else ServerSpec(name="self", command=sys.executable, args=arguments, env=given, allow=ALLOWED)
    )
    mount = McpServer(spec.model_copy(update={"headers": {"Authorization": f"Bearer {key}"}} if way == "http" else {}))
    yield mount
    await mount.close()


async def test_the_bridge_ends_with_its_input(server):
    arguments, given = bridge(server)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**os.environ, **given},
        cwd=server.home,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "desktop", "version": "1"}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    said, _ = await process.communicate(json.dumps(request).encode() + b"\n")
    assert process.returncode == 0
    assert json.loads(said)["result"]["serverInfo"]["name"] == "trellis"


def test_without_a_server_the_bridge_ends_with_a_sentence(server):
    port = free_port()
    found = trellis(server.home, port, "mcp", check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(f"error: Nothing answers at http://127.0.0.1:{port}")


def test_what_is_offered_and_mounted_is_listed(server):
    servers = server.home / "servers.json"
    servers.write_text('{"servers": [{"name": "away", "url": "http://127.0.0.1:9/mcp", "allow": ["find"]}]}')
    listed = trellis(server.home, server.port, "mcp", "tools", TRELLIS_MCP_SERVERS_FILE=str(servers)).stdout
    assert all(tool in listed for tool in ALLOWED)
    assert "mcp_away_find" in listed
    assert "cannot be reached" in listed
