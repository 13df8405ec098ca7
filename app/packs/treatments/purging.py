"""Each night: runs that ended long ago go with all that they left, and answers of the model that no result names."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, cast

import structlog
from sqlalchemy import ColumnElement, and_, exists, or_, select, union

from app.jobs.engine import MAINTENANCE_QUEUE
from app.jobs.port import Job, JobContext, Schedule, StepFailed
from app.pack import Kit
from app.packs.treatments.catalogue import CatalogueRepository, content_of
from app.packs.treatments.customer_limits import LIVE
from app.packs.treatments.keeping import kept_since
from app.packs.treatments.lanes import PACK
from app.packs.treatments.models import Allocation, ModelAnswer, Reservation, Result, Run, RunChunk, RunMember
from app.packs.treatments.run_rows import ENDED, deleted
from app.principal import worker

PURGE_JOB: Final = "treatments.purge"
NIGHTLY: Final = "41 3 * * *"
BATCH: Final = 1_000
"""Rows that one transaction deletes."""
MOST_RUNS: Final = 500
"""Of one tenant a night."""
_LEFT: Final = (Result, RunMember, RunChunk, Allocation, Reservation)
_Place = tuple[datetime, str]
_FIRST: Final[_Place] = (datetime.min.replace(tzinfo=UTC), "")
log = structlog.get_logger(__name__)


class Purge:
    """Every batch is a transaction of its own that looks again whether the run may go. The rows of the runs go last,
    with the audit entry that counts them: a crash before leaves them for the next time, one after leaves nothing."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._db = kit.ports.db

    async def job(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        """A step a tenant; one of whom it cannot be done keeps nobody else's from being done."""
        runs = answers = failed = 0
        for tenant_id in await context.step("tenants", self.tenants):
            try:
                done = await context.step(f"purge {tenant_id}", self.tenant, tenant_id)
            except StepFailed:
                failed += 1
            else:
                runs, answers = runs + done["runs"], answers + done["answers"]
        return {"runs": runs, "answers": answers, "tenants_failed": failed}

    async def tenants(self) -> list[str]:
        """Those who have something that old."""
        since = kept_since(self._kit)
        runs = select(Run.tenant_id).where(Run.state.in_(ENDED), Run.finished_at < since)
        found = union(runs, select(ModelAnswer.tenant_id).where(ModelAnswer.created_at < since))
        async with self._db.operator_reading() as session:
            return sorted(await session.scalars(found))

    async def tenant(self, tenant_id: str) -> dict[str, int]:
        """How many `runs` and `answers` were deleted."""
        over = await self._over(tenant_id)
        async with self._db.reading(tenant_id) as session:
            found = (await session.scalars(select(Run.id).where(*over).order_by(Run.id).limit(MOST_RUNS))).all()
        for run_id in found:
            for left in _LEFT:
                while await self._batch(run_id, left, over) == BATCH:
                    pass
        runs, answers = await self._rows(tenant_id, found, over), await self._answers(tenant_id)
        log.info("treatments_purged", tenant=tenant_id, runs=runs, answers=answers)
        return {"runs": runs, "answers": answers}

    async def _over(self, tenant_id: str) -> Sequence[ColumnElement[bool]]:
        """Which runs may go: ended long ago, and nothing that they gave counts any more."""
        counting = exists().where(
            Reservation.tenant_id == tenant_id, Reservation.run_id == Run.id, _counts(await self._first_day(tenant_id))
        )
        of_tenant = (Run.tenant_id == tenant_id, Run.state.in_(ENDED))
        return (*of_tenant, Run.finished_at < kept_since(self._kit), ~counting)

    async def _first_day(self, tenant_id: str) -> date:
        """From when on a reservation counts: from today, or as long ago as a customer has to wait for another."""
        async with self._db.reading(tenant_id) as session:
            row = await CatalogueRepository(session, tenant_id).newest()
        treatments = content_of(row).treatments if row is not None else ()
        longest = max((treatment.cooldown_days for treatment in treatments), default=0)
        return self._kit.ports.clock().date() - timedelta(days=longest)

    async def _batch(self, run_id: str, left: type[Any], over: Sequence[ColumnElement[bool]]) -> int:
        async with self._db.operator_transaction() as session:
            # Whoever takes the run up again holds its row, too.
            run = (await session.scalars(select(Run).where(Run.id == run_id, *over).with_for_update())).one_or_none()
            if run is None:
                return 0
            of_run = select(left.id).where(left.tenant_id == run.tenant_id, left.run_id == run_id)
            return await deleted(session, left, left.id.in_(of_run.limit(BATCH)))

    async def _rows(self, tenant_id: str, run_ids: Sequence[str], over: Sequence[ColumnElement[bool]]) -> int:
        async with self._db.transaction(tenant_id) as session:
            runs = await deleted(session, Run, Run.id.in_(run_ids), *over)
            if runs:
                about = {"runs": runs, "ended_before": kept_since(self._kit).isoformat()}
                await self._kit.audit.record(session, worker(tenant_id), "treatments.runs_purged", PACK, about)
            return runs

    async def _answers(self, tenant_id: str) -> int:
        """A customer who is decided by one in this very moment keeps the decision, without what the model said."""
        gone, last = 0, cast(_Place | None, _FIRST)
        while last is not None:
            count, last = await self._answers_after(tenant_id, *last)
            gone += count
        return gone

    async def _answers_after(self, tenant_id: str, at: datetime, answer_id: str) -> tuple[int, _Place | None]:
        """How many went of the next old ones, and the last that was looked at: None at the end."""
        after = or_(ModelAnswer.created_at > at, and_(ModelAnswer.created_at == at, ModelAnswer.id > answer_id))
        old = select(ModelAnswer.created_at, ModelAnswer.id).where(
            ModelAnswer.tenant_id == tenant_id, ModelAnswer.created_at < kept_since(self._kit), after
        )
        named = exists().where(Result.tenant_id == tenant_id, Result.answer_id == ModelAnswer.id)
        async with self._db.transaction(tenant_id) as session:
            rows = (await session.execute(old.order_by(ModelAnswer.created_at, ModelAnswer.id).limit(BATCH))).all()
            gone = await deleted(session, ModelAnswer, ModelAnswer.id.in_([row.id for row in rows]), ~named)
        return gone, (rows[-1].created_at, rows[-1].id) if len(rows) == BATCH else None


def purge_job(kit: Kit) -> tuple[Job, Schedule]:
    return Job(PURGE_JOB, MAINTENANCE_QUEUE, Purge(kit).job), Schedule(PURGE_JOB, NIGHTLY, PURGE_JOB)


def _counts(first_day: date) -> ColumnElement[bool]:
    return and_(Reservation.state.in_(LIVE), Reservation.day >= first_day)
