"""Each minute: runs whose time has come go on, chunks whose job is gone get another one."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.jobs.port import JobState
from app.pack import Kit
from app.packs.treatments.lanes import CHUNK_JOB, Lanes, allocate_id, chunk_id, start_id
from app.packs.treatments.models import ChunkState, Run, RunChunk, RunState
from app.packs.treatments.run_rows import ChunkRepository, RunRepository

AT_ONCE: Final = 500
EVALUATED_FOR: Final = timedelta(days=60)
MOST_EVALUATED: Final = 20
"""Runs of one tenant."""
GIVEN_UP: Final = "The work on this customer failed each time, also alone."
_ALIVE = (JobState.QUEUED, JobState.RUNNING)
_MOVING = (RunState.QUEUED, RunState.RUNNING, RunState.ALLOCATING)
log = structlog.get_logger(__name__)


class Sweep:
    def __init__(self, kit: Kit, lanes: Lanes) -> None:
        self._kit = kit
        self._db = kit.ports.db
        self._lanes = lanes

    async def all(self) -> int:
        """Over every tenant's runs that have not ended; how many of them were mended or went on."""
        mended, after = 0, ""
        while True:
            found = await self._to_look_at(after)
            mended += sum([await self._looked_at(tenant_id, run_id) for tenant_id, run_id in found])
            if len(found) < AT_ONCE:
                return mended
            after = found[-1][1]

    async def _to_look_at(self, after: str) -> Sequence[tuple[str, str]]:
        """Tenant and id of runs with an id after this one. One that is paused until a person says so is none."""
        due = and_(Run.state == RunState.PAUSED, Run.resume_at <= self._kit.ports.clock())
        which = select(Run.tenant_id, Run.id).where(or_(Run.state.in_(_MOVING), due), Run.id > after)
        async with self._db.operator_reading() as session:
            return [(row[0], row[1]) for row in await session.execute(which.order_by(Run.id).limit(AT_ONCE))]

    async def _looked_at(self, tenant_id: str, run_id: str) -> bool:
        """A run that cannot be looked at keeps nobody from looking at the others."""
        try:
            return await self._one(tenant_id, run_id)
        except Exception:
            log.warning("treatments_run_not_swept", run_id=run_id, exc_info=True)
            return False

    async def lately_done(self) -> Sequence[Run]:
        """Of every tenant, the newest runs that ended in the last 60 days."""
        since = self._kit.ports.clock() - EVALUATED_FOR
        place = func.row_number().over(partition_by=Run.tenant_id, order_by=Run.id.desc())
        done = select(Run.id, place.label("place")).where(Run.state == RunState.DONE, Run.finished_at >= since)
        newest = done.subquery()
        wanted = select(Run).join(newest, newest.c.id == Run.id).where(newest.c.place <= MOST_EVALUATED)
        async with self._db.operator_reading() as session:
            return (await session.scalars(wanted.order_by(Run.id.desc()))).all()

    async def _one(self, tenant_id: str, run_id: str) -> bool:
        # Looked up outside the transaction, which holds the writer.
        gone = await self._gone(tenant_id, run_id)
        async with self._db.transaction(tenant_id) as session:
            run = await RunRepository(session, tenant_id).locked(run_id)
            if run is None:
                return False
            if run.state == RunState.PAUSED:
                return await self._goes_on(session, run)
            if run.state == RunState.RUNNING:
                return await self._mended(session, run, gone)
            if run.state == RunState.QUEUED and start_id(run) in gone:
                await self._lanes.queue(session, run)
                return True
            if run.state == RunState.ALLOCATING and allocate_id(run) in gone:
                self._lanes.move(run, RunState.FAILED, "The allocation ended without a result: resume the run.")
                return True
            return False

    async def _goes_on(self, session: AsyncSession, run: Run) -> bool:
        now = self._kit.ports.clock()
        if run.resume_at is None or run.resume_at > now:
            return False
        await self._lanes.queue(session, run)
        return True

    async def _mended(self, session: AsyncSession, run: Run, gone: dict[str, JobState | None]) -> bool:
        """Gives chunks without a job a new one: alone where the job failed, given up where it failed alone too."""
        chunks = await ChunkRepository(session, run.tenant_id).all(
            RunChunk.run_id == run.id, RunChunk.state == ChunkState.OPEN
        )
        lost = [chunk for chunk in chunks if chunk_id(chunk) in gone]
        for chunk in lost:
            failed = gone[chunk_id(chunk)] == JobState.FAILED
            if failed and chunk.alone:
                chunk.tries += 1
                more = {"chunk_id": chunk.id, "give_up": chunk.error or GIVEN_UP}
                await self._lanes.enqueue(session, run, CHUNK_JOB, chunk_id(chunk), more)
            else:
                chunk.alone = chunk.alone or failed
                await self._lanes.take_up(session, run, chunk)
        before = run.chunks_open
        await self._lanes.fill(session, run)
        return bool(lost) or run.chunks_open != before

    async def _gone(self, tenant_id: str, run_id: str) -> dict[str, JobState | None]:
        """The jobs that the run waits for and that will not come: how each ended, None for one that is not known."""
        async with self._db.reading(tenant_id) as session:
            run = await RunRepository(session, tenant_id).get(run_id)
            where = (RunChunk.run_id == run_id, RunChunk.state == ChunkState.OPEN)
            chunks = await ChunkRepository(session, tenant_id).all(*where)
        wanted = [chunk_id(chunk) for chunk in chunks] + [start_id(run), allocate_id(run)]
        states = await self._kit.jobs.states(wanted)
        return {job_id: states.get(job_id) for job_id in wanted if states.get(job_id) not in _ALIVE}
