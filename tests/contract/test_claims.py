"""The claims assistant from import to answer, the same embedded and on servers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.agent.models import ToolMode
from app.governance.audit import verify
from app.packs.claims.api import CHATS_A_MINUTE
from app.principal import Principal, Role
from tests.support.claims import ask, chat, load_sample, signed_in
from tests.support.servers import Backends
from tests.support.service import TENANT, Service, running

ADMIN = Principal(TENANT, "test", Role.ADMIN)


@pytest.fixture
async def service(tmp_path: Path, backends: Backends) -> AsyncIterator[Service]:
    async with running(tmp_path, knowledge=False, **backends) as found:
        await load_sample(found)
        yield found


async def test_a_member_reads_their_own_and_asks(service: Service) -> None:
    ada = await signed_in(service, "m-1001")
    await she_reads_the_same_as_the_tools(service, ada)
    await the_pages_answer_with_citations(service, ada)
    await nobody_elses_claim_is_found(service, ada)
    await what_is_changed_shows_at_once(service, ada)
    async with service.container.db.operator_reading() as session:
        assert (await verify(session)).ok


async def she_reads_the_same_as_the_tools(service: Service, ada: dict[str, str]) -> None:
    balance = (await service.client.get("/v1/claims/balance?year=2026", headers=ada)).json()
    dental = next(row for row in balance["balances"] if row["benefit"] == "dental")
    figures = {name: dental[name] for name in ("limit", "paid", "pending", "left")}
    assert figures == {"limit": "1200.00 EUR", "paid": "287.00 EUR", "pending": "820.00 EUR", "left": "913.00 EUR"}
    told = await ask(service, ada, "How much of my dental limit is left in 2026?")
    assert "913.00 EUR left of 1200.00 EUR; 287.00 EUR paid, 820.00 EUR pending" in told["text"]
    assert [tool["tool"] for tool in told["tools"]] == ["benefit_balance"]
    assert (told["grounded"], told["refused"], told["cache"]) == (True, False, "none")
    rejected = (await service.client.get("/v1/claims?state=rejected", headers=ada)).json()["items"]
    assert [claim["number"] for claim in rejected] == ["CL-2026-700222"]
    assert "CL-2026-700222" in (await ask(service, ada, "Which of my claims were rejected?"))["text"]
    everything = (await service.client.get("/v1/claims", headers=ada)).json()["items"]
    first = (await service.client.get("/v1/claims?limit=5", headers=ada)).json()
    rest = (await service.client.get(f"/v1/claims?limit=5&cursor={first['next_cursor']}", headers=ada)).json()
    assert len(everything) == 9
    assert first["items"] + rest["items"] == everything
    assert len((await service.client.get("/v1/claims?year=2025", headers=ada)).json()["items"]) == 1
    policies = (await service.client.get("/v1/claims/policies", headers=ada)).json()
    assert [policy["number"] for policy in policies] == ["HH-2023-004101"]


async def the_pages_answer_with_citations(service: Service, ada: dict[str, str]) -> None:
    question = "What share of a crown do you pay?"
    answer = await ask(service, ada, question)
    assert "60 %" in answer["text"]
    assert "dental" in [citation["slug"] for citation in answer["citations"]]
    chiara = await signed_in(service, "m-1003")
    assert (await ask(service, chiara, question))["cache"] == "none", "an answer is kept for the member who asked"


async def nobody_elses_claim_is_found(service: Service, ada: dict[str, str]) -> None:
    """In the same words as for a number that nobody has."""
    others, nobodys = "CL-2026-700370", "CL-2026-999999"
    assert (await ask(service, await signed_in(service, "m-1002"), f"Status of {others}?"))["grounded"]
    said = []
    for number in (others, nobodys):
        answer = await service.client.get(f"/v1/claims/{number}", headers=ada)
        assert answer.status_code == 404
        said.append((answer.json()["detail"], (await ask(service, ada, f"Status of {number}?"))["text"]))
    assert said[0] == said[1]


async def what_is_changed_shows_at_once(service: Service, ada: dict[str, str]) -> None:
    change = {
        "user_id": "m-1001",
        "name": "Ada Hartmann",
        "email": "ada.hartmann@members.example",
        "claims": [
            {
                "number": "CL-2026-700111",
                "policy": "HH-2023-004101",
                "benefit": "dental",
                "state": "paid",
                "amount_claimed": 82000,
                "amount_paid": 49200,
                "incurred_on": "2026-10-20",
            }
        ],
    }
    answer = await service.client.put("/v1/claims/members", json={"members": [change]})
    assert answer.json()["claims"] == {"new": 0, "changed": 1, "unchanged": 0}
    assert "492.00 EUR paid" in (await ask(service, ada, "Status of CL-2026-700111?"))["text"]


async def test_a_member_may_ask_ten_times_a_minute(service: Service) -> None:
    ada, bilal = await signed_in(service, "m-1001"), await signed_in(service, "m-1002")
    answers = [await chat(service, ada, "hello") for _ in range(CHATS_A_MINUTE + 1)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"claims-chat";q=10;w=60'
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert (await chat(service, bilal, "hello")).status_code == 200, "each member has their own"
    assert (await service.client.get("/v1/claims", headers=ada)).status_code == 200, "reading is not asking"


async def test_what_the_tenant_does_not_allow_is_not_looked_up(service: Service) -> None:
    async with service.container.db.operator_transaction() as session:
        await service.container.tool_policies.set(session, ADMIN, "my_claims", None)
    answer = await ask(service, await signed_in(service, "m-1001"), "List my claims")
    assert "not on the tenant's allow list" in answer["tools"][0]["error"]
    assert "CL-" not in answer["text"]
    async with service.container.db.operator_transaction() as session:
        await service.container.tool_policies.set(session, ADMIN, "my_claims", ToolMode.ALLOW)
    assert "CL-" in (await ask(service, await signed_in(service, "m-1001"), "List my claims"))["text"]


async def test_an_api_key_is_no_member(service: Service) -> None:
    for method, path in (("GET", "/v1/claims"), ("GET", "/v1/claims/policies"), ("GET", "/v1/claims/balance")):
        answer = await service.client.request(method, path)
        assert answer.status_code == 403
        assert "/v1/users/{user_id}/token" in answer.json()["detail"]
    assert (await chat(service, {}, "my claims")).status_code == 403


async def test_the_kill_switch_stops_the_assistant(service: Service) -> None:
    async with service.container.db.operator_transaction() as session:
        await service.container.flags.set(session, ADMIN, "kill.claims", True)
    await service.container.flags.refresh()
    answer = await chat(service, await signed_in(service, "m-1001"), "hello")
    assert answer.status_code == 503
