"""The lead agent from the API's side, on the embedded default."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from app.agent.models import EffectRow, EffectState
from app.governance.models import Decision, DecisionState
from app.integrations.local import list_outbox
from app.packs.leads.service import LeadService
from app.principal import Principal, Role
from loadtest.stub.server import KEY, ModelStub, error, text
from tests.support.service import TENANT, Service, lead, running

ADMIN = Principal(TENANT, "test", Role.ADMIN)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as service:
        yield service


async def test_a_question_is_answered_from_evidence_and_explained(service: Service) -> None:
    made = await service.client.post("/v1/leads", json=lead())
    assert made.status_code == 201
    [detail] = await service.decided([made.json()["lead"]["id"]])
    assert detail["status"] == "answered"
    assert [event["kind"] for event in detail["timeline"]][:2] == ["received", "decided"]
    explained = await service.explain(detail["decisions"][0])
    assert explained["action"] == "respond"
    assert explained["versions"]["model"] == "offline"
    assert explained["versions"]["prompt_version"] == 1
    assert any("pricing" in item["document_id"] or "ric" in item["title"] for item in explained["evidence"])
    assert {call["tool"]: call["state"] for call in explained["tool_calls"]} == {
        "crm_upsert": "done",
        "email_send": "done",
        "crm_note": "done",
    }
    assert detail["messages"][-1]["direction"] == "outbound"
    assert "276" in detail["messages"][-1]["body"]
    assert detail["first_response_at"] is not None


async def test_a_replay_comes_out_the_same(service: Service) -> None:
    made = (await service.client.post("/v1/leads", json=lead())).json()
    [detail] = await service.decided([made["lead"]["id"]])
    decision = await service.container.decision(ADMIN, detail["decisions"][0])
    report = await service.container.replay(ADMIN, decision.id)
    assert report.same, report.differences


async def test_a_further_message_is_decided_with_the_history(service: Service) -> None:
    made = (await service.client.post("/v1/leads", json=lead())).json()
    lead_id = made["lead"]["id"]
    await service.decided([lead_id])
    more = await service.client.post(f"/v1/leads/{lead_id}/messages", json={"body": "And is there a free trial?"})
    assert more.status_code == 202
    [detail] = await service.decided([lead_id], decisions=2)
    explained = await service.explain(detail["decisions"][1])
    assert [turn["direction"] for turn in explained["inputs"]["history"]] == ["inbound", "outbound"]


async def test_many_who_want_the_same_slot_get_different_ones(service: Service) -> None:
    wish = "I want to buy for 30 sensors. Could we have a demonstration meeting on Tuesday at 10:00, please?"
    made = [
        (await service.client.post("/v1/leads", json=lead(email=f"p{n}@example.org", message=wish))).json()
        for n in range(6)
    ]
    details = await service.decided([one["lead"]["id"] for one in made])
    assert {detail["status"] for detail in details} == {"scheduled"}
    sent = [detail["messages"][-1]["body"] for detail in details]
    assert len(set(sent)) == 6
    assert not any("{slot}" in body for body in sent)


async def test_writes_wait_for_approval_and_then_happen_once(tmp_path: Path) -> None:
    async with running(tmp_path, writes_need_approval=True) as service:
        made = (await service.client.post("/v1/leads", json=lead())).json()
        [detail] = await service.decided([made["lead"]["id"]])
        assert (await service.explain(detail["decisions"][0]))["state"] == "waiting_approval"
        waiting = (await service.client.get("/v1/approvals?state=pending")).json()["items"]
        assert {one["tool"] for one in waiting} == {"crm_upsert", "email_send"}
        assert (await service.client.get("/v1/leads/counts")).json()["by_status"]["answered"] == 0
        await approve_all(service)
        async with asyncio.timeout(30):
            while (await service.explain(detail["decisions"][0]))["state"] != "done":
                await approve_all(service)
                await asyncio.sleep(0.1)
        [detail] = await service.decided([made["lead"]["id"]])
        assert [message["direction"] for message in detail["messages"]] == ["inbound", "outbound"]
        again = await service.client.post(f"/v1/approvals/{waiting[0]['id']}/approve")
        assert again.status_code == 409


async def approve_all(service: Service) -> None:
    for one in (await service.client.get("/v1/approvals?state=pending")).json()["items"]:
        await service.client.post(f"/v1/approvals/{one['id']}/approve")


async def test_a_kill_switch_holds_decisions_back_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.packs.leads.jobs.POSTPONED_S", 0.5)
    async with running(tmp_path) as service:
        await flip(service, on=True)
        made = (await service.client.post("/v1/leads", json=lead())).json()
        await asyncio.sleep(1.5)
        assert (await service.client.get(f"/v1/leads/{made['lead']['id']}")).json()["decisions"] == []
        assert (await service.client.get("/v1/status")).json()["stopped"] == ["leads"]
        await flip(service, on=False)
        [detail] = await service.decided([made["lead"]["id"]])
        assert detail["status"] == "answered"


async def flip(service: Service, *, on: bool) -> None:
    flags = service.container.flags
    async with service.container.db.operator_transaction() as session:
        await flags.set(session, ADMIN, "kill.leads", on)
    await flags.refresh()


async def test_outcomes_and_feedback_reach_the_business_figures(service: Service) -> None:
    made = (await service.client.post("/v1/leads", json=lead())).json()
    lead_id = made["lead"]["id"]
    early = await service.client.post(f"/v1/leads/{lead_id}/feedback", json={"thumb": "up"})
    await service.decided([lead_id])
    assert early.status_code in (201, 409)
    assert (await service.client.post(f"/v1/leads/{lead_id}/outcome", json={"kind": "lost"})).status_code == 201
    won = {"kind": "converted", "value_usd": 1200.5}
    assert (await service.client.post(f"/v1/leads/{lead_id}/outcome", json=won)).json()["value_usd"] == 1200.5
    judged = {"correct_action": "respond", "csat": 5, "escalation_necessary": False}
    assert (await service.client.post(f"/v1/leads/{lead_id}/feedback", json=judged)).status_code == 201
    total = (await service.client.get("/v1/metrics/business")).json()["total"]
    assert total["volume"] == total["decided"] == 1
    assert total["conversion"]["value"] == 1.0
    assert total["decision_accuracy"]["value"] == 1.0
    assert total["csat"]["value"] == 1.0
    assert total["first_response"]["answered"] == 1


async def test_a_viewer_reads_and_writes_nothing(service: Service) -> None:
    made = (await service.client.post("/v1/leads", json=lead())).json()
    viewer = {"Authorization": f"Bearer {await service.key_with(Role.VIEWER)}"}
    lead_id = made["lead"]["id"]
    assert (await service.client.get(f"/v1/leads/{lead_id}", headers=viewer)).status_code == 200
    for path, body in (
        ("/v1/leads", lead()),
        (f"/v1/leads/{lead_id}/messages", {"body": "hi"}),
        (f"/v1/leads/{lead_id}/outcome", {"kind": "lost"}),
        (f"/v1/leads/{lead_id}/feedback", {"thumb": "up"}),
    ):
        assert (await service.client.post(path, json=body, headers=viewer)).status_code == 403


async def test_pages_of_leads_hold_each_lead_once(service: Service) -> None:
    lines = "\n".join(json.dumps(lead(external_id=f"x-{n}", email=f"x{n}@example.org")) for n in range(25))
    report = await service.client.post(
        "/v1/leads/batch", content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    assert report.json()["accepted"] == 25
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (
            await service.client.get("/v1/leads", params={"limit": 7} | ({"cursor": cursor} if cursor else {}))
        ).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert len(seen) == len(set(seen)) == 25
    assert seen == sorted(seen, reverse=True)


async def test_a_parked_write_goes_on_by_a_persons_word(service: Service) -> None:
    made = (await service.client.post("/v1/leads", json=lead())).json()
    [detail] = await service.decided([made["lead"]["id"]])
    decision_id = detail["decisions"][0]
    async with service.container.db.operator_transaction() as session:
        mails = EffectRow.key == f"{decision_id}:email_send"
        await session.execute(update(EffectRow).where(mails).values(state=EffectState.PARKED, error="cut off"))
        await session.execute(update(Decision).where(Decision.id == decision_id).values(state=DecisionState.FAILED))
    [parked] = (await service.client.get("/v1/effects?state=parked")).json()["items"]
    viewer = {"Authorization": f"Bearer {await service.key_with(Role.VIEWER)}"}
    word = {"happened": True}
    path = f"/v1/effects/{parked['id']}/settle"
    assert (await service.client.post(path, json=word, headers=viewer)).status_code == 403
    assert (await service.client.post(path, json=word)).json()["state"] == "done"
    assert (await service.client.post(path, json=word)).status_code == 409
    async with asyncio.timeout(30):
        while (await service.explain(decision_id))["state"] != "done":
            await asyncio.sleep(0.05)
    async with service.container.db.operator_reading() as session:
        assert len(await list_outbox(session, TENANT, limit=50)) == 1


async def test_a_lead_that_no_model_decided_goes_to_a_person_and_can_be_tried_again(tmp_path: Path) -> None:
    judged = {"action": "escalate", "confidence": 0.9, "reason": "A person should see this.", "evidence": []}
    async with (
        ModelStub(text(json.dumps(judged)), faults=[error(401, "no such key")] * 50) as stub,
        running(tmp_path, model_url=stub.url, model_key=KEY, model_name="stub") as service,
    ):
        made = (await service.client.post("/v1/leads", json=lead())).json()
        path = f"/v1/leads/{made['lead']['id']}"
        async with asyncio.timeout(60):
            while (found := (await service.client.get(path)).json())["status"] != "escalated":
                await asyncio.sleep(0.1)
        assert found["decisions"] == []
        assert "could not decide" in found["timeline"][-1]["summary"]
        stub.faults.clear()
        async with service.container.db.operator_transaction() as session:
            assert await LeadService(service.container.kit).decide_again(session, ADMIN) == 1
        [again] = await service.decided([made["lead"]["id"]])
        assert (await service.explain(again["decisions"][0]))["versions"]["model"].startswith("stub")
