"""The client of MCP servers against servers that keep to the protocol and servers that do not, over both transports.

A call that goes wrong says why, costs itself alone, and leaves no process behind.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.errors import InvalidInput
from app.integrations.mcp.config import ServerSpec
from app.integrations.mcp.errors import McpBroken, McpLied, McpRefused, McpTimeout, McpUnreachable
from app.integrations.mcp.servers import McpServer
from tests.support.mcp_server import TOOLS, answer

PROGRAM = Path(__file__).parent.parent / "support" / "mcp_server.py"
NAMES = tuple(tool["name"] for tool in TOOLS)
TEXT = {"text": "hello"}
WAITS = {"text": "wait until you are released"}


def child(*modes: str, **fields: Any) -> McpServer:
    arguments = (str(PROGRAM), *modes)
    return McpServer(ServerSpec(name="test", command=sys.executable, args=arguments, allow=NAMES, **fields))


@pytest.fixture
async def server() -> AsyncIterator[McpServer]:
    server = child(timeout_s=1.5)
    yield server
    await server.close()


async def pid_of(server: McpServer) -> int:
    return int((await server.call("echo", TEXT)).text.rsplit("(")[-1].rstrip(")"))


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


async def test_a_child_is_asked_and_ended(server):
    assert set(await server.reach()) == set(NAMES)
    pid = await pid_of(server)
    assert await pid_of(server) == pid
    assert (await server.call("structured", TEXT)).data == {"count": 3}
    picture = await server.call("picture", TEXT)
    assert picture.text == "[image, image/png, 3000 bytes, not passed on]\na"
    await server.close()
    assert not alive(pid)


async def test_many_calls_share_one_child(server):
    answers = await asyncio.gather(*(server.call("echo", {"text": str(number)}) for number in range(40)))
    assert [answer.text.split(" ")[1] for answer in answers] == [str(number) for number in range(40)]
    assert len({answer.text.split(" ")[2] for answer in answers}) == 1


async def test_a_child_that_prints_before_it_speaks_is_understood():
    server = child("banner")
    try:
        assert (await server.call("echo", TEXT)).text.startswith("echo: hello")
    finally:
        await server.close()


async def test_a_child_sees_nothing_of_our_environment_but_what_it_is_given(monkeypatch):
    monkeypatch.setenv("TRELLIS_MODEL_KEY", "hush")
    server = child(env={"BRANCH": "north"})
    try:
        seen = json.loads((await server.call("environment", TEXT)).text)
    finally:
        await server.close()
    assert seen["BRANCH"] == "north"
    assert "hush" not in seen.values()
    assert not [name for name in seen if name.startswith("TRELLIS_")]


@pytest.mark.parametrize(
    ("tool", "error", "why"),
    [
        ("hang", McpTimeout, "did not answer within 1.5 s"),
        ("crash", McpBroken, "its process ended with 3"),
        ("flood", McpBroken, "it wrote a message of more than 4 MB"),
        ("chatter", McpBroken, "it wrote more than 16 MB that nobody asked for"),
        ("lie", McpLied, "gave back what does not fit its own description"),
        ("fail", McpRefused, "failed: the branch is closed"),
    ],
)
async def test_a_call_that_goes_wrong_costs_itself_alone(server, tool, error, why):
    before = await pid_of(server)
    with pytest.raises(error, match=why):
        await server.call(tool, TEXT)
    after = await pid_of(server)
    assert (after == before) is (error in (McpLied, McpRefused)), "a new child where the old one cannot be trusted"
    await server.close()
    assert not alive(before)
    assert not alive(after)


async def test_a_tool_that_turns_into_another_one_is_not_called(server):
    await server.call("turn", TEXT)
    with pytest.raises(McpLied, match="changed what its tool 'echo' takes or gives: restart Trellis"):
        await server.call("echo", TEXT)
    with pytest.raises(McpLied, match="has no tool 'note' any more"):
        await server.call("note", TEXT)


async def test_arguments_that_do_not_fit_are_not_sent(server):
    with pytest.raises(InvalidInput, match="The arguments of 'echo' are not valid: 'text' is a required property"):
        await server.call("echo", {"txt": 1})


async def test_who_cannot_be_reached_is_told_of_in_time():
    mute = child("mute")
    absent = McpServer(ServerSpec(name="absent", command="/nonexistent/tools", allow=("find",)))
    nobody = McpServer(ServerSpec(name="nobody", url="http://127.0.0.1:9/mcp", allow=("find",)))
    try:
        with pytest.raises(McpUnreachable, match=r"it did not answer within 0.5 s"):
            await mute.reach(0.5)
        with pytest.raises(McpUnreachable, match=r"'/nonexistent/tools' cannot be started \(FileNotFoundError\)"):
            await absent.reach()
        with pytest.raises(McpUnreachable, match=r"ConnectError at 127\.0\.0\.1"):
            await nobody.reach()
    finally:
        await asyncio.gather(mute.close(), absent.close(), nobody.close())


class Remote:
    """The same tools over HTTP; `behaviour` changes what the next answers are."""

    def __init__(self) -> None:
        self.behaviour = ""
        self.seen: list[str | None] = []
        self.released = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.headers.get("Authorization"))
        message = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        if self.behaviour == "flood" and message["method"] == "tools/call":
            return await self._flood(request)
        if self.behaviour == "hang" and message["method"] == "tools/call":
            await asyncio.sleep(30)
        if message.get("params", {}).get("arguments") == WAITS:
            await self.released.wait()
        if self.behaviour.isdigit():
            return web.Response(status=int(self.behaviour))
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], **answer(message)})

    async def _flood(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b"[" * 65_536)
        return response


@pytest.fixture
async def remote() -> AsyncIterator[tuple[Remote, McpServer]]:
    behind, app = Remote(), web.Application()
    app.router.add_post("/mcp", behind.handle)
    async with TestServer(app) as running:
        address = str(running.make_url("/mcp"))
        spec = ServerSpec(name="remote", url=address, allow=("echo", "lie", "fail"), timeout_s=1)
        server = McpServer(spec.model_copy(update={"headers": {"Authorization": "Bearer hush"}}))
        yield behind, server
        await server.close()


async def test_a_server_over_http_is_asked_with_its_headers(remote):
    behind, server = remote
    assert set(await server.reach()) == {"echo", "lie", "fail"}
    assert (await server.call("echo", TEXT)).text.startswith("echo: hello")
    assert set(behind.seen) == {"Bearer hush"}
    with pytest.raises(McpLied):
        await server.call("lie", TEXT)
    with pytest.raises(McpRefused, match="the branch is closed"):
        await server.call("fail", TEXT)


@pytest.mark.parametrize(
    ("behaviour", "error", "why"),
    [
        ("flood", McpBroken, "it sent an answer of more than 4 MB"),
        ("hang", McpTimeout, "did not answer within 1 s"),
        ("500", McpBroken, "it answered 500"),
        ("401", McpRefused, "it answered 401"),
    ],
)
async def test_an_answer_over_http_that_goes_wrong_costs_its_call_alone(remote, behaviour, error, why):
    behind, server = remote
    await server.reach()
    behind.behaviour = behaviour
    with pytest.raises(error, match=why):
        await server.call("echo", TEXT)
    behind.behaviour = ""
    assert (await server.call("echo", TEXT)).text.startswith("echo: hello")


async def test_a_timeout_ends_no_other_call_that_is_under_way(remote):
    behind, server = remote
    await server.reach()
    behind.behaviour = "hang"
    hanging = asyncio.create_task(server.call("echo", TEXT))
    await asyncio.sleep(0.5)
    behind.behaviour = ""
    other = asyncio.create_task(server.call("echo", WAITS))
    with pytest.raises(McpTimeout):
        await hanging
    behind.released.set()
    assert (await other).text.startswith("echo: wait")


async def test_a_server_that_refuses_our_key_says_so_at_once(remote):
    behind, server = remote
    behind.behaviour = "401"
    with pytest.raises(McpUnreachable, match="it answered 401"):
        await server.reach()
