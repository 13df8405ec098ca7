"""Collects what one decision rests on: the record, the policy, the arm, the score, the evidence, the free slots."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.experiments import Arm, assign
from app.governance.policies import PolicyRepository
from app.integrations.errors import IntegrationError
from app.knowledge.base import Passage
from app.pack import Kit
from app.packs.leads.enrich import Enrich
from app.packs.leads.facts import (
    DecisionInputs,
    Enrichment,
    LeadFacts,
    PassageFacts,
    SlotFacts,
    Thresholds,
    Turn,
)
from app.packs.leads.models import Lead, LeadMessage
from app.packs.leads.repository import LeadRepository, MessageRepository
from app.packs.leads.scores import Scorer
from app.packs.leads.screening import orders_in
from app.packs.leads.tools import BOT, free_slots
from app.principal import Principal

PACK = "leads"
HISTORY = 10
EVIDENCE = 5
QUERY_CHARACTERS = 1_000
BUILT_IN = 0


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arm of a running experiment that the lead falls into."""

    experiment: str
    arm: Arm


@dataclass(frozen=True, slots=True)
class Gathered:
    """The inputs, and under which versions they were read."""

    lead: Lead
    message: LeadMessage
    inputs: DecisionInputs
    policy_version: int
    assignment: Assignment | None


@dataclass(frozen=True, slots=True)
class Read:
    """What the database knows of one message."""

    lead: Lead
    message: LeadMessage
    history: tuple[Turn, ...]
    assignment: Assignment | None
    policy_version: int
    thresholds: Thresholds


class Gatherer:
    """Reads in the caller's short session, then works without one."""

    def __init__(self, kit: Kit, scorer: Scorer, enrich: Enrich) -> None:
        self._kit = kit
        self._scorer = scorer
        self._enrich = enrich

    async def gather(self, principal: Principal, read: Read) -> Gathered:
        enrichment = self._enrich(
            message=read.message.body, email=read.lead.email, language=read.lead.language, now=self._kit.ports.clock()
        )
        score = await self._scorer.score(principal.tenant_id, read.lead, enrichment)
        inputs = DecisionInputs(
            lead=lead_facts(read.lead),
            message=read.message.body,
            history=read.history,
            enrichment=enrichment,
            score=score,
            passages=tuple(map(passage_facts, await self._evidence(principal, read.message.body))),
            slots=await self._slots(principal, enrichment),
            thresholds=read.thresholds,
            findings=await orders_in(read.message.body, lead_facts(read.lead), read.history),
            today=self._kit.ports.clock().date(),
        )
        return Gathered(read.lead, read.message, inputs, read.policy_version, read.assignment)

    async def read(self, session: AsyncSession, principal: Principal, lead_id: str, message_id: str) -> Read:
        """Raises NotFound for a lead or message that is not the tenant's, or a message that is not the lead's."""
        tenant = principal.tenant_id
        lead = await LeadRepository(session, tenant).get(lead_id)
        *earlier, message = await MessageRepository(session, tenant).up_to(lead_id, message_id, HISTORY + 1)
        running = await self._kit.experiments.active(session, tenant, PACK)
        assignment = Assignment(running.name, assign(running, lead_id)) if running else None
        wanted = assignment.arm.policy_version if assignment else None
        version, thresholds = await policy_in_force(session, tenant, wanted)
        turns = tuple(Turn(direction=m.direction, body=m.body) for m in earlier)
        return Read(lead, message, turns, assignment, version, thresholds)

    async def _evidence(self, principal: Principal, message: str) -> list[Passage]:
        found = await self._kit.ports.retriever.search(
            principal.tenant_id, BOT, message[:QUERY_CHARACTERS], limit=EVIDENCE
        )
        return list(found)

    async def _slots(self, principal: Principal, enrichment: Enrichment) -> tuple[SlotFacts, ...]:
        """Free slots where the message speaks of meeting; none where the calendar does not answer."""
        if not enrichment.has("wants_meeting"):
            return ()
        ports = self._kit.ports
        try:
            slots = await free_slots(ports.calendar, principal.tenant_id, ports.clock())
        except IntegrationError:
            return ()
        return tuple(SlotFacts(start=slot.start, end=slot.end) for slot in slots)


async def policy_in_force(session: AsyncSession, tenant_id: str, wanted: int | None = None) -> tuple[int, Thresholds]:
    """The version that an experiment's arm wants, else the active one, else the built-in thresholds as version 0."""
    policies = PolicyRepository(session, tenant_id)
    policy = await policies.version(PACK, wanted) if wanted is not None else await policies.active(PACK)
    return (policy.version, Thresholds.model_validate(policy.thresholds)) if policy else (BUILT_IN, Thresholds())


def lead_facts(lead: Lead) -> LeadFacts:
    return LeadFacts(
        name=lead.name,
        company=lead.company,
        language=lead.language,
        country=lead.country,
        source=lead.source,
        attributes=lead.attributes,
    )


def passage_facts(passage: Passage) -> PassageFacts:
    return PassageFacts(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        title=passage.title,
        text=passage.text,
        score=passage.score,
        slug=passage.slug,
        weak=passage.weak,
    )
