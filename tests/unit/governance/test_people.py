"""One person under many names: every name is found, nobody else's is, and no tenant sees another's."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.tools.records import WritesOfPerson
from app.errors import InvalidInput
from app.governance.decisions import trigger_key
from app.governance.models import Decision, DecisionState
from app.governance.people import (
    ERASED,
    Alias,
    Aliases,
    DecisionsOfPerson,
    Kind,
    alias_of,
    all_aliases,
    batches,
    erased,
    person_mark,
    plain,
)
from app.http.models import IdempotencyKey
from app.http.people import AnswersOnceOfPerson
from app.ids import new_id
from app.integrations.person import LocalIntegrationsOfPerson
from app.packs.chat.models import AnswerFeedback
from app.packs.chat.people import FeedbackOfPerson
from app.packs.claims.models import Claim, Member, Policy
from app.packs.claims.people import MembersOfPerson
from app.packs.leads.models import Lead, LeadMessage, LeadStatus
from app.packs.leads.people import LeadsOfPerson
from app.storage.base import TenantRow
from app.storage.db import Database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TENANTS = ("acme", "rival")
STORES = (
    LeadsOfPerson(),
    MembersOfPerson(),
    FeedbackOfPerson(),
    LocalIntegrationsOfPerson(),
    DecisionsOfPerson(lambda user: user),
    WritesOfPerson(b"secret"),
    AnswersOnceOfPerson(),
)
EMAILS = st.sampled_from(["ana@a.example", "ANA@A.example", "ben@b.example", "family@f.example"])
USERS = st.sampled_from(["u-1", "u-2", "u-3"])
RULES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)


def a_row(model: type[Any], tenant: str, **values: Any) -> Any:
    return model(id=new_id("row"), tenant_id=tenant, created_at=NOW, **values)


def a_lead(tenant: str, email: str) -> list[TenantRow]:
    lead = Lead(
        id=new_id("lead"),
        tenant_id=tenant,
        created_at=NOW,
        updated_at=NOW,
        name="Ana",
        email=email,
        source="web_form",
        attributes={},
        status=LeadStatus.NEW,
    )
    message = a_row(LeadMessage, tenant, lead_id=lead.id, direction="inbound", body="hello")
    kept = a_row(
        IdempotencyKey,
        tenant,
        key=new_id("key"),
        fingerprint="",
        attempt="",
        lease_until=NOW,
        expires_at=NOW,
        status=201,
        body=f'{{"email":"{email}"}}',
    )
    return [lead, message, kept, a_decision(tenant, lead.id)]


def a_decision(tenant: str, subject: str) -> Decision:
    trigger = new_id("msg")
    return Decision(
        id=new_id("dec"),
        tenant_id=tenant,
        created_at=NOW,
        pack="leads",
        subject_id=subject,
        trigger_id=trigger,
        trigger_key=trigger_key(tenant, "leads", trigger),
        action="respond",
        confidence=0.5,
        reason="Asks for a price.",
        state=DecisionState.WAITING_APPROVAL,
        inputs={"message": "hello"},
        answer={"reply": "hello"},
        tool_calls=[{"tool": "x", "effect": "write", "state": "done", "key": "k", "detail": "to ana@a.example"}],
        cost_micros=7,
    )


def a_member(tenant: str, user: str, email: str) -> list[TenantRow]:
    policy = a_row(
        Policy,
        tenant,
        user_id=user,
        number=new_id("HH")[:32],
        product="p",
        currency="EUR",
        starts_on=date(2024, 1, 1),
        limits={},
    )
    claim = a_row(
        Claim,
        tenant,
        user_id=user,
        policy_id=policy.id,
        number=new_id("CL")[:32],
        benefit="dental",
        state="paid",
        amount_claimed=1,
        incurred_on=date(2026, 1, 1),
        updated_at=NOW,
    )
    said = a_row(
        AnswerFeedback,
        tenant,
        decision_id=new_id("dec"),
        bot="docs",
        subject=user,
        helpful=True,
        comment="thanks",
        updated_at=NOW,
    )
    member = a_row(Member, tenant, user_id=user, name="Ana", email=email)
    return [member, policy, claim, said, a_decision(tenant, user)]


async def store(db: Database, rows: list[TenantRow]) -> None:
    async with db.operator_transaction() as session:
        for row in rows:
            session.add(row)
            await session.flush()


async def wipe(db: Database) -> None:
    async with db.operator_transaction() as session:
        for table in reversed(Lead.metadata.sorted_tables):
            await session.execute(table.delete())


async def exported(session: AsyncSession, tenant: str, given_id: str) -> tuple[Aliases, list[dict[str, Any]]]:
    known = await all_aliases(session, tenant, STORES, [alias_of(given_id)])
    return known, [row for kept in STORES for row in await kept.export(session, tenant, known)]


async def everything(session: AsyncSession, tenant: str) -> list[str]:
    """Every row of a tenant, as text."""
    found = []
    for table in Lead.metadata.sorted_tables:
        if "tenant_id" in table.c:
            rows = await session.execute(table.select().where(table.c.tenant_id == tenant))
            found += [f"{table.name} {tuple(row)}" for row in rows]
    return sorted(found)


@RULES
@given(
    leads=st.lists(st.tuples(st.sampled_from(TENANTS), EMAILS), max_size=4),
    members=st.dictionaries(st.tuples(st.sampled_from(TENANTS), USERS), EMAILS, max_size=4),
    asked=st.one_of(EMAILS, USERS),
)
async def test_an_erasure_leaves_nothing_of_the_person_and_all_of_the_others(
    db: Database, leads: list[tuple[str, str]], members: dict[tuple[str, str], str], asked: str
) -> None:
    await wipe(db)
    rows = [row for tenant, email in leads for row in a_lead(tenant, email)]
    rows += [row for (tenant, user), email in members.items() for row in a_member(tenant, user, email)]
    await store(db, rows)
    async with db.operator_reading() as session:
        rival = await everything(session, "rival")
        known, found = await exported(session, "acme", asked)
    people = set(known.of(Kind.EMAIL)) | set(known.of(Kind.USER))
    bystanders = [(user, email) for (tenant, user), email in members.items() if tenant == "acme" and user not in people]
    async with db.operator_transaction() as session:
        counts = [await kept.erase(session, "acme", known) for kept in STORES]
    async with db.operator_reading() as session:
        assert (await exported(session, "acme", asked))[1] == []
        assert await everything(session, "rival") == rival
        for user, _ in bystanders:
            assert {row["user_id"] for row in (await exported(session, "acme", user))[1] if "user_id" in row} == {user}
    assert (sum(counts) > 0) is (len(found) > 0)
    async with db.operator_transaction() as session:
        assert [await kept.erase(session, "acme", known) for kept in STORES] == [0] * len(STORES)


async def test_a_name_leads_over_others_to_every_one_of_them(db: Database) -> None:
    rows = [
        *a_lead("acme", "Ana@A.example"),
        *a_lead("acme", "ana@a.example"),
        *a_member("acme", "u-1", "ANA@a.example"),
    ]
    await store(db, rows)
    async with db.operator_reading() as session:
        known, _ = await exported(session, "acme", "u-1")
    leads = sorted(row.id for row in rows if isinstance(row, Lead))
    assert known.of(Kind.RECORD) == leads
    assert known.of(Kind.EMAIL) == ["ana@a.example"]
    assert known.of(Kind.SUBJECT) == sorted([*leads, "u-1"])
    assert known.of(Kind.DECISION) == sorted(row.id for row in rows if isinstance(row, Decision))


async def test_a_member_leads_to_no_address_that_others_share(db: Database) -> None:
    await store(db, [*a_member("acme", "u-1", "family@f.example"), *a_member("acme", "u-2", "Family@f.example")])
    async with db.operator_reading() as session:
        one, _ = await exported(session, "acme", "u-1")
        both, _ = await exported(session, "acme", "family@f.example")
    assert (one.of(Kind.USER), one.of(Kind.EMAIL)) == (["u-1"], [])
    assert both.of(Kind.USER) == ["u-1", "u-2"]


async def test_an_erased_decision_keeps_its_figures_and_no_word(db: Database) -> None:
    row = a_decision("acme", "u-1")
    await store(db, [row])
    known = Aliases([Alias(Kind.USER, "u-1"), Alias(Kind.SUBJECT, "u-1")])
    async with db.operator_transaction() as session:
        assert await DecisionsOfPerson(lambda user: user).erase(session, "acme", known) == 1
    async with db.operator_reading() as session:
        left = await session.get(Decision, row.id)
    assert left is not None
    assert erased(left)
    assert (left.cost_micros, left.action, left.state) == (7, "respond", DecisionState.DONE)
    assert (left.answer, left.reason, left.tool_calls[0]["detail"]) == (ERASED, "", "")
    assert left.tool_calls[0]["tool"] == "x"
    assert left.subject_id.startswith("erased_")


@pytest.mark.parametrize(
    ("given_id", "alias"),
    [
        (" Ana@A.Example ", Alias(Kind.EMAIL, "ana@a.example")),
        ("u-1", Alias(Kind.USER, "u-1")),
        ("key_0rx88", Alias(Kind.USER, "key_0rx88")),
    ],
)
def test_a_person_is_named_by_an_address_or_a_users_id(given_id: str, alias: Alias) -> None:
    assert alias_of(given_id) == alias


@pytest.mark.parametrize("given_id", ["", "no id", "a/b", "x" * 101])
def test_what_is_neither_is_refused(given_id: str) -> None:
    with pytest.raises(InvalidInput, match="user's id"):
        alias_of(given_id)


def test_a_mark_says_nothing_without_the_secret_and_differs_by_tenant_and_kind() -> None:
    ana = Alias(Kind.EMAIL, "ana@a.example")
    marks = {
        person_mark(b"one", "acme", ana),
        person_mark(b"two", "acme", ana),
        person_mark(b"one", "rival", ana),
        person_mark(b"one", "acme", Alias(Kind.USER, "ana@a.example")),
    }
    assert len(marks) == 4
    assert person_mark(b"one", "acme", ana) in marks
    assert not any("ana" in mark for mark in marks)


def test_batches_hold_every_value_once() -> None:
    values = {f"v{number}" for number in range(1_001)}
    parts = list(batches(values))
    assert [len(part) for part in parts] == [400, 400, 201]
    assert {value for part in parts for value in part} == values


def test_a_row_is_given_out_without_its_tenant_and_with_its_times() -> None:
    row = plain(a_row(Member, "acme", user_id="u-1", name="Ana", email="ana@a.example"))
    assert (row["table"], row["created_at"], row["name"]) == ("claims_members", NOW.isoformat(), "Ana")
    assert "tenant_id" not in row
