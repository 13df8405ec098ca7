"""The lead agent's pages over the whole service: what a person does in the console happens as through the API."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from markupsafe import escape

from app.governance.models import Decision
from app.main import create_app
from app.packs.leads.models import LeadFeedback, LeadOutcome
from app.principal import Role
from tests.support.console import signed_in, visiting
from tests.support.service import Service, lead, running

MARKUP = """<script>alert('x')</script><img src=x onerror=alert(1)>"""
WAIT_S = 60


@pytest.fixture
async def service(tmp_path) -> AsyncIterator[Service]:
    """Without knowledge pages: quicker to start, and every lead is handed to a person."""
    async with running(tmp_path, knowledge=False) as found:
        yield found


@pytest.fixture
async def informed(tmp_path) -> AsyncIterator[Service]:
    async with running(tmp_path) as found:
        yield found


async def decided(service: Service, **fields) -> dict:
    made = (await service.client.post("/v1/leads", json=lead(**fields))).json()
    return (await service.decided([made["lead"]["id"]]))[0]


async def test_the_overview_counts_waits_and_shows_the_latest(service):
    async with signed_in(service, Role.VIEWER) as viewer:
        start = await viewer.get("/console/")
        assert start.headers["location"] == "/console/leads/overview"
        assert "No decision has been made yet" in (await viewer.get("/console/leads/overview")).text
        found = await decided(service)
        page = (await viewer.get("/console/leads/overview")).text
    assert f"/console/decisions/{found['decisions'][0]}" in page
    assert "Ada Example, Example Dairy" in page
    assert "hx-trigger" not in page
    assert "of 1 decided lead;" in page


async def test_a_waiting_lead_makes_the_page_ask_again_until_it_is_decided(service):
    async with signed_in(service, Role.AGENT) as agent:
        await agent.get("/console/leads/new")
        # The form's answer comes before the worker has looked: the lead is new on the page that follows.
        answer = await agent.post("/console/leads/new", lead())
        place = answer.headers["location"]
        lead_id = place.rpartition("/")[2]
        assert (await agent.get(place)).status_code == 200
        await service.decided([lead_id])
        part = (await agent.get(f"{place}/live")).text
        assert "hx-trigger" not in part
        assert "<html" not in part
        assert "Why it decided so" in part
        assert "being decided" not in part


async def test_leads_that_nobody_decides_yet_are_polled_for(tmp_path):
    async with running(tmp_path, knowledge=False, worker=False) as service:
        made = (await service.client.post("/v1/leads", json=lead())).json()
        async with signed_in(service, Role.VIEWER) as viewer:
            overview = (await viewer.get("/console/leads/overview")).text
            page = (await viewer.get(f"/console/leads/{made['lead']['id']}")).text
    assert "1 lead waits to be decided" in overview
    assert 'hx-get="/console/leads/overview/live" hx-trigger="every 2s"' in overview
    assert 'hx-trigger="every 2s"' in page


async def test_the_explanation_of_a_lead_decision_is_whole(informed):
    found = await decided(informed)
    explained = await informed.explain(found["decisions"][0])
    async with signed_in(informed, Role.AGENT) as agent:
        page = (await agent.get(f"/console/decisions/{found['decisions'][0]}")).text
    assert "Decided to answer" in page
    assert f'href="/console/leads/{found["id"]}"' in page
    assert found["messages"][0]["body"] in page
    for title in {item["title"] for item in explained["evidence"]}:
        assert title in page
    assert "<mark>" in page
    for name, _value, weight in explained["inputs"]["score"]["contributions"]:
        assert name in page
        assert f"{weight:+.2f}" in page
    for heading in ("What the agent saw", "What the model said", "What was written", "Was that right?"):
        assert heading in page
    for call in explained["tool_calls"]:
        assert call["key"] in page


async def test_a_leads_own_words_are_text_on_every_page(service):
    found = await decided(service, name=MARKUP, company=MARKUP, message=f"{MARKUP} What does it cost?")
    async with signed_in(service, Role.AGENT) as agent:
        for path in (
            "leads/overview",
            "leads",
            f"leads/{found['id']}",
            f"leads/{found['id']}/live",
            "decisions",
            f"decisions/{found['decisions'][0]}",
        ):
            page = await agent.get(f"/console/{path}")
            assert page.status_code == 200, path
            assert "&lt;script&gt;" in page.text, path
            assert "<script>" not in page.text, path
            assert "<img" not in page.text, path


async def test_leads_are_listed_filtered_and_paged(service):
    await decided(service)
    for number in range(51):
        body = lead(name=f"Visitor {number:02}", email=f"v{number}@example.org", source="event")
        await service.client.post("/v1/leads", json=body)
    async with signed_in(service, Role.VIEWER) as viewer:
        page = (await viewer.get("/console/leads?source=event")).text
        assert "Visitor 50" in page
        assert "Visitor 00" not in page
        assert "Ada Example" not in page
        older = next(part for part in page.split('"') if "cursor=" in part).replace("&amp;", "&")
        assert "Visitor 00" in (await viewer.get(older)).text
        assert "Ada Example" in (await viewer.get("/console/leads?email=ada@example.org")).text
        assert (await viewer.get("/console/leads?status=unheard")).status_code == 422


async def test_a_further_message_and_an_outcome_are_recorded(service):
    found = await decided(service)
    place = f"/console/leads/{found['id']}"
    async with signed_in(service, Role.AGENT) as agent:
        await agent.get(place)
        answer = await agent.post(f"{place}/messages", {"body": "And do you ship to Norway?"})
        assert answer.headers["location"] == place
        again = (await service.decided([found["id"]], decisions=2))[0]
        assert [m["body"] for m in again["messages"] if m["direction"] == "inbound"][-1] == "And do you ship to Norway?"
        assert (await agent.post(f"{place}/outcome", {"kind": "converted", "value_usd": "1200.50"})).status_code == 303
        assert "converted" in (await agent.get(place)).text
        for wrong in ({"kind": "perhaps"}, {"kind": "converted", "value_usd": "-1"}, {}):
            assert (await agent.post(f"{place}/outcome", wrong)).status_code == 422
    async with service.container.db.operator_reading() as session:
        outcomes = [row async for row in await session.stream_scalars(LeadOutcome.__table__.select())]
    assert len(outcomes) == 1


async def test_a_judgement_is_recorded_for_its_decision(service):
    found = await decided(service)
    decision = found["decisions"][0]
    async with signed_in(service, Role.AGENT) as agent:
        await agent.get(f"/console/decisions/{decision}")
        form = {"thumb": "down", "correct_action": "escalate", "comment": MARKUP}
        answer = await agent.post(f"/console/leads/decisions/{decision}/feedback", form)
        page = (await agent.get(answer.headers["location"])).text
        assert "Your judgement is recorded" in page
        assert "Wrong" in page
        assert "&lt;script&gt;" in page
        assert "<script>" not in page
        assert (await agent.post(f"/console/leads/decisions/{decision}/feedback", {})).status_code == 422
        assert (await agent.post("/console/leads/decisions/dec_unknown/feedback", form)).status_code == 404
    async with service.container.db.operator_reading() as session:
        rows = (await session.execute(LeadFeedback.__table__.select())).mappings().all()
    assert [(row["decision_id"], row["thumb"], row["correct_action"]) for row in rows] == [
        (decision, "down", "escalate")
    ]


async def test_a_viewer_looks_and_changes_nothing(service):
    found = await decided(service)
    place, decision = f"/console/leads/{found['id']}", found["decisions"][0]
    async with signed_in(service, Role.VIEWER) as viewer:
        page = (await viewer.get(place)).text
        assert "Store and decide" not in page
        assert "New lead" not in (await viewer.get("/console/leads")).text
        assert "Judging needs the role agent" in (await viewer.get(f"/console/decisions/{decision}")).text
        assert (await viewer.get("/console/leads/new")).status_code == 403
        for address, form in (
            (f"{place}/messages", {"body": "x"}),
            (f"{place}/outcome", {"kind": "lost"}),
            (f"/console/leads/decisions/{decision}/feedback", {"thumb": "up"}),
            ("/console/leads/new", {name: value for name, value in lead().items() if value}),
        ):
            assert (await viewer.post(address, form)).status_code == 403, address
    assert len((await service.client.get("/v1/leads")).json()["items"]) == 1


async def test_another_tenant_finds_none_of_it(service):
    found = await decided(service)
    secret = await service.other_tenant()
    async with visiting(create_app(service.container)) as rival:
        await rival.sign_in(secret)
        place, decision = f"/console/leads/{found['id']}", found["decisions"][0]
        for address in (place, f"{place}/live", f"/console/decisions/{decision}"):
            assert (await rival.get(address)).status_code == 404
        for address in ("/console/leads", "/console/leads/overview", "/console/decisions"):
            assert "Ada Example" not in (await rival.get(address)).text
        for address, form in (
            (f"{place}/messages", {"body": "x"}),
            (f"{place}/outcome", {"kind": "lost"}),
            (f"/console/leads/decisions/{decision}/feedback", {"thumb": "up"}),
        ):
            assert (await rival.post(address, form)).status_code == 404, address


async def test_an_approval_given_in_the_console_sends_the_letter(tmp_path):
    async with running(tmp_path, writes_need_approval=True) as service, signed_in(service, Role.ADMIN) as admin:
        found = await decided(service)
        decision = found["decisions"][0]
        assert (await service.explain(decision))["state"] == "waiting_approval"
        assert "No e-mail has been written yet" in (await admin.get("/console/outbox")).text
        async with asyncio.timeout(WAIT_S):
            while (await service.explain(decision))["state"] != "done":
                pending = (await service.client.get("/v1/approvals?state=pending")).json()["items"]
                for approval in pending:
                    page = await admin.get(f"/console/approvals/{approval['id']}")
                    for value in approval["args"].values():
                        assert not isinstance(value, str) or escape(value) in page.text
                    form = {"verdict": "approve", "confirmed": "yes"}
                    assert (await admin.post(f"/console/approvals/{approval['id']}", form)).status_code == 303
                await asyncio.sleep(0.1)
        assert "ada@example.org" in (await admin.get("/console/outbox")).text


async def test_a_decision_whose_stored_form_is_broken_is_an_error_page_and_no_crash(service):
    found = await decided(service)
    async with service.container.db.operator_transaction() as session:
        await session.execute(Decision.__table__.update().values(inputs={"unheard": True}))
    async with signed_in(service, Role.VIEWER) as viewer:
        answer = await viewer.get(f"/console/decisions/{found['decisions'][0]}")
        assert answer.status_code == 500
        assert "request id" in answer.text
        assert (await viewer.get("/console/decisions")).status_code == 200
