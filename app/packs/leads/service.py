"""What can be done with leads. Every method works inside the caller's transaction and never commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, InvalidInput
from app.governance.decisions import DecisionRepository
from app.governance.models import Decision
from app.ids import new_id
from app.pack import Kit
from app.packs.leads.business import SATISFIED, right
from app.packs.leads.gather import PACK
from app.packs.leads.models import Direction, Lead, LeadFeedback, LeadMessage, LeadOutcome, LeadStatus
from app.packs.leads.repository import (
    EventRepository,
    FeedbackRepository,
    LeadRepository,
    MessageRepository,
    OutcomeRepository,
)
from app.packs.leads.schemas import (
    EventOut,
    FeedbackIn,
    FeedbackOut,
    LeadAccepted,
    LeadCounts,
    LeadDetail,
    LeadIn,
    LeadOut,
    LeadPage,
    MessageAccepted,
    MessageIn,
    MessageOut,
    OutcomeIn,
    OutcomeOut,
)
from app.principal import Principal, Role
from app.storage.base import micros

DECIDE_JOB = "leads.decide"
STATUS_OF_OUTCOME = {"converted": LeadStatus.CONVERTED, "lost": LeadStatus.LOST}
DETAIL_LIMIT = 500


@dataclass(frozen=True, slots=True)
class LeadFilter:
    status: LeadStatus | None = None
    source: str | None = None
    email: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """One for each filter that is set."""
        column_of = {"status": Lead.status, "source": Lead.source, "email": Lead.email}
        found = [column == value for name, column in column_of.items() if (value := getattr(self, name)) is not None]
        if self.created_after is not None:
            found.append(Lead.created_at >= self.created_after)
        if self.created_before is not None:
            found.append(Lead.created_at < self.created_before)
        return found


class LeadService:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def create(self, session: AsyncSession, principal: Principal, body: LeadIn) -> LeadAccepted:
        """Stores the lead and its first message and queues the decision. Raises Conflict for a known external_id."""
        principal.require(Role.AGENT)
        leads = LeadRepository(session, principal.tenant_id)
        if body.external_id is not None and await leads.by_external_id(body.external_id) is not None:
            raise Conflict(f"A lead with external_id '{body.external_id[:80]}' is stored already: send it a message.")
        return (await self._store(session, principal, [body]))[0]

    async def create_many(
        self, session: AsyncSession, principal: Principal, bodies: Sequence[LeadIn]
    ) -> tuple[list[str], int]:
        """Stores those that are new. Returns the ids of the new leads and the number of known ones."""
        principal.require(Role.AGENT)
        wanted = [body.external_id for body in bodies if body.external_id is not None]
        known = set(await LeadRepository(session, principal.tenant_id).known(wanted))
        new = []
        for body in bodies:
            if body.external_id is None or body.external_id not in known:
                new.append(body)
                known.update(filter(None, [body.external_id]))
        accepted = await self._store(session, principal, new)
        return [one.lead.id for one in accepted], len(bodies) - len(new)

    async def _store(self, session: AsyncSession, principal: Principal, bodies: Sequence[LeadIn]) -> list[LeadAccepted]:
        now, tenant = self._kit.ports.clock(), principal.tenant_id
        rows = LeadRepository(session, tenant)
        leads = [rows.add(_new_lead(body, now)) for body in bodies]
        try:
            await session.flush()
        except IntegrityError as error:
            # Two requests brought the same one at once: the look before saw neither.
            raise Conflict(
                "One of these external_ids was stored this moment by another request: send again."
            ) from error
        first = [self._first_contact(session, lead, body) for lead, body in zip(leads, bodies, strict=True)]
        await session.flush()
        queued = [await self._queue(session, principal, message) for message in first]
        created = [(lead.id, {"source": lead.source}) for lead in leads]
        await self._kit.audit.record_all(session, principal, "lead.created", created)
        return [_accepted(lead, what) for lead, what in zip(leads, queued, strict=True)]

    def _first_contact(self, session: AsyncSession, lead: Lead, body: LeadIn) -> LeadMessage:
        now, events = lead.created_at, EventRepository(session, lead.tenant_id)
        events.write(lead.id, "received", f"First contact by {lead.source}", now)
        self._kit.metrics.leads_received.labels(source=lead.source).inc()
        messages = MessageRepository(session, lead.tenant_id)
        return messages.write(lead.id, Direction.INBOUND, body.message, None, now)

    async def decide_again(self, session: AsyncSession, principal: Principal) -> int:
        """Queues leads that no model could decide, at most 1,000. Returns how many."""
        principal.require(Role.ADMIN)
        leads = LeadRepository(session, principal.tenant_id)
        messages = MessageRepository(session, principal.tenant_id)
        undecided = await leads.undecided(PACK, limit=1_000)
        for lead in undecided:
            lead.status, lead.updated_at = LeadStatus.NEW, self._kit.ports.clock()
            [message] = await messages.last(lead.id, 1)
            await self._queue(session, principal, message, again=new_id("again"))
        await self._kit.audit.record(session, principal, "lead.decide_again", PACK, {"leads": len(undecided)})
        return len(undecided)

    async def add_message(
        self, session: AsyncSession, principal: Principal, lead_id: str, body: MessageIn
    ) -> MessageAccepted:
        """A further message of the lead: stored, and decided upon."""
        principal.require(Role.AGENT)
        lead = await LeadRepository(session, principal.tenant_id).take(lead_id)
        lead.updated_at = now = self._kit.ports.clock()
        lead.follow_up_at = None
        messages = MessageRepository(session, principal.tenant_id)
        message = messages.write(lead.id, Direction.INBOUND, body.body, body.subject, now)
        accepted = await self._queue(session, principal, message)
        await self._kit.audit.record(session, principal, "lead.wrote", lead.id, {"message": message.id})
        return accepted

    async def _queue(
        self, session: AsyncSession, principal: Principal, message: LeadMessage, again: str = ""
    ) -> MessageAccepted:
        """The decision upon the message, as a job that runs once the transaction is committed.

        A message has one job; `again` names a further one, for a message whose job failed.
        """
        job_id = f"{DECIDE_JOB}:{again or message.id}"
        payload = {"tenant_id": principal.tenant_id, "lead_id": message.lead_id, "message_id": message.id}
        await self._kit.jobs.enqueue(session, DECIDE_JOB, payload, job_id=job_id)
        return MessageAccepted(lead_id=message.lead_id, message_id=message.id, job_id=job_id)

    async def page(
        self, session: AsyncSession, principal: Principal, wanted: LeadFilter, cursor: str | None, limit: int
    ) -> LeadPage:
        found = await LeadRepository(session, principal.tenant_id).page(
            *wanted.conditions(), cursor=cursor, limit=limit
        )
        items = [LeadOut.model_validate(lead) for lead in found.items]
        return LeadPage(items=items, next_cursor=found.next_cursor)

    async def counts(self, session: AsyncSession, principal: Principal) -> LeadCounts:
        """How many leads stand where; those that are `new` wait for their first decision."""
        found = await LeadRepository(session, principal.tenant_id).count_by_status()
        return LeadCounts(total=sum(found.values()), by_status={s: found.get(s, 0) for s in LeadStatus})

    async def detail(self, session: AsyncSession, principal: Principal, lead_id: str) -> LeadDetail:
        tenant = principal.tenant_id
        lead = await LeadRepository(session, tenant).get(lead_id)
        messages = await MessageRepository(session, tenant).last(lead_id, DETAIL_LIMIT)
        events = await EventRepository(session, tenant).of_lead(lead_id, DETAIL_LIMIT)
        decisions = await DecisionRepository(session, tenant).of_subject(PACK, lead_id)
        return LeadDetail(
            **LeadOut.model_validate(lead).model_dump(),
            messages=[MessageOut.model_validate(message) for message in messages],
            timeline=[EventOut.model_validate(event) for event in events],
            decisions=[decision.id for decision in decisions],
        )

    async def record_outcome(
        self, session: AsyncSession, principal: Principal, lead_id: str, body: OutcomeIn
    ) -> OutcomeOut:
        """What became of the lead; a later outcome replaces it in every figure, and both are kept."""
        principal.require(Role.AGENT)
        now = self._kit.ports.clock()
        lead = await LeadRepository(session, principal.tenant_id).take(lead_id)
        row = LeadOutcome(
            id=new_id("out"),
            created_at=now,
            lead_id=lead.id,
            kind=body.kind,
            value_micros=micros(body.value_usd),
            note=body.note,
        )
        OutcomeRepository(session, principal.tenant_id).add(row)
        lead.status, lead.updated_at = STATUS_OF_OUTCOME[body.kind], now
        events = EventRepository(session, principal.tenant_id)
        events.write(lead.id, "outcome", f"Outcome: {body.kind}", now, value_usd=body.value_usd)
        await self._kit.audit.record(session, principal, "lead.outcome", lead.id, {"kind": body.kind})
        self._kit.metrics.lead_outcomes.labels(kind=body.kind).inc()
        return OutcomeOut(id=row.id, lead_id=lead.id, kind=body.kind, value_usd=body.value_usd, created_at=now)

    async def record_feedback(
        self, session: AsyncSession, principal: Principal, lead_id: str, body: FeedbackIn
    ) -> FeedbackOut:
        """A person's judgement of a decision: of the named one, else of the lead's latest."""
        principal.require(Role.AGENT)
        now = self._kit.ports.clock()
        await LeadRepository(session, principal.tenant_id).get(lead_id)
        decision = await self._judged(session, principal, lead_id, body)
        row = LeadFeedback(
            id=new_id("fbk"),
            created_at=now,
            lead_id=lead_id,
            given_by=principal.actor,
            **body.model_dump(exclude={"decision_id"}) | {"decision_id": decision.id},
        )
        FeedbackRepository(session, principal.tenant_id).add(row)
        events = EventRepository(session, principal.tenant_id)
        events.write(lead_id, "feedback", "A person judged the decision", now, decision_id=decision.id)
        await self._kit.audit.record(session, principal, "decision.feedback", decision.id, {"feedback": row.id})
        self._count(body, decision.action)
        return FeedbackOut(id=row.id, lead_id=lead_id, decision_id=decision.id)

    def _count(self, body: FeedbackIn, action: str) -> None:
        metrics, found_right = self._kit.metrics, right(body.correct_action, body.thumb, action)
        if found_right is not None:
            metrics.decision_reviews.labels(PACK, "right" if found_right else "wrong").inc()
        if body.csat is not None:
            metrics.answer_feedback.labels(PACK, str(body.csat >= SATISFIED).lower()).inc()
        if body.escalation_necessary is not None:
            metrics.escalations.labels(necessary=str(body.escalation_necessary).lower()).inc()

    async def _judged(self, session: AsyncSession, principal: Principal, lead_id: str, body: FeedbackIn) -> Decision:
        decisions = await DecisionRepository(session, principal.tenant_id).of_subject(PACK, lead_id)
        if not decisions:
            raise Conflict("This lead has no decision yet to be judged: wait until it is decided.")
        if body.decision_id is None:
            return decisions[-1]
        named = next((decision for decision in decisions if decision.id == body.decision_id), None)
        if named is None:
            raise InvalidInput(f"'decision_id' names no decision of this lead: '{body.decision_id[:80]}'.")
        return named


def _new_lead(body: LeadIn, now: datetime) -> Lead:
    fields = body.model_dump(exclude={"message"})
    return Lead(id=new_id("lead"), status=LeadStatus.NEW, created_at=now, updated_at=now, **fields)


def _accepted(lead: Lead, queued: MessageAccepted) -> LeadAccepted:
    return LeadAccepted(lead=LeadOut.model_validate(lead), message_id=queued.message_id, job_id=queued.job_id)
