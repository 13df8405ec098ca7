"""The lead agent's background work."""

from typing import Any

from app.governance.models import DecisionState
from app.jobs.port import Job, JobContext, QueueSpec, Schedule, StepFailed
from app.pack import Kit
from app.packs.leads.act import Actor
from app.packs.leads.decide import Decider
from app.packs.leads.follow_up import FollowUps
from app.packs.leads.service import DECIDE_JOB
from app.principal import worker

ACT_JOB = "leads.act"
FOLLOW_UP_JOB = "leads.follow_ups"
QUEUE = "leads"
DECIDE_ATTEMPTS = 3


class LeadJobs:
    """One job decides about one message and carries the decision out: two steps, so that a crash between them
    repeats neither the model's call nor a write."""

    def __init__(self, kit: Kit, decider: Decider, actor: Actor) -> None:
        self._kit = kit
        self._decider = decider
        self._actor = actor
        self._follow_ups = FollowUps(kit)

    async def decide(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        principal = worker(payload["tenant_id"])
        try:
            decision_id = await context.step(
                "decide",
                self._decider.decide,
                principal,
                payload["lead_id"],
                payload["message_id"],
                attempts=DECIDE_ATTEMPTS,
            )
        except StepFailed as error:
            await context.step("fail", self._decider.fail, principal, payload["lead_id"], error.reason)
            raise
        state = await context.step("act", self._actor.act, principal, decision_id)
        return {"decision_id": decision_id, "state": state}

    async def act(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        """Takes up a decision whose waiting write was approved or rejected."""
        principal = worker(payload["tenant_id"])
        state: DecisionState = await context.step("act", self._actor.act, principal, payload["decision_id"])
        return {"decision_id": payload["decision_id"], "state": state}

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
