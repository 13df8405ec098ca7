"""The background work of allocations: a run allocated again, the queue given what is free."""

from typing import Any, Final

from app.jobs.port import Job, JobContext, QueueSpec, Schedule, StepFailed
from app.pack import Kit
from app.packs.treatments.allocating import REALLOCATE_JOB, Allocations
from app.packs.treatments.models import RunState
from app.packs.treatments.queueing import QueueFiller
from app.packs.treatments.run_rows import RunRepository
from app.packs.treatments.settling import FILL_JOB
from app.packs.treatments.stages import ALLOCATION, RunAsked
from app.principal import worker

QUEUE: Final = "treatments.allocations"
EARLY: Final = "10 0 * * *"
ATTEMPTS: Final = 4
ALLOCATION_S: Final = 1800.0


class AllocationJobs:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._allocations = Allocations(kit)
        self._filler = QueueFiller(kit)

    async def reallocate(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        try:
            note = await context.step(
                "allocate", self._allocated, payload["tenant_id"], payload["run_id"], attempts=ATTEMPTS
            )
        except StepFailed as error:
            ids = (payload["tenant_id"], payload["allocation_id"])
            await context.step("give up", self._allocations.give_up, *ids, error.reason)
            raise
        return {"note": note}

    async def fill(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        """Of one tenant, for the treatments that came free; each morning of all tenants, for all treatments."""
        if "tenant_id" in payload:
            return {"given": await context.step("fill", self._filler.fill, payload["tenant_id"], payload["treatments"])}
        given = 0
        for tenant_id in await context.step("tenants", self._filler.tenants):
            given += await context.step(f"fill {tenant_id}", self._filler.fill, tenant_id)
        return {"given": given}

    async def _allocated(self, tenant_id: str, run_id: str) -> str:
        asked = RunAsked(tenant_id, run_id, worker(tenant_id).actor)
        answer = await self._kit.messenger.ask(ALLOCATION, asked, key=run_id, timeout_s=ALLOCATION_S)
        async with self._kit.ports.db.transaction(tenant_id) as session:
            run = await RunRepository(session, tenant_id).locked(run_id)
            if run is not None and run.state == RunState.DONE:
                run.reason = answer.note  # the one before told of the allocation before
        return answer.note


def allocation_jobs(kit: Kit) -> tuple[tuple[Job, ...], tuple[QueueSpec, ...], tuple[Schedule, ...]]:
    work = AllocationJobs(kit)
    jobs = (Job(REALLOCATE_JOB, QUEUE, work.reallocate), Job(FILL_JOB, QUEUE, work.fill))
    return jobs, (QueueSpec(QUEUE, 2),), (Schedule(f"{FILL_JOB}.daily", EARLY, FILL_JOB),)
