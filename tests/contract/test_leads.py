"""The lead agent from intake to outcome, the same embedded and on servers."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from app.governance.audit import verify
from app.governance.models import Decision, DecisionState
from app.packs.leads.act import Actor
from app.packs.leads.follow_up import FollowUps
from app.packs.leads.models import Lead, LeadMessage, LeadStatus
from app.principal import Principal, Role, worker
from tests.support.servers import Backends
from tests.support.service import TENANT, Service, lead, running

ADMIN = Principal(TENANT, "test", Role.ADMIN)
WAIT_S = 60
WRITES = {"crm_upsert", "crm_note", "email_send"}


@pytest.fixture
async def service(tmp_path: Path, backends: Backends) -> AsyncIterator[Service]:
    async with running(tmp_path, **backends) as found:
        yield found


async def test_a_lead_goes_from_first_contact_to_the_business_figures(service: Service) -> None:
    made = await service.client.post("/v1/leads", json=lead(external_id="one"), headers={"Idempotency-Key": "k"})
    again = await service.client.post("/v1/leads", json=lead(external_id="one"), headers={"Idempotency-Key": "k"})
    assert (made.status_code, again.json()) == (201, made.json())
    lead_id = made.json()["lead"]["id"]
    [detail] = await service.decided([lead_id])
    explained = await service.explain(detail["decisions"][0])
    assert (explained["action"], explained["state"]) == ("respond", "done")
    assert {call["tool"]: call["state"] for call in explained["tool_calls"]} == dict.fromkeys(WRITES, "done")
    assert [message["direction"] for message in detail["messages"]] == ["inbound", "outbound"]
    assert (await service.container.replay(ADMIN, explained["id"])).same
    await judged(service, lead_id)
    await meets(service)
    await every_lead_is_on_one_page(service)
    async with service.container.db.operator_reading() as session:
        report = await verify(session)
    assert report.ok
    assert report.entries > 10


async def test_a_lead_that_changes_at_the_moment_of_its_follow_up_keeps_the_change(service: Service) -> None:
    db, kit = service.container.db, service.container.kit
    lead_id = (await service.client.post("/v1/leads", json=lead(external_id="due"))).json()["lead"]["id"]
    await service.decided([lead_id])
    mine = update(Lead).where(Lead.tenant_id == TENANT, Lead.id == lead_id)
    async with db.transaction(TENANT) as session:
        await session.execute(mine.values(follow_up_at=datetime(2026, 1, 1, tzinfo=UTC), status=LeadStatus.NURTURING))
    async with db.transaction(TENANT) as session:
        await session.execute(mine.values(follow_up_at=None, status=LeadStatus.CONVERTED))
        queue = asyncio.create_task(FollowUps(kit).queue_due())
        await asyncio.wait({queue}, timeout=0.5)
    assert await queue == 0
    assert (await service.client.get(f"/v1/leads/{lead_id}")).json()["status"] == "converted"


async def test_a_decision_that_two_workers_carry_out_at_once_is_told_once(service: Service) -> None:
    db, actor = service.container.db, Actor(service.container.kit)
    lead_id = (await service.client.post("/v1/leads", json=lead(external_id="twice"))).json()["lead"]["id"]
    [detail] = await service.decided([lead_id])
    [decision_id] = detail["decisions"]
    # As it was before it was finished.
    async with db.transaction(TENANT) as session:
        undone = update(Decision).where(Decision.tenant_id == TENANT, Decision.id == decision_id)
        await session.execute(undone.values(state="decided", tool_calls=[]))
        await session.execute(
            delete(LeadMessage).where(LeadMessage.tenant_id == TENANT, LeadMessage.direction == "outbound")
        )
    async with db.transaction(TENANT) as session:
        await session.execute(update(Lead).where(Lead.tenant_id == TENANT, Lead.id == lead_id).values(score=0.5))
        acting = {asyncio.create_task(actor.act(worker(TENANT), decision_id)) for _ in range(2)}
        await asyncio.wait(acting, timeout=1.5)
    assert {await one for one in acting} == {DecisionState.DONE}
    messages = (await service.client.get(f"/v1/leads/{lead_id}")).json()["messages"]
    assert [message["direction"] for message in messages] == ["inbound", "outbound"]


async def judged(service: Service, lead_id: str) -> None:
    """An outcome and a judgement, as the business figures count them."""
    won = {"kind": "converted", "value_usd": 1200.5}
    assert (await service.client.post(f"/v1/leads/{lead_id}/outcome", json=won)).json()["value_usd"] == 1200.5
    right = {"correct_action": "respond", "csat": 5}
    assert (await service.client.post(f"/v1/leads/{lead_id}/feedback", json=right)).status_code == 201
    total = (await service.client.get("/v1/metrics/business")).json()["total"]
    assert total["volume"] == total["decided"] == total["first_response"]["answered"] == 1
    assert total["conversion"]["value"] == total["decision_accuracy"]["value"] == total["csat"]["value"] == 1.0
    assert (await service.client.get(f"/v1/leads/{lead_id}")).json()["status"] == "converted"


async def meets(service: Service) -> None:
    """Six leads who want the same half hour get six different ones."""
    wish = "I want to buy for 30 sensors. Could we have a demonstration meeting on Tuesday at 10:00, please?"
    lines = "\n".join(json.dumps(lead(email=f"p{n}@example.org", message=wish)) for n in range(6))
    batch = await service.client.post(
        "/v1/leads/batch", content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    details = await service.decided(batch.json()["lead_ids"])
    assert {detail["status"] for detail in details} == {"scheduled"}
    assert len({detail["messages"][-1]["body"] for detail in details}) == 6


async def every_lead_is_on_one_page(service: Service) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        page = (
            await service.client.get("/v1/leads", params={"limit": 3, **({"cursor": cursor} if cursor else {})})
        ).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen, reverse=True)


async def test_writes_wait_for_approval_and_then_happen_once(tmp_path: Path, backends: Backends) -> None:
    async with running(tmp_path, writes_need_approval=True, **backends) as service:
        made = (await service.client.post("/v1/leads", json=lead())).json()
        [detail] = await service.decided([made["lead"]["id"]])
        assert (await service.explain(detail["decisions"][0]))["state"] == "waiting_approval"
        assert await service.rows("outbox") == []
        first = await approved(service)
        async with asyncio.timeout(WAIT_S):
            while (await service.explain(detail["decisions"][0]))["state"] != "done":
                await approved(service)
                await asyncio.sleep(0.1)
        assert [row["recipient"] for row in await service.rows("outbox")] == ["ada@example.org"]
        again = await service.client.post(f"/v1/approvals/{first[0]}/approve")
        assert again.status_code == 409


async def approved(service: Service) -> list[str]:
    """Approves all that waits; the ids."""
    waiting = (await service.client.get("/v1/approvals?state=pending")).json()["items"]
    for one in waiting:
        assert (await service.client.post(f"/v1/approvals/{one['id']}/approve")).status_code == 200
    return [one["id"] for one in waiting]


async def test_what_was_taken_in_is_decided_by_the_next_process(tmp_path: Path, backends: Backends) -> None:
    async with running(tmp_path, knowledge=False, worker=False, **backends) as service:
        made = (await service.client.post("/v1/leads", json=lead())).json()["lead"]["id"]
        key = service.key
    async with running(tmp_path, knowledge=False, key=key, **backends) as service:
        [detail] = await service.decided([made])
    assert detail["status"] == "escalated"


async def test_one_lead_that_arrives_many_times_at_once_is_stored_once(service: Service) -> None:
    one = lead(external_id="twin")
    answers = await asyncio.gather(*(service.client.post("/v1/leads", json=one) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]
    assert (await service.client.get("/v1/leads/counts")).json()["total"] == 1
