"""One chunk of a run: asked about, written down once, and the lane's next one taken in the same transaction."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import stamina
import structlog
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import BudgetExceeded, Retryable, TrellisError
from app.ids import new_id
from app.pack import Kit
from app.packs.treatments.asking import Asking, Part
from app.packs.treatments.deciding import Decided, set_aside
from app.packs.treatments.lanes import LOOK_AGAIN, Lanes
from app.packs.treatments.models import ChunkState, Customer, Result, ResultState, Run, RunChunk, RunState
from app.packs.treatments.run_rows import ChunkRepository, ResultRepository, RunRepository
from app.packs.treatments.stages import SetAside

DEATHS: Final = 2
"""How often the process may end over one customer before that customer is set aside."""
DIED: Final = "The process that worked on this customer ended each time."
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a chunk is tried before its run pauses or its customers are tried alone: with waits of `first_s`,
    twice that, and so on up to `most_s`."""

    attempts: int = 5
    first_s: float = 1.0
    most_s: float = 30.0


class ChunkWork:
    """Everything that the job of a chunk does. Each of its steps may be repeated: a chunk that is done stays so."""

    def __init__(self, kit: Kit, lanes: Lanes, patience: Patience | None = None) -> None:
        self._kit = kit
        self._db = kit.ports.db
        self._lanes = lanes
        self._asking = Asking(kit.messenger)
        self._patience = patience or Patience()

    async def work(self, tenant_id: str, run_id: str, chunk_id: str) -> str:
        """What came of it: `done`, `back` (given back, the run does not go on now), `repeated`, `gone`."""
        taken = await self._taken(tenant_id, run_id, chunk_id)
        if isinstance(taken, str):
            return taken
        run, chunk, ids = taken
        try:
            if chunk.alone:
                return await self._alone(run, chunk, ids)
            return await self._together(run, chunk, Part(chunk.after_id, chunk.until_id, ids))
        except Retryable as error:
            return await self._given_back(run, chunk, error.detail, _resume_at(self._kit.ports.clock(), error))

    async def give_up(self, tenant_id: str, run_id: str, chunk_id: str, why: str) -> str:
        """Sets aside all of the chunk's customers who have no result: its job failed however it was tried."""
        taken = await self._taken(tenant_id, run_id, chunk_id)
        if isinstance(taken, str):
            return taken
        run, chunk, ids = taken
        rows = [set_aside(SetAside(one, "run", why)) for one in ids]
        return await self._store(run, chunk, Decided(rows), ends=ChunkState.FAILED)

    async def _taken(self, tenant_id: str, run_id: str, chunk_id: str) -> tuple[Run, RunChunk, Sequence[str]] | str:
        """The chunk with its customers where there is work to do on it now."""
        async with self._db.reading(tenant_id) as session:
            chunk = await ChunkRepository(session, tenant_id).find(chunk_id)
            run = await RunRepository(session, tenant_id).find(run_id)
            if chunk is None or run is None:
                return "gone"
            if chunk.state != ChunkState.OPEN:
                return "repeated"
            ids = await RunRepository(session, tenant_id).next_ids(run, chunk.after_id, chunk.until_id, limit=1000)
        obstacle = self._lanes.obstacle(run)
        if run.state == RunState.RUNNING and obstacle is None:
            return run, chunk, ids
        return await self._given_back(run, chunk, *(obstacle or ("", None)))

    async def _together(self, run: Run, chunk: RunChunk, part: Part) -> str:
        began = time.perf_counter()
        try:
            decided = await self._patiently(run, part, _may_pass)
        except Exception as error:
            if _pauses(error):
                raise
            # Its text may hold what is a customer's: it stands with their result alone.
            log.warning("treatments_chunk_split", run_id=run.id, chunk_id=chunk.id, error=type(error).__name__)
            decided = await self._split(run, part, error)
        came = await self._store(run, chunk, decided, ends=ChunkState.DONE)
        self._kit.metrics.treatments_chunk_duration_seconds.observe(time.perf_counter() - began)
        return came

    async def _split(self, run: Run, part: Part, error: Exception) -> Decided:
        """What failed together, in halves, and these in halves: in the end only those are set aside who fail alone.

        Raises what makes the run pause.
        """
        if len(part.ids) <= 1:
            return Decided([set_aside(SetAside(one, "run", _said(error))) for one in part.ids])
        halves = []
        for half in part.halves():
            try:
                halves.append(await self._patiently(run, half, _comes_back))
            except Exception as problem:
                if _pauses(problem):
                    raise
                halves.append(await self._split(run, half, problem))
        return halves[0] + halves[1]

    async def _patiently(self, run: Run, part: Part, again: Callable[[BaseException], bool]) -> Decided:
        patience = self._patience
        attempts = stamina.retry_context(
            on=again,
            attempts=patience.attempts,
            timeout=None,
            wait_initial=patience.first_s,
            wait_max=patience.most_s,
            wait_jitter=patience.first_s / 2,
        )
        async for attempt in attempts:
            with attempt:
                return await self._asking.about(run, part)
        raise AssertionError("stamina ends with a result or an exception")

    async def _alone(self, run: Run, chunk: RunChunk, ids: Sequence[str]) -> str:
        """Each customer by themselves, written down before the next one is looked at: one of them ends the process."""
        async with self._db.reading(run.tenant_id) as session:
            done = await ResultRepository(session, run.tenant_id).decided(run.id, ids)
        before = chunk.after_id
        for one in ids:
            if one not in done:
                deaths = await self._note(run, chunk, one)
                decided = await self._one(run, Part(before, one, [one]), deaths)
                await self._store(run, chunk, decided, ends=None)
            before = one
        return await self._store(run, chunk, Decided([]), ends=ChunkState.DONE)

    async def _one(self, run: Run, part: Part, deaths: int) -> Decided:
        """Raises what makes the run pause; any other error sets the customer aside."""
        [one] = part.ids
        if deaths >= DEATHS:
            return Decided([set_aside(SetAside(one, "run", DIED))])
        try:
            return await self._patiently(run, part, _comes_back)
        except Exception as error:
            if _pauses(error):
                raise
            return await self._split(run, part, error)

    async def _store(self, run: Run, chunk: RunChunk, decided: Decided, *, ends: ChunkState | None) -> str:
        """Results, counters, the chunk's end and the lane's next chunk, all or nothing."""
        async with self._db.transaction(run.tenant_id) as session:
            held = await self._held(session, run, chunk)
            if held is None:
                return "repeated"
            now_run, now_chunk = held
            rows = await self._new_rows(session, now_run, decided.rows)
            if rows:
                await session.execute(insert(Result), rows)
            _count(now_run, rows, decided)
            if ends is not None:
                now_chunk.state, now_chunk.updated_at = ends, self._kit.ports.clock()
                now_run.chunks_open -= 1
                await session.flush()
                await self._lanes.fill(session, now_run)
        for state, number in Counter(row["state"] for row in rows).items():
            self._kit.metrics.treatments_customers.labels(state=state).inc(number)
        return "done"

    async def _new_rows(self, session: AsyncSession, run: Run, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those of customers who are still there and have no result yet."""
        ids = [row["customer_id"] for row in rows]
        there = select(Customer.id).where(Customer.tenant_id == run.tenant_id, Customer.id.in_(ids))
        wanted = set((await session.scalars(there)).all()) - await ResultRepository(session, run.tenant_id).decided(
            run.id, ids
        )
        now = self._kit.ports.clock()
        same = {"tenant_id": run.tenant_id, "run_id": run.id, "created_at": now, "updated_at": now}
        return [{**row, **same, "id": new_id("result")} for row in rows if row["customer_id"] in wanted]

    async def _held(self, session: AsyncSession, run: Run, chunk: RunChunk) -> tuple[Run, RunChunk] | None:
        """Both rows as they are now, kept from others; None where another has ended the chunk meanwhile."""
        now_run = await RunRepository(session, run.tenant_id).locked(run.id)
        now_chunk = await ChunkRepository(session, run.tenant_id).find(chunk.id)
        if now_run is None or now_chunk is None or now_chunk.state != ChunkState.OPEN:
            return None
        return now_run, now_chunk

    async def _given_back(self, run: Run, chunk: RunChunk, reason: str, resume_at: datetime | None) -> str:
        async with self._db.transaction(run.tenant_id) as session:
            held = await self._held(session, run, chunk)
            if held is None:
                return "repeated"
            now_run, now_chunk = held
            now_chunk.trying, now_chunk.deaths = "", 0
            self._lanes.give_back(now_run, now_chunk)
            if now_run.state == RunState.RUNNING and reason:
                self._lanes.pause(now_run, reason, resume_at)
            else:
                await session.flush()
                await self._lanes.fill(session, now_run)
        return "back"

    async def _note(self, run: Run, chunk: RunChunk, customer_id: str) -> int:
        """Remembers who is under way; how often the process ended over the same customer before."""
        async with self._db.transaction(run.tenant_id) as session:
            held = await self._held(session, run, chunk)
            if held is None:
                return 0
            same = held[1].trying == customer_id
            held[1].trying, held[1].deaths = customer_id, held[1].deaths + 1 if same else 0
            return held[1].deaths


def _count(run: Run, rows: Sequence[dict[str, Any]], decided: Decided) -> None:
    spent = decided.spent
    run.finished += len(rows)
    run.set_aside += sum(row["state"] == ResultState.SET_ASIDE for row in rows)
    run.model_calls += spent.model_calls
    run.tokens += spent.tokens
    run.cost_micros += spent.cost_micros
    run.shared_answers += spent.shared_answers


def _is_budget(error: BaseException, scope: str) -> bool:
    return isinstance(error, BudgetExceeded) and error.extra.get("scope") == scope


def _may_pass(error: BaseException) -> bool:
    """Whether the same may work in a moment: all but what is wrong with the input, and a budget that is spent.

    A cancellation, of which stamina asks too, is the process's end.
    """
    if not isinstance(error, Exception):
        return False
    if isinstance(error, TrellisError):
        return isinstance(error, Retryable) and not isinstance(error, BudgetExceeded)
    return True


def _comes_back(error: BaseException) -> bool:
    """As `_may_pass`, but an error that says nothing of passing is taken for lasting."""
    return isinstance(error, Retryable) and _may_pass(error)


def _said(error: Exception) -> str:
    return error.detail if isinstance(error, TrellisError) else f"{type(error).__name__}: {error}"


def _pauses(error: Exception) -> bool:
    """Whether the whole run has to wait for it, rather than this customer be set aside."""
    return isinstance(error, Retryable) and not _is_budget(error, "request")


def _resume_at(now: datetime, error: Retryable) -> datetime:
    """A spent budget comes back when it says; whatever else is away is looked for each minute."""
    return now + max(timedelta(seconds=error.retry_after), LOOK_AGAIN)
