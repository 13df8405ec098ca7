"""Rows of runs: their customers, chunks and results. Nothing here commits."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, Select, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.packs.treatments.models import ChunkState, Customer, Result, Run, RunChunk, RunMember, RunState
from app.storage.repository import TenantRepository

CHUNK = 100
STRETCH = 20
"""How many of the newest chunks tell how fast a run is now."""
NOT_ENDED = (RunState.QUEUED, RunState.RUNNING, RunState.PAUSED, RunState.ALLOCATING)
ENDED = (RunState.DONE, RunState.CANCELLED, RunState.FAILED)


def is_of(run: Run) -> ColumnElement[bool]:
    """Which customers a run is over: those of its scope that were there when it was made."""
    of_tenant = and_(Customer.tenant_id == run.tenant_id, Customer.created_at <= run.created_at)
    if "segment" in run.scope:
        return and_(of_tenant, Customer.segment == run.scope["segment"])
    if "listed" in run.scope:
        members = select(RunMember.customer_id).where(RunMember.tenant_id == run.tenant_id, RunMember.run_id == run.id)
        return and_(of_tenant, Customer.id.in_(members))
    return of_tenant


def _ids_of(run: Run) -> tuple[Select[Any], Any]:
    """The ids of a run's customers, read along an index that has them in their order."""
    if "listed" in run.scope:
        where = (RunMember.tenant_id == run.tenant_id, RunMember.run_id == run.id)
        return select(RunMember.customer_id).where(*where), RunMember.customer_id
    return select(Customer.id).where(is_of(run)), Customer.id


class RunRepository(TenantRepository[Run]):
    model = Run
    noun = "run"

    async def locked(self, run_id: str) -> Run | None:
        """The run as it is now, kept from others until the transaction ends."""
        query = self.query(Run.id == run_id).with_for_update().execution_options(populate_existing=True)
        row: Run | None = (await self.session.scalars(query)).one_or_none()
        return row

    async def open_before(self, run: Run) -> int:
        """Chunks under way in the tenant's runs that go before this one: of a higher priority, else older."""
        before = or_(Run.priority > run.priority, and_(Run.priority == run.priority, Run.id < run.id))
        of_tenant = (Run.tenant_id == self.tenant_id, Run.state == RunState.RUNNING)
        query = select(func.coalesce(func.sum(Run.chunks_open), 0)).where(*of_tenant, before)
        return int(await self.session.scalar(query) or 0)

    async def under_way(self) -> int:
        """How many runs have not ended."""
        query = select(func.count()).select_from(Run).where(Run.tenant_id == self.tenant_id, Run.state.in_(NOT_ENDED))
        return int(await self.session.scalar(query) or 0)

    async def count(self, run: Run) -> int:
        ids, _ = _ids_of(run)
        return int(await self.session.scalar(select(func.count()).select_from(ids.subquery())) or 0)

    async def next_ids(self, run: Run, after: str, until: str | None = None, limit: int = CHUNK) -> Sequence[str]:
        """The run's customers after `after`, in the order of their ids."""
        ids, column = _ids_of(run)
        upto = [column <= until] if until is not None else []
        query = ids.where(column > after, *upto).order_by(column).limit(limit)
        found: Sequence[str] = (await self.session.scalars(query)).all()
        return found


class ChunkRepository(TenantRepository[RunChunk]):
    model = RunChunk
    noun = "chunk"

    async def waiting(self, run_id: str) -> RunChunk | None:
        """The first of those that were given back."""
        where = self.query(RunChunk.run_id == run_id, RunChunk.state == ChunkState.WAITING)
        row: RunChunk | None = (await self.session.scalars(where.order_by(RunChunk.number).limit(1))).first()
        return row

    async def rate(self, run: Run) -> float | None:
        """Customers a second over the newest chunks since it went on last; None before two of them are done."""
        since = [] if run.active_since is None else [RunChunk.updated_at >= run.active_since]
        newest = self.query(RunChunk.run_id == run.id, RunChunk.state == ChunkState.DONE, *since)
        newest = newest.order_by(RunChunk.number.desc()).limit(STRETCH)
        rows: list[RunChunk] = sorted((await self.session.scalars(newest)).all(), key=lambda chunk: chunk.updated_at)
        took = rows[-1].updated_at - rows[0].updated_at if rows else timedelta()
        return sum(chunk.customers for chunk in rows[1:]) / took.total_seconds() if took else None


class ResultRepository(TenantRepository[Result]):
    model = Result
    noun = "result"

    async def decided(self, run_id: str, ids: Sequence[str]) -> set[str]:
        """Those of the customers who have their result."""
        where = (Result.tenant_id == self.tenant_id, Result.run_id == run_id, Result.customer_id.in_(ids))
        return set((await self.session.scalars(select(Result.customer_id).where(*where))).all())


async def deleted(session: AsyncSession, model: type[Any], *where: ColumnElement[bool]) -> int:
    """Deletes the rows and says how many they were."""
    done = await session.execute(delete(model).where(*where))
    assert isinstance(done, CursorResult)
    return done.rowcount


def worked(run: Run, now: datetime) -> float:
    """Seconds in which the run was at work."""
    return run.worked_s + ((now - run.active_since).total_seconds() if run.active_since else 0.0)
