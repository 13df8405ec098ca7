"""What one lead's rows promise: one decision a message, a history up to it, one chain of audit for a batch."""

import asyncio

import pytest
from sqlalchemy import event, func, select

from app.errors import NotFound
from app.governance.audit import verify
from app.governance.models import AuditEntry, Decision
from app.ids import new_id
from app.knowledge.language import LanguageGuess
from app.packs.leads.act import Actor
from app.packs.leads.decide import Decider
from app.packs.leads.enrich import Enricher
from app.packs.leads.gather import Gatherer
from app.packs.leads.lexicon import Lexicon
from app.packs.leads.models import Direction, LeadMessage
from app.packs.leads.repository import LeadRepository, MessageRepository
from app.packs.leads.schemas import LeadIn
from app.packs.leads.scores import Scorer
from app.packs.leads.scoring.rules import lead_rules
from app.packs.leads.service import LeadService
from app.principal import Principal, Role, worker
from tests.support.service import TENANT, lead, running

AGENT = Principal(TENANT, "test", Role.AGENT)
WORKER = worker(TENANT)


@pytest.fixture
async def service(tmp_path):
    async with running(tmp_path, worker=False) as made:
        yield made


@pytest.fixture
def decider(service) -> Decider:
    kit = service.container.kit
    enricher = Enricher(Lexicon.load(), LanguageGuess.load(), kit.settings.calendar_time_zone)
    return Decider(kit, Gatherer(kit, Scorer(kit, lead_rules()), enricher))


async def store(service, *bodies: LeadIn) -> list[tuple[str, str]]:
    """The ids of the leads and of their first messages."""
    async with service.container.db.operator_transaction() as session:
        ids, _ = await LeadService(service.container.kit).create_many(session, AGENT, bodies)
    async with service.container.db.operator_reading() as session:
        query = select(LeadMessage.lead_id, LeadMessage.id).where(LeadMessage.lead_id.in_(ids)).order_by(LeadMessage.id)
        return [tuple(row) for row in await session.execute(query)]


def bodies(count: int) -> list[LeadIn]:
    return [LeadIn.model_validate(lead(email=f"ada{number}@example.org")) for number in range(count)]


async def test_two_decisions_at_the_same_moment_are_one(service, decider):
    [(lead_id, message_id)] = await store(service, *bodies(1))
    ids = await asyncio.gather(*(decider.decide(WORKER, lead_id, message_id) for _ in range(4)))
    assert len(set(ids)) == 1
    async with service.container.db.operator_reading() as session:
        assert await session.scalar(select(func.count()).select_from(Decision)) == 1
        made = select(func.count()).select_from(AuditEntry).where(AuditEntry.action == "decision.made")
        assert await session.scalar(made) == 1


async def test_a_message_of_another_lead_is_not_decided_upon(service, decider):
    (first, _), (_, message_of_second) = await store(service, *bodies(2))
    with pytest.raises(NotFound, match="no message"):
        await decider.decide(WORKER, first, message_of_second)


async def test_the_history_ends_at_the_message_however_many_follow(service):
    [(lead_id, first)] = await store(service, *bodies(1))
    async with service.container.db.operator_transaction() as session:
        messages = MessageRepository(session, TENANT)
        later = [
            messages.write(lead_id, Direction.INBOUND, f"More {n}", None, service.container.clock()) for n in range(9)
        ]
        await session.flush()
        assert [m.id for m in await messages.up_to(lead_id, later[4].id, 3)] == [m.id for m in later[2:5]]
        assert [m.id for m in await messages.up_to(lead_id, first, 3)] == [first]
        with pytest.raises(NotFound):
            await MessageRepository(session, "rival").up_to(lead_id, first, 3)


async def test_a_lead_that_is_gone_takes_its_decision_with_it(service, decider):
    [(lead_id, _)] = await store(service, *bodies(1))
    async with service.container.db.operator_transaction() as session:
        leads = LeadRepository(session, TENANT)
        await leads.scored(lead_id, 0.25, service.container.clock())
        assert (await leads.get(lead_id)).score == 0.25
        for tenant, known in (("rival", lead_id), (TENANT, new_id("lead"))):
            with pytest.raises(NotFound):
                await LeadRepository(session, tenant).scored(known, 0.5, service.container.clock())


async def test_a_decision_is_carried_out_for_its_own_tenant_only(service, decider):
    [(lead_id, message_id)] = await store(service, *bodies(1))
    decision_id = await decider.decide(WORKER, lead_id, message_id)
    with pytest.raises(NotFound):
        await Actor(service.container.kit).act(worker("rival"), decision_id)


async def test_a_batch_has_one_entry_of_audit_a_lead_in_an_unbroken_chain(service):
    stored = await store(service, *bodies(7))
    async with service.container.db.operator_reading() as session:
        query = select(AuditEntry.subject).where(AuditEntry.action == "lead.created").order_by(AuditEntry.seq)
        assert list(await session.scalars(query)) == [lead_id for lead_id, _ in stored]
        assert (await verify(session, TENANT)).ok


async def test_a_batch_of_leads_takes_two_statements_a_lead_and_a_dozen_in_all(service):
    seen: list[str] = []
    engine = service.container.db.writer.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *call: seen.append(call[2]))
    await store(service, *bodies(20))
    assert len(seen) <= 2 * 20 + 12
