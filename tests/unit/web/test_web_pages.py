"""The shell's pages: what they show, to whom, and that everything on them is text."""

from datetime import timedelta
from html import escape, unescape
from pathlib import Path

import pytest
from fastapi import APIRouter
from sqlalchemy import update

from app.agent.models import Approval, ApprovalState
from app.agent.tools import ToolCallPlan
from app.errors import Conflict
from app.governance.decisions import trigger_key
from app.governance.models import AuditEntry, Decision
from app.ids import new_id
from app.integrations.base import Contact, Mail, Slot
from app.integrations.local import LocalCalendar, LocalCrm, LocalOutbox
from app.principal import Principal, Role
from app.settings import load_settings
from app.web.pack_pages import PackPages, Subject
from tests.support.console import ConsoleContainer, Runtime, make_key, visiting

MARKUP = """<script>alert('x')</script>"><img src=x onerror=alert(1)>{{ 7*7 }}"""
AGENT = Principal("acme", "worker", Role.AGENT)


async def store_decision(container, tenant="acme", **fields) -> Decision:
    decision_id = new_id("dec")
    row = Decision(
        **{
            "id": decision_id,
            "tenant_id": tenant,
            "created_at": container.clock(),
            "pack": "leads",
            "subject_id": "lead_1",
            "trigger_id": decision_id,
            "trigger_key": trigger_key(tenant, "leads", decision_id),
            "action": "respond",
            "confidence": 0.82,
            "reason": "The price list answers it.",
            "state": "done",
            "inputs": {"message": "How much?"},
            "evidence": [{"chunk_id": "c", "document_id": "d", "title": "Prices", "score": 0.9, "quote": "39 EUR"}],
            "prompt_name": "leads_decide",
            "prompt_version": 3,
            "model": "offline",
            "answer": {"reply": "39 EUR"},
            "tool_calls": [
                {"tool": "email_send", "effect": "write", "state": "done", "key": f"{decision_id}:email_send"}
            ],
            "duration_ms": 50.0,
            "model_ms": 20.0,
        }
        | fields
    )
    async with container.db.operator_transaction() as session:
        session.add(row)
    return row


async def ask_approval(container, args=None, tenant="acme") -> Approval:
    decision = await store_decision(container, tenant, state="waiting_approval")
    plan = ToolCallPlan("email_send", {}, f"{decision.id}:email_send")
    async with container.db.operator_transaction() as session:
        principal = Principal(tenant, "worker", Role.AGENT)
        return await container.approvals.request(session, principal, decision.id, plan, args or {"to": "a@b.example"})


async def approval_state(container, approval_id) -> str:
    async with container.db.operator_reading() as session:
        return (await session.get(Approval, approval_id)).state


async def test_decisions_are_listed_newest_first_and_filtered(container, viewer):
    first = await store_decision(container, reason="the first")
    second = await store_decision(container, action="escalate", state="failed", reason="the second")
    page = (await viewer.get("/console/decisions")).text
    assert page.index(second.id) < page.index(first.id)
    only = (await viewer.get("/console/decisions?action=escalate&state=failed&pack=leads")).text
    assert second.id in only
    assert first.id not in only
    none = (await viewer.get("/console/decisions?action=nurture")).text
    assert "No decision fits these filters" in none


async def test_a_long_list_of_decisions_is_paged_with_its_filters(container, viewer):
    made = [await store_decision(container) for _ in range(51)]
    page = (await viewer.get("/console/decisions?action=respond")).text
    older = next(part for part in page.split('"') if "cursor=" in part)
    assert made[0].id not in page
    assert "action=respond" in unescape(older)
    rest = (await viewer.get(unescape(older))).text
    assert made[0].id in rest
    assert made[1].id not in rest
    assert "Older" not in rest


async def test_an_explanation_says_what_how_sure_from_what_and_at_what_cost(container, viewer):
    decision = await store_decision(container, cost_micros=1_200, tokens_in=1234, experiment="tone", arm="short")
    page = unescape((await viewer.get(f"/console/decisions/{decision.id}")).text)
    for shown in (
        "Decided: respond,",
        "82% sure",
        "The price list answers it.",
        "1 passage",
        "leads_decide 3",
        "tone, arm short",
        "$0.0012",
        "1,234 in",
        "Trellis 30.0 ms",
        "Model 20.0 ms",
        f"{decision.id}:email_send",
        "39 EUR",
        f"trellis replay {decision.id}",
    ):
        assert shown in page, shown


async def test_a_share_over_its_target_is_marked(container, viewer):
    within = await store_decision(container, duration_ms=119.0, model_ms=20.0)
    over = await store_decision(container, duration_ms=121.0, model_ms=20.0)
    assert 'class="over"' not in (await viewer.get(f"/console/decisions/{within.id}")).text
    assert 'class="over"' in (await viewer.get(f"/console/decisions/{over.id}")).text


async def test_another_tenant_sees_none_of_it(container, admin, rival):
    decision = await store_decision(container)
    approval = await ask_approval(container)
    assert (await rival.get(f"/console/decisions/{decision.id}")).status_code == 404
    assert (await rival.get(f"/console/approvals/{approval.id}")).status_code == 404
    for path in ("/console/decisions", "/console/approvals", "/console/audit"):
        assert decision.id not in (await rival.get(path)).text
        assert approval.id not in (await rival.get(path)).text
    form = {"verdict": "approve", "confirmed": "yes"}
    assert (await rival.post(f"/console/approvals/{approval.id}", form)).status_code == 404
    assert await approval_state(container, approval.id) == ApprovalState.PENDING


async def test_what_others_wrote_is_shown_as_text_everywhere(container, admin):
    decision = await store_decision(
        container,
        reason=MARKUP,
        model=MARKUP,
        subject_id=MARKUP[:60],
        inputs={"message": MARKUP},
        answer={"reply": MARKUP},
        tool_calls=[{"tool": MARKUP, "effect": "write", "state": "failed", "key": MARKUP, "detail": MARKUP}],
    )
    approval = await ask_approval(container, {"body": MARKUP, MARKUP: [MARKUP]})
    await LocalOutbox(container.db).send("acme", Mail("a@b.example", MARKUP, MARKUP), key="k1")
    crm = LocalCrm(container.db)
    contact = await crm.upsert_contact("acme", Contact("a@b.example", MARKUP, MARKUP, "1", {"role": MARKUP}), key="k1")
    await crm.add_note("acme", contact, MARKUP, key="k2")
    start = container.clock() + timedelta(days=1)
    slot = Slot(start, start + timedelta(minutes=30))
    await LocalCalendar(container.db, container.clock).book("acme", slot, "a@b.example", MARKUP, MARKUP, key="k1")
    for path in (
        "decisions",
        f"decisions/{decision.id}",
        "approvals",
        f"approvals/{approval.id}",
        "outbox",
        "calendar",
        "contacts",
        f"contacts/{contact.id}",
    ):
        page = await admin.get(f"/console/{path}")
        assert page.status_code == 200, path
        assert "&lt;script&gt;" in page.text, path
        assert "<script>" not in page.text, path
        assert "<img" not in page.text, path
        assert "{{ 7*7 }}" in page.text, path


async def test_addresses_and_errors_are_text_too(admin):
    for path in (f"/console/decisions/{MARKUP}", f"/console/flags/{MARKUP}", f"/console/decisions?state={MARKUP[:40]}"):
        page = await admin.get(path)
        assert "<script>" not in page.text
        assert "<img" not in page.text


async def test_every_page_allows_our_own_files_only_and_needs_nothing_else(container, admin):
    decision = await store_decision(container)
    for path in (
        "decisions",
        f"decisions/{decision.id}",
        "approvals",
        "audit",
        "flags",
        "outbox",
        "calendar",
        "nowhere",
    ):
        page = await admin.get(f"/console/{path}")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        for refused in (" style=", "<style", " onclick", " onload", "javascript:", "http://", "https://"):
            assert refused not in page.text, (path, refused)
        assert page.text.count("<script") == page.text.count("<script src=") == 1
        assert page.headers["cache-control"] == "no-store"


async def test_only_an_admin_approves_and_only_what_was_read(container, admin, agent):
    approval = await ask_approval(container, {"to": "ada@example.org", "body": "Dear Ada,\n39 EUR"})
    address = f"/console/approvals/{approval.id}"
    resumed = []

    async def resume(session, principal, decision_id):
        resumed.append((principal.tenant_id, decision_id))

    container.resumers["leads"] = resume
    page = (await agent.get(address)).text
    assert "39 EUR" in page
    assert "ada@example.org" in page
    assert "<button name" not in page
    assert (await agent.post(address, {"verdict": "approve", "confirmed": "yes"})).status_code == 403
    assert "<button name" in (await admin.get(address)).text
    assert (await admin.post(address, {"verdict": "approve"})).status_code == 422
    assert (await admin.post(address, {"verdict": "maybe", "confirmed": "yes"})).status_code == 422
    assert await approval_state(container, approval.id) == ApprovalState.PENDING
    assert resumed == []
    assert (await admin.post(address, {"verdict": "approve", "confirmed": "yes"})).status_code == 303
    assert await approval_state(container, approval.id) == ApprovalState.APPROVED
    assert resumed == [("acme", approval.subject_id)]
    assert (await admin.post(address, {"verdict": "reject", "confirmed": "yes"})).status_code == 409
    assert "Approved by" in (await admin.get(address)).text


async def test_a_rejection_lets_the_decision_go_on_as_well(container, admin):
    approval = await ask_approval(container)
    resumed = []

    async def resume(session, principal, decision_id):
        resumed.append(decision_id)

    container.resumers["leads"] = resume
    await admin.get(f"/console/approvals/{approval.id}")
    await admin.post(f"/console/approvals/{approval.id}", {"verdict": "reject", "confirmed": "yes"})
    assert await approval_state(container, approval.id) == ApprovalState.REJECTED
    assert resumed == [approval.subject_id]


async def test_a_word_that_cannot_be_carried_on_is_not_recorded(container, admin):
    approval = await ask_approval(container)

    async def resume(session, principal, decision_id):
        raise Conflict("The queue is closed.")

    container.resumers["leads"] = resume
    await admin.get(f"/console/approvals/{approval.id}")
    answer = await admin.post(f"/console/approvals/{approval.id}", {"verdict": "approve", "confirmed": "yes"})
    assert answer.status_code == 409
    assert "The queue is closed." in answer.text
    assert await approval_state(container, approval.id) == ApprovalState.PENDING


async def test_a_decision_that_waits_links_to_its_approval(container, viewer):
    approval = await ask_approval(container)
    page = (await viewer.get(f"/console/decisions/{approval.subject_id}")).text
    assert f"/console/approvals/{approval.id}" in page


async def test_switches_are_for_admins(container, admin, agent):
    assert "Switches" not in (await agent.get("/console/audit")).text
    assert (await agent.get("/console/flags")).status_code == 403
    assert (await agent.get("/console/flags/kill.leads")).status_code == 403
    form = {"value": "true", "confirmed": "yes"}
    assert (await agent.post("/console/flags/kill.leads", form)).status_code == 403
    await container.flags.refresh()
    assert not container.flags.killed("leads", "acme")
    assert "kill.leads" in (await admin.get("/console/flags")).text


async def test_a_kill_switch_stops_and_runs_again_for_the_own_tenant(container, admin):
    await admin.get("/console/flags/kill.leads")
    assert (await admin.post("/console/flags/kill.leads", {"value": "true"})).status_code == 422
    assert not container.flags.killed("leads", "acme")
    await admin.post("/console/flags/kill.leads", {"value": "true", "confirmed": "yes"})
    assert container.flags.killed("leads", "acme")
    assert not container.flags.killed("leads", "rival")
    assert "Let it run again" in (await admin.get("/console/flags/kill.leads")).text
    await admin.post("/console/flags/kill.leads", {"value": "false", "confirmed": "yes"})
    assert not container.flags.killed("leads", "acme")
    assert "flag.set" in (await admin.get("/console/audit")).text


@pytest.mark.parametrize(
    ("name", "text", "value"), [("tone", "warm", "warm"), ("share", "0.25", 0.25), ("letters", "false", False)]
)
async def test_flags_of_each_type_are_set(container, admin, name, text, value):
    await admin.get(f"/console/flags/{name}")
    assert (await admin.post(f"/console/flags/{name}", {"value": text, "confirmed": "yes"})).status_code == 303
    assert container.flags.value(name, "acme") == value


@pytest.mark.parametrize(
    ("name", "text"), [("share", "much"), ("share", "nan"), ("share", "inf"), ("letters", "1"), ("unknown", "true")]
)
async def test_a_flag_takes_only_its_own_type(container, admin, name, text):
    await admin.get("/console/flags/tone")
    answer = await admin.post(f"/console/flags/{name}", {"value": text, "confirmed": "yes"})
    assert answer.status_code == (404 if name == "unknown" else 422)


async def test_the_audit_log_pages_and_verifies(container, admin):
    for number in range(50):
        async with container.db.operator_transaction() as session:
            await container.flags.set(session, Principal("acme", "t", Role.ADMIN), "share", number / 100)
    page = (await admin.get("/console/audit")).text
    assert ">51</td>" in page
    assert ">1</td>" not in page
    assert ">1</td>" in (await admin.get("/console/audit?before=2")).text
    assert "51 entries: the chain holds" in (await admin.post("/console/audit")).text


async def test_a_changed_entry_is_named(container, admin):
    for _ in range(3):
        async with container.db.operator_transaction() as session:
            await container.flags.set(session, Principal("acme", "t", Role.ADMIN), "share", 0.1)
    async with container.db.operator_transaction() as session:
        await session.execute(update(AuditEntry).where(AuditEntry.seq == 2).values(actor="somebody else"))
    await admin.get("/console/audit")
    assert "broken at entry 2" in (await admin.post("/console/audit")).text


async def test_pages_of_vendors_places_are_absent(container):
    settings = load_settings({}, session_secret="s" * 40, mailer="sendgrid", crm="hubspot", calendar="google")
    container = ConsoleContainer(container.db, container.clock, settings=settings)
    _, secret = await make_key(container, Role.ADMIN)
    async with visiting(container.app()) as visitor:
        await visitor.sign_in(secret)
        page = (await visitor.get("/console/audit")).text
        for name in ("outbox", "calendar", "contacts"):
            assert f"/console/{name}" not in page
            assert (await visitor.get(f"/console/{name}")).status_code == 404


async def test_the_console_can_be_off(container):
    off = load_settings({}, session_secret="s" * 40, console=False)
    async with visiting(ConsoleContainer(container.db, container.clock, settings=off).app()) as visitor:
        assert (await visitor.get("/console")).status_code == 404
        assert (await visitor.get("/console/sign-in")).status_code == 404


async def test_the_bare_address_leads_in(admin):
    answer = await admin.get("/console")
    assert answer.headers["location"] == "/console/"
    assert (await admin.get("/console/")).headers["location"] == "/console/decisions"


async def test_files_are_served_and_may_be_kept(stranger):
    for name in ("htmx.min.js", "console.css", "icon.svg", "htmx.LICENSE.txt"):
        answer = await stranger.get(f"/console/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-cache"
        again = await stranger.get(f"/console/static/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert (await stranger.get("/console/static/../install.py")).status_code == 404


async def test_an_unforeseen_error_is_a_page_that_tells_nothing_but_the_number(container, admin, monkeypatch):
    def broken(*_):
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(container.flags, "value", broken)
    answer = await admin.get("/console/flags")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.headers["x-request-id"] in answer.text


async def test_a_wrong_cursor_and_a_wrong_number_are_sentences(admin):
    assert "cursor" in (await admin.get("/console/decisions?cursor=;drop")).text
    answer = await admin.get("/console/audit?before=x")
    assert answer.status_code == 422
    assert "before" in answer.text


async def test_a_pack_names_its_subjects_and_shows_its_own_parts(container, viewer, tmp_path: Path):
    (tmp_path / "inputs.html").write_text("<section>asked: {{ decision.inputs.message }}, {{ pack.more }}</section>")
    routes = APIRouter()

    async def subjects(session, tenant_id, ids):
        return {one: Subject(f"{MARKUP} of {tenant_id}", "/console/leads/x") for one in ids}

    async def describe(session, tenant_id, decision):
        return {"more": f"{tenant_id}:{decision.trigger_id}"}

    container.runtimes["leads"] = Runtime(
        PackPages(routes, (), tmp_path, words={"respond": "answer"}, subjects=subjects, describe=describe)
    )
    decision = await store_decision(container)
    _, secret = await make_key(container, Role.VIEWER)
    async with visiting(container.app()) as visitor:
        await visitor.sign_in(secret)
        page = (await visitor.get(f"/console/decisions/{decision.id}")).text
        assert f"asked: How much?, acme:{decision.id}" in page
        assert escape(f"{MARKUP} of acme") in page.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
        listed = (await visitor.get("/console/decisions")).text
        assert "of acme" in listed
        assert 'class="badge respond">answer<' in listed
