"""What a run of the demo has to show, counted anew from its rows and from the file of its results."""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil
from typing import Final

from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.stats import Interval, two_proportions, wilson
from app.packs.treatments.demo_data import Called
from app.packs.treatments.demo_folder import Progress
from app.packs.treatments.demo_results import Told
from app.packs.treatments.models import ChunkState, Result, Run, RunChunk
from app.packs.treatments.schemas_allocation import AllocationOut
from app.packs.treatments.schemas_runs import RunOut

DRAWS: Final = 2_000


class Group(BaseModel):
    """Judged customers, all of whom were called then. `value_usd` is what their deposits brought, for each of them."""

    customers: int
    successes: int
    rate: float | None
    interval95: Interval | None
    value_usd: float | None

    @classmethod
    def of(cls, calls: Sequence[Called]) -> "Group":
        successes, number = sum(call.success for call in calls), len(calls)
        return cls(
            customers=number,
            successes=successes,
            rate=successes / number if number else None,
            interval95=wilson(successes, number),
            value_usd=sum(call.value for call in calls) / number if number else None,
        )


class Judgement(BaseModel):
    """The judged customers whom the run gives a call, against all judged ones, against as many of them in the order of
    the calls, and against as many drawn at random (`random95`: the middle 95 % of `DRAWS` draws). `more` is the share
    of deposits among the called less that among the other judged ones, with its 95 % interval."""

    everyone: Group
    called: Group
    first: Group
    random95: Interval | None
    more: float | None
    more95: Interval | None


class FloorKept(BaseModel):
    """Of `candidates` in the group, `needed` have to get the treatment; `got` it."""

    group: str
    treatment: str
    candidates: int
    needed: int
    got: int


class Figures(BaseModel):
    """`rows` are the run's results, `different` their customers; `exported` and `exported_different` the same of the
    file. `customers_a_second` is while a worker was at work, `stopped_s` how long none was. Memory in bytes, of each
    worker process."""

    run: RunOut
    customers: int
    rows: int
    different: int
    exported: int
    exported_different: int
    states: dict[str, int]
    kills: int
    peaks: list[int]
    work_s: float
    stopped_s: float
    wall_s: float
    customers_a_second: float
    allocation: AllocationOut
    floors: list[FloorKept]
    queue: int
    judgement: Judgement

    @property
    def peak(self) -> int:
        return max(self.peaks, default=0)

    @property
    def exactly_once(self) -> bool:
        counts = {self.rows, self.different, self.exported, self.exported_different, sum(self.states.values())}
        return counts == {self.customers}


class Rows(BaseModel):
    """What the database holds of a run."""

    rows: int
    different: int
    states: dict[str, int]


async def rows_of(session: AsyncSession, run: Run) -> Rows:
    mine = (Result.tenant_id == run.tenant_id, Result.run_id == run.id)
    counted = select(func.count(), func.count(Result.customer_id.distinct())).where(*mine)
    rows, different = (await session.execute(counted)).one()
    states = await session.execute(select(Result.state, func.count()).where(*mine).group_by(Result.state))
    return Rows(rows=rows, different=different, states={row[0]: row[1] for row in states})


async def times_of(session: AsyncSession, run: Run, progress: Progress) -> tuple[float, float]:
    """Seconds in which a worker was at the run's chunks, and those in which none was: from the end of each worker to
    the next chunk that was done, where one followed. The run itself counts a time without a worker only where it had
    chunks under way, so its own figure does not tell."""
    done = (RunChunk.tenant_id == run.tenant_id, RunChunk.run_id == run.id, RunChunk.state == ChunkState.DONE)
    moments = sorted((await session.scalars(select(RunChunk.updated_at).where(*done))).all())
    started = run.started_at or run.created_at
    stopped = gaps((max(started, worker.ended_at) for worker in progress.workers), moments)
    whole = moments[-1] - started if moments else timedelta()
    return (whole - stopped).total_seconds(), stopped.total_seconds()


def gaps(ends: Iterable[datetime], moments: Sequence[datetime]) -> timedelta:
    """`moments` in order. Several workers that ended before the same chunk make one gap, from the first of them."""
    first: dict[datetime, datetime] = {}
    for end in sorted(ends):
        after = next((moment for moment in moments if moment > end), None)
        if after is not None:
            first.setdefault(after, end)
    return sum((after - end for after, end in first.items()), timedelta())


def judgement_of(calls: Mapping[str, Called], told: Told) -> Judgement:
    called = [calls[one] for one in told.called if one in calls]
    others = [call for one, call in calls.items() if one not in told.called]
    everyone = list(calls.values())
    compared = two_proportions(_successes(called), len(called), _successes(others), len(others))
    return Judgement(
        everyone=Group.of(everyone),
        called=Group.of(called),
        first=Group.of(everyone[: len(called)]),
        random95=_at_random(everyone, len(called)),
        more=compared.difference,
        more95=compared.interval95,
    )


def _successes(calls: Iterable[Called]) -> int:
    return sum(call.success for call in calls)


def _at_random(calls: Sequence[Called], number: int) -> Interval | None:
    """Between which shares of deposits the middle 95 % of draws of `number` customers lie."""
    if not number:
        return None
    draw = random.Random(0)  # noqa: S311 - a draw that can be repeated
    shares = sorted(_successes(draw.sample(calls, number)) / number for _ in range(DRAWS))
    return shares[round(0.025 * DRAWS)], shares[round(0.975 * DRAWS) - 1]


def floors_of(allocation: AllocationOut, told: Told) -> list[FloorKept]:
    """Counted from what the file says each customer could have had, and got."""
    kept = []
    for floor in allocation.constraints.get("floors", []):
        place = (floor["group"], floor["treatment"] or "")
        candidates, got = told.could[place], told.got[place]
        needed = ceil(Fraction(str(floor["share"])) * candidates)
        kept.append(FloorKept(group=place[0], treatment=place[1], candidates=candidates, needed=needed, got=got))
    return kept
