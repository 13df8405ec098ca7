"""The lead agent's background work."""

from typing import Any

from sqlalchemy import ColumnElement, exists, select

from app.governance.models import Decision
from app.jobs.port import Job, JobContext, QueueSpec, Schedule, StepFailed
from app.pack import Kit
from app.packs.leads.act import Actor
from app.packs.leads.decide import Decider
from app.packs.leads.follow_up import FollowUps
from app.packs.leads.gather import PACK
from app.packs.leads.models import Lead, LeadStatus
from app.packs.leads.service import DECIDE_JOB
from app.principal import Principal, worker

ACT_JOB = "leads.act"
FOLLOW_UP_JOB = "leads.follow_ups"
QUEUE = "leads"
DECIDE_ATTEMPTS = 3
POSTPONED_S = 15
MOST_POSTPONED_S = 300
STOPPED = "stopped"
ERASED = "erased"


class LeadJobs:
    """One job decides about one message and carries the decision out: two steps, so that a crash between them
    repeats neither the model's call nor a write. Where the lead was erased meanwhile, the job just ends."""

    def __init__(self, kit: Kit, decider: Decider, actor: Actor) -> None:
        self._kit = kit
        self._decider = decider
        self._actor = actor
        self._follow_ups = FollowUps(kit)

    async def decide(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        principal = worker(payload["tenant_id"])
        try:
            decision_id: str | None = await context.step(
                "decide",
                self._decided,
                principal,
                payload["lead_id"],
                payload["message_id"],
                attempts=DECIDE_ATTEMPTS,
            )
        except StepFailed as error:
            await context.step("fail", self._decider.fail, principal, payload["lead_id"], error.reason)
            raise
        if decision_id == ERASED:
            return {"decision_id": None, "state": ERASED}
        state = STOPPED if decision_id is None else await context.step("act", self._acted, principal, decision_id)
        if state == STOPPED:
            await context.step("postpone", self._postpone, DECIDE_JOB, payload)
        return {"decision_id": decision_id, "state": state}

    async def act(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        """Takes up a decision whose waiting write was approved or rejected."""
        principal = worker(payload["tenant_id"])
        state = await context.step("act", self._acted, principal, payload["decision_id"])
        if state == STOPPED:
            await context.step("postpone", self._postpone, ACT_JOB, payload)
        return {"decision_id": payload["decision_id"], "state": state}

    async def _decided(self, principal: Principal, lead_id: str, message_id: str) -> str | None:
        """None while a kill switch stops the pack."""
        if self._kit.flags.killed(PACK, principal.tenant_id):
            return None
        try:
            return await self._decider.decide(principal, lead_id, message_id)
        except Exception:
            if await self._erased(principal, Lead.id == lead_id):
                return ERASED
            raise

    async def _acted(self, principal: Principal, decision_id: str) -> str:
        if self._kit.flags.killed(PACK, principal.tenant_id):
            return STOPPED
        try:
            return await self._actor.act(principal, decision_id)
        except Exception:
            decided = select(Decision.subject_id).where(Decision.id == decision_id)
            if await self._erased(principal, Lead.id == decided.scalar_subquery()):
                return ERASED
            raise

    async def _erased(self, principal: Principal, which: ColumnElement[bool]) -> bool:
        gone = exists().where(Lead.tenant_id == principal.tenant_id, Lead.status == LeadStatus.ERASED, which)
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            return bool(await session.scalar(select(gone)))

    async def _postpone(self, job: str, payload: dict[str, Any]) -> str:
        """Queues the same work for later, so that what a kill switch stopped goes on when it is off again."""
        later = {**payload, "round": payload.get("round", 0) + 1}
        subject = payload.get("message_id") or payload["decision_id"]
        job_id = f"{job}:{subject}:{later['round']}"
        async with self._kit.ports.db.transaction(payload["tenant_id"]) as session:
            await self._kit.jobs.enqueue(session, job, later, job_id=job_id, delay_s=_wait_s(later["round"]))
        return job_id

    async def follow_up(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        return {"queued": await context.step("queue", self._follow_ups.queue_due)}

    def declared(self) -> tuple[tuple[Job, ...], tuple[QueueSpec, ...], tuple[Schedule, ...]]:
        jobs = (
            Job(DECIDE_JOB, QUEUE, self.decide),
            Job(ACT_JOB, QUEUE, self.act),
            Job(FOLLOW_UP_JOB, QUEUE, self.follow_up),
        )
        queues = (QueueSpec(QUEUE, self._kit.settings.worker_concurrency),)
        return jobs, queues, (Schedule("leads.follow_ups.hourly", "7 * * * *", FOLLOW_UP_JOB),)


def _wait_s(rounds: int) -> float:
    """Longer each time, so that a switch which stays on for days does not fill the queue's history."""
    return float(min(MOST_POSTPONED_S, POSTPONED_S * 2 ** (rounds - 1)))
