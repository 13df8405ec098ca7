"""Tools of MCP servers in the whole service: named in a file, refused until a tenant allows them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from app.agent.models import ToolMode
from app.agent.tools import Effect, ToolCallPlan, ToolOutcome
from app.errors import ConfigError
from app.principal import Principal, Role
from tests.support.service import TENANT, Service, running

PROGRAM = Path(__file__).parent.parent / "support" / "mcp_server.py"
ADMIN = Principal(TENANT, "test", Role.ADMIN)
RIVAL = Principal("rival", "test", Role.ADMIN)
DESK = {
    "name": "desk",
    "command": sys.executable,
    "args": [str(PROGRAM)],
    "allow": ["echo", "note", "crash", "environment"],
    "read": ["echo", "environment", "crash"],
    "timeout_s": 5,
}
AWAY = {"name": "away", "url": "http://127.0.0.1:9/mcp", "allow": ["find"]}
ONLY_OURS = {**DESK, "name": "ours", "allow": ["echo"], "read": [], "read_without_hint": ["echo"], "tenants": [TENANT]}


def written(path: Path, *servers: dict) -> Path:
    path.write_text(yaml.safe_dump({"servers": list(servers)}))
    return path


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    path = written(tmp_path / "servers.yaml", DESK, AWAY, ONLY_OURS)
    (tmp_path / "home").mkdir()
    async with running(tmp_path / "home", knowledge=False, mcp_servers_file=path) as running_service:
        yield running_service


async def allow(service: Service, tool: str, principal: Principal = ADMIN, mode: ToolMode = ToolMode.ALLOW) -> None:
    async with service.container.db.operator_transaction() as session:
        await service.container.tool_policies.set(session, principal, tool, mode)


async def called(service: Service, tool: str, key: str = "k1", principal: Principal = ADMIN) -> ToolOutcome:
    plan = ToolCallPlan(tool, {"text": "hello"}, key)
    (outcome,) = await service.container.kit.executor.execute(principal, "subject", [plan])
    return outcome


async def test_a_mounted_tool_is_there_but_refused_until_it_is_allowed(service):
    registry = service.container.kit.executor.registry
    assert {"mcp_desk_echo", "mcp_desk_note", "mcp_away_find", "mcp_ours_echo"} <= set(service.container.kit.plugins)
    assert registry.spec("mcp_desk_echo").schema["required"] == ["text"]
    assert registry.get("mcp_desk_echo").effect is Effect.READ
    refused = await called(service, "mcp_desk_echo")
    assert (refused.state, refused.error) == (
        "denied",
        "The tool 'mcp_desk_echo' is not on the tenant's allow list.",
    )
    await allow(service, "mcp_desk_echo")
    done = await called(service, "mcp_desk_echo")
    assert done.result["text"].startswith("echo: hello")
    metrics = (await service.client.get("/metrics")).text
    assert 'trellis_mcp_calls_total{outcome="done",server="desk",tool="echo"} 1.0' in metrics


async def test_a_tool_that_the_server_does_not_call_reading_writes_once_for_its_key(service):
    await allow(service, "mcp_desk_note")
    first, again = await called(service, "mcp_desk_note"), await called(service, "mcp_desk_note")
    assert first.result == again.result
    [effect] = await service.rows("effects")
    assert (effect["tool"], effect["state"], effect["args"]) == ("mcp_desk_note", "done", {"text": "hello"})


async def test_a_write_waits_for_approval_where_the_tenant_wants_it(service):
    await allow(service, "mcp_desk_note", mode=ToolMode.APPROVE)
    assert (await called(service, "mcp_desk_note")).state == "waiting_approval"
    assert await service.rows("effects") == []


async def test_arguments_are_checked_before_anybody_is_asked(service):
    await allow(service, "mcp_desk_note", mode=ToolMode.APPROVE)
    plan = ToolCallPlan("mcp_desk_note", {"text": 7}, "k1")
    (outcome,) = await service.container.kit.executor.execute(ADMIN, "subject", [plan])
    assert (outcome.state, outcome.error) == (
        "failed",
        "The arguments of 'mcp_desk_note' are not valid: text: 7 is not of type 'string'.",
    )
    assert await service.rows("approvals") == []


async def test_a_server_serves_the_tenants_that_it_is_for(service):
    await service.other_tenant()
    await allow(service, "mcp_ours_echo", RIVAL)
    await allow(service, "mcp_ours_echo")
    assert (await called(service, "mcp_ours_echo")).state == "done"
    refused = await called(service, "mcp_ours_echo", principal=RIVAL)
    assert (refused.state, refused.error) == ("failed", "The MCP server 'ours' is not for this tenant.")


async def test_a_server_that_is_away_costs_its_own_calls(service):
    await allow(service, "mcp_away_find")
    outcome = await called(service, "mcp_away_find")
    assert outcome.state == "failed", "surely without effect: nobody has to look"
    assert "The MCP server 'away' cannot be reached: ConnectError" in outcome.error


async def test_a_crash_costs_one_call_and_closing_ends_the_children(tmp_path):
    path = written(tmp_path / "servers.yaml", DESK)
    (tmp_path / "home").mkdir()
    async with running(tmp_path / "home", knowledge=False, mcp_servers_file=path) as service:
        for tool in ("mcp_desk_echo", "mcp_desk_crash"):
            await allow(service, tool)
        assert "its process ended with 3" in (await called(service, "mcp_desk_crash")).error
        pid = int((await called(service, "mcp_desk_echo")).result["text"].rsplit("(")[-1].rstrip(")"))
        os.kill(pid, 0)
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        pytest.fail("the child outlived us")
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("mcp")]


async def test_a_new_tenant_is_given_no_mounted_tool(service):
    allowed = await service.container.tool_policies.modes(TENANT)
    assert "find_lead" in allowed
    assert not [tool for tool in allowed if tool.startswith("mcp_")]


async def test_a_wrong_file_stops_the_start_with_a_sentence(tmp_path):
    path = written(tmp_path / "servers.yaml", {**DESK, "alow": ["echo"]})
    (tmp_path / "home").mkdir()
    with pytest.raises(ConfigError, match="server 'desk': the key 'alow' is unknown: did you mean allow"):
        async with running(tmp_path / "home", knowledge=False, mcp_servers_file=path):
            pytest.fail("it started")
