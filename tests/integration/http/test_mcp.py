"""`/mcp`: the same keys, limits, policy, approval and audit as everywhere else, and no tenant sees another one's."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from app.agent.models import ToolMode
from app.governance.people import ERASED
from app.principal import Principal, Role
from tests.support.service import TENANT, Service, lead, running

ADMIN = Principal(TENANT, "test", Role.ADMIN)
OFFERED = {
    "find_lead",
    "list_leads",
    "search_knowledge",
    "submit_lead",
    "treatment_decision",
    "treatment_run",
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("mcp"), knowledge=False) as running_service:
        yield running_service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rival(service: Service) -> str:
    return await service.other_tenant()


async def set_mode(service: Service, tool: str, mode: ToolMode | None) -> None:
    async with service.container.db.operator_transaction() as session:
        await service.container.tool_policies.set(session, ADMIN, tool, mode)


async def leads_of(service: Service, email: str) -> list[str]:
    return [row["id"] for row in await service.rows("leads") if row["email"] == email]


async def asked(service: Service, method: str, key: str | None = None, **params: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    return await service.client.post("/mcp", json=message, headers=headers)


async def called(service: Service, tool: str, key: str | None = None, **args: Any) -> dict[str, Any]:
    answer = await asked(service, "tools/call", key, name=tool, arguments=args)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


async def offered(service: Service, key: str | None = None) -> set[str]:
    return {tool["name"] for tool in (await asked(service, "tools/list", key)).json()["result"]["tools"]}


def said(result: dict[str, Any]) -> str:
    assert result["isError"] is True, result
    return result["content"][0]["text"]


async def test_what_is_offered_goes_by_role_and_policy(service):
    viewer = await service.key_with(Role.VIEWER)
    assert await offered(service) >= OFFERED
    assert OFFERED - await offered(service, viewer) == {"submit_lead"}
    await set_mode(service, "list_leads", None)
    assert OFFERED - await offered(service) == {"list_leads"}
    assert said(await called(service, "list_leads")) == "The tool 'list_leads' is not on the tenant's allow list."
    await set_mode(service, "list_leads", ToolMode.ALLOW)
    nobody = lead(email="viewer@example.org")
    assert "This needs the role 'agent'" in said(await called(service, "submit_lead", viewer, **nobody))
    assert await leads_of(service, "viewer@example.org") == []


async def test_our_own_agents_tools_are_not_for_others(service):
    assert "email_send" not in await offered(service)
    answer = (await asked(service, "tools/call", name="email_send", arguments={})).json()
    assert answer["error"] == {"code": -32602, "message": "There is no tool 'email_send' here: list the tools."}


async def test_no_tenant_sees_the_leads_of_another_one(service, rival):
    handed_in = (await called(service, "submit_lead", **lead()))["structuredContent"]
    mine = (await called(service, "find_lead", email="ada@example.org"))["structuredContent"]["leads"]
    assert [(found["id"], found["messages"][0]["body"][:9]) for found in mine] == [(handed_in["lead_id"], "What does")]
    theirs = await called(service, "find_lead", rival, email="ada@example.org")
    assert theirs["structuredContent"]["leads"] == []
    assert "There is no lead" in said(await called(service, "find_lead", rival, lead_id=handed_in["lead_id"]))
    listed = await called(service, "list_leads", rival)
    assert listed["structuredContent"]["leads"] == []
    found = await called(service, "search_knowledge", rival, bot="leads", query="price")
    assert found["structuredContent"]["passages"] == []


async def test_a_repeated_key_acts_once_and_other_arguments_are_refused(service):
    grace = lead(email="grace@example.org")
    first = await called(service, "submit_lead", **grace, idempotency_key="k1")
    again = await called(service, "submit_lead", **grace, idempotency_key="k1")
    assert again["structuredContent"] == first["structuredContent"]
    other = await called(service, "submit_lead", **{**grace, "name": "Bob"}, idempotency_key="k1")
    assert "came with other arguments before" in said(other)
    another_key = await service.key_with(Role.AGENT)
    await called(service, "submit_lead", another_key, **grace, idempotency_key="k1")
    assert len(await leads_of(service, "grace@example.org")) == 2, "a client's keys are its own"
    entries = [row for row in await service.rows("audit_entries") if row["action"] == "mcp.call"]
    assert len(entries) >= 3
    assert "grace" not in str(entries)


async def test_a_write_that_waits_for_approval_says_so_and_runs_once_it_is_given(service):
    await set_mode(service, "submit_lead", ToolMode.APPROVE)
    eve = lead(email="eve@example.org")
    waiting = await called(service, "submit_lead", **eve, idempotency_key="k2")
    assert waiting["isError"] is False
    assert waiting["structuredContent"] == {"state": "waiting_approval"}
    assert "Call again with the same arguments and idempotency_key" in waiting["content"][0]["text"]
    assert await leads_of(service, "eve@example.org") == []
    [approval] = (await service.client.get("/v1/approvals")).json()["items"]
    approved = await service.client.post(f"/v1/approvals/{approval['id']}/approve")
    assert approved.status_code == 200, approved.text
    done = await called(service, "submit_lead", **eve, idempotency_key="k2")
    await set_mode(service, "submit_lead", ToolMode.ALLOW)
    assert await leads_of(service, "eve@example.org") == [done["structuredContent"]["lead_id"]]


async def test_what_an_agent_handed_in_of_a_person_is_erased_with_the_person(service):
    handed_in = await called(service, "submit_lead", **lead(email="mallory@example.org"))
    await service.decided([handed_in["structuredContent"]["lead_id"]])
    kept = (await service.client.get("/v1/people/mallory@example.org")).json()
    assert "mallory@example.org" in str(kept["stores"]["writes"])
    gone = await service.client.delete("/v1/people/mallory@example.org")
    assert gone.status_code == 200, gone.text
    effects = await service.rows("effects")
    assert "submit_lead" in [effect["tool"] for effect in effects if effect["args"] == ERASED]
    assert "mallory" not in str(effects)


async def test_wrong_arguments_are_one_sentence(service):
    wrong = await called(service, "submit_lead", **lead(email="nobody"))
    assert said(wrong).startswith("The arguments of 'submit_lead' are not valid at email: ")
    assert "give one of lead_id, email and external_id" in said(await called(service, "find_lead"))
    assert "must be a text of 1 to 200" in said(await called(service, "submit_lead", **lead(), idempotency_key=7))


async def test_the_edge_guards_the_address(service):
    no_key = await service.client.post("/mcp", json={}, headers={"Authorization": ""})
    assert (no_key.status_code, no_key.headers["www-authenticate"]) == (401, "Bearer")
    token = (await service.client.post("/v1/users/u-1/token", json={"ttl_s": 600})).json()["token"]
    user = await asked(service, "tools/list", token)
    assert user.status_code == 403
    assert "not for end users" in user.json()["detail"]
    assert (await service.client.get("/mcp")).status_code == 405
    large = await asked(service, "tools/call", name="find_lead", arguments={"email": "x" * (1 << 20)})
    assert large.status_code == 413
    page = await service.client.post("/mcp", json={}, headers={"Origin": "https://evil.example"})
    assert page.status_code == 403
    # A hundred a second come back: what is left is less than all, by how much is the clock's.
    left = int((await asked(service, "tools/list")).headers["ratelimit"].split(";")[1][2:])
    assert 5_900 < left < 6_000, "a call is a request of the key's tier"
    assert "/mcp" not in (await service.client.get("/openapi.json")).json()["paths"]


async def test_protocol_errors_are_the_protocols(service):
    unknown = (await asked(service, "tools/frobnicate")).json()
    assert unknown["error"]["code"] == -32601
    notification = await service.client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (notification.status_code, notification.content) == (202, b"")
    started = (
        await asked(
            service,
            "initialize",
            protocolVersion="2025-06-18",
            capabilities={},
            clientInfo={"name": "test", "version": "1"},
        )
    ).json()["result"]
    assert (started["protocolVersion"], started["serverInfo"]["name"]) == ("2025-06-18", "trellis")
    batch = await service.client.post("/mcp", json=[{"jsonrpc": "2.0", "id": 1, "method": "ping"}])
    assert batch.status_code == 400


async def test_calls_are_counted_by_tool_and_outcome(service):
    calls = service.container.metrics.mcp_calls
    done, unknown = calls.labels("trellis", "list_leads", "done"), calls.labels("trellis", "unknown", "failed")
    before = done._value.get(), unknown._value.get()
    await called(service, "list_leads")
    await asked(service, "tools/call", name="made_up", arguments={})
    assert (done._value.get(), unknown._value.get()) == (before[0] + 1, before[1] + 1)


async def test_a_decision_of_a_customer_and_the_state_of_a_run_are_the_tenants_own(service, rival):
    customers = [{"external_id": "c-1", "worth_usd": 100}]
    stored = await service.client.put("/v1/treatments/customers", json=customers)
    assert stored.status_code < 300, stored.text
    mine = (await called(service, "treatment_decision", customer="c-1"))["structuredContent"]
    assert (mine["customer"], mine["decisions_total"], mine["decisions"]) == ("c-1", 0, [])
    assert "c-1" in said(await called(service, "treatment_decision", rival, customer="c-1"))
    assert "There is no run 'run_x'" in said(await called(service, "treatment_run", run_id="run_x"))


async def test_an_origin_that_is_none_is_refused_too(service):
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {}}
    for origin in ("http://[", "null", "http://localhost@evil.example", "http://localhost.evil.example"):
        answer = await service.client.post("/mcp", json=message, headers={"Origin": origin})
        assert answer.status_code == 403, origin


async def test_a_switch_stops_what_writes_and_not_what_reads(service):
    flags, db = service.container.kit.flags, service.container.db
    for name in ("kill.mcp", "kill.all"):
        async with db.operator_transaction() as session:
            await flags.set(session, ADMIN, name, True)
        await flags.refresh()
        assert "switched off" in said(await called(service, "submit_lead", **lead(email="off@example.org")))
        assert (await called(service, "list_leads"))["isError"] is False
        async with db.operator_transaction() as session:
            await flags.set(session, ADMIN, name, False)
        await flags.refresh()
    assert await leads_of(service, "off@example.org") == []
