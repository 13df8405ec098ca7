"""The lanes of a run: how many chunks are under way, and what is taken up next.

Every method works inside the caller's transaction, which holds the run's row (`RunRepository.locked`). A chunk that
ends takes the next one in the same transaction, so there are never more open chunks than lanes: that is all the
back-pressure there is, and a crash leaves no lane without its chunk.
"""

from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Unavailable
from app.ids import new_id
from app.pack import Kit
from app.packs.treatments.models import ChunkState, Run, RunChunk, RunState
from app.packs.treatments.run_rows import CHUNK, ENDED, ChunkRepository, RunRepository, worked
from app.packs.treatments.windows import Window

PACK: Final = "treatments"
START_JOB: Final = "treatments.start"
CHUNK_JOB: Final = "treatments.chunk"
ALLOCATE_JOB: Final = "treatments.allocate"
STOPPED: Final = "A kill switch stops treatments."
LOOK_AGAIN: Final = timedelta(seconds=60)

log = structlog.get_logger(__name__)


class SwitchedOff(Unavailable):
    """Nothing more is decided until the kill switch is off again; what was written stays."""

    code, title = "switched-off", "A kill switch stops treatments"


def refuse_when_killed(kit: Kit, tenant_id: str) -> None:
    """Raises SwitchedOff."""
    if kit.flags.killed(PACK, tenant_id):
        raise SwitchedOff(STOPPED, retry_after=LOOK_AGAIN.total_seconds())


class Lanes:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.number = kit.settings.treatments_lanes or kit.settings.worker_concurrency

    async def fill(self, session: AsyncSession, run: Run) -> None:
        """Opens chunks until every lane has one; a run that has none left, and none open, goes on to its allocation."""
        while run.state == RunState.RUNNING and run.chunks_open < self.number and await self._claim(session, run):
            pass
        if run.state == RunState.RUNNING and run.exhausted and not run.chunks_open:
            await self._complete(session, run)

    def obstacle(self, run: Run) -> tuple[str, datetime | None] | None:
        """Why the run may not work now, and when to look again (None: when a person says so)."""
        now = self._kit.ports.clock()
        if self._kit.flags.killed(PACK, run.tenant_id):
            return STOPPED, now + LOOK_AGAIN
        window = Window.parse(run.window)
        if window is not None and not window.holds(now):
            return f"It works from {run.window} UTC only.", window.opens(now)
        if run.max_cost_micros is not None and run.cost_micros >= run.max_cost_micros:
            return "The run has cost what it may: resume it with a higher max_cost_usd.", None
        return None

    def pause(self, run: Run, reason: str, resume_at: datetime | None) -> None:
        """What is under way ends and is kept; nothing more is taken up until `resume_at`, or for a person's word."""
        self.move(run, RunState.PAUSED, reason)
        run.resume_at = resume_at

    def move(self, run: Run, state: RunState, reason: str = "") -> None:
        """Changes the run's state, and keeps account of the time that it was at work."""
        now = self._kit.ports.clock()
        if state == RunState.RUNNING:
            run.active_since = run.active_since or now
        else:
            run.worked_s, run.active_since = worked(run, now), None
        run.state, run.reason, run.resume_at = state, reason, None
        run.finished_at = now if state in ENDED else None
        self._kit.metrics.treatments_runs.labels(state=state).inc()
        if state != RunState.QUEUED:
            log.info("treatments_run", run_id=run.id, state=state, reason=reason)

    async def queue(self, session: AsyncSession, run: Run) -> None:
        """Hands the run to a worker: at its beginning, and when it goes on."""
        self.move(run, RunState.QUEUED)
        run.tries += 1
        await self.enqueue(session, run, START_JOB, start_id(run), {})

    async def take_up(self, session: AsyncSession, run: Run, chunk: RunChunk) -> None:
        """A job for a chunk that has none. `chunks_open` is the caller's."""
        chunk.state, chunk.tries, chunk.updated_at = ChunkState.OPEN, chunk.tries + 1, self._kit.ports.clock()
        await self.enqueue(session, run, CHUNK_JOB, chunk_id(chunk), {"chunk_id": chunk.id})

    async def enqueue(self, session: AsyncSession, run: Run, job: str, job_id: str, more: dict[str, str]) -> None:
        """All tenants share the queue. A job's place in it (the lowest goes first) is the number of chunks that the
        tenant has under way in this run and in those that go before it: nobody's second run, and no priority that
        somebody chose, goes before another tenant's first.
        """
        payload = {"tenant_id": run.tenant_id, "run_id": run.id, **more}
        before = await RunRepository(session, run.tenant_id).open_before(run)
        await self._kit.jobs.enqueue(session, job, payload, job_id=job_id, priority=1 + before + run.chunks_open)

    def give_back(self, run: Run, chunk: RunChunk) -> None:
        """The chunk is not worked on any more; it is the first to be taken up later."""
        chunk.state, chunk.updated_at = ChunkState.WAITING, self._kit.ports.clock()
        run.chunks_open -= 1

    async def _claim(self, session: AsyncSession, run: Run) -> bool:
        """One more chunk under way; False where there is none to take, or none may be taken now."""
        obstacle = self.obstacle(run)
        if obstacle is not None:
            self.pause(run, *obstacle)
            return False
        if not _affordable(run):
            return False
        chunk = await ChunkRepository(session, run.tenant_id).waiting(run.id) or await self._next(session, run)
        if chunk is None:
            return False
        run.chunks_open += 1
        await self.take_up(session, run, chunk)
        return True

    async def _next(self, session: AsyncSession, run: Run) -> RunChunk | None:
        ids = [] if run.exhausted else await RunRepository(session, run.tenant_id).next_ids(run, run.cursor)
        if not ids:
            run.exhausted = True
            return None
        now = self._kit.ports.clock()
        chunk = RunChunk(
            id=new_id("chunk"),
            created_at=now,
            updated_at=now,
            run_id=run.id,
            number=run.chunks,
            after_id=run.cursor,
            until_id=ids[-1],
            customers=len(ids),
            tries=0,
            state=ChunkState.OPEN,
        )
        run.cursor, run.chunks = ids[-1], run.chunks + 1
        ChunkRepository(session, run.tenant_id).add(chunk)
        await session.flush()
        return chunk

    async def _complete(self, session: AsyncSession, run: Run) -> None:
        # Customers may have gone, or have been let in, since they were counted.
        run.total = run.finished
        await self.allocate(session, run)

    async def allocate(self, session: AsyncSession, run: Run) -> None:
        """Hands the run to its allocation."""
        self.move(run, RunState.ALLOCATING)
        run.tries += 1
        await self.enqueue(session, run, ALLOCATE_JOB, allocate_id(run), {})


def start_id(run: Run) -> str:
    return f"{START_JOB}:{run.id}:{run.tries}"


def allocate_id(run: Run) -> str:
    return f"{ALLOCATE_JOB}:{run.id}:{run.tries}"


def chunk_id(chunk: RunChunk) -> str:
    return f"{CHUNK_JOB}:{chunk.id}:{chunk.tries}"


def _affordable(run: Run) -> bool:
    """Whether what is under way leaves something of the run's own cap, going by what customers have cost so far.

    Before any has cost something, one chunk goes ahead alone.
    """
    if run.max_cost_micros is None or not run.chunks_open:
        return True
    if not run.finished:
        return False
    under_way = run.cost_micros / run.finished * CHUNK * run.chunks_open
    return run.cost_micros + under_way < run.max_cost_micros
