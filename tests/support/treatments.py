"""Runs of treatments without the rest of the house: real jobs, real rows, agents that a test plays itself."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select

from app.clock import system_clock
from app.errors import InvalidInput
from app.governance.audit import Audit
from app.ids import new_id
from app.jobs.engine import Jobs
from app.messages.local import LocalMessenger
from app.packs.treatments.chunks import ChunkWork, Patience
from app.packs.treatments.lanes import STOPPED, Lanes, SwitchedOff
from app.packs.treatments.models import Catalogue, Customer, Result, Run
from app.packs.treatments.run_jobs import RunJobs
from app.packs.treatments.run_rows import RunRepository
from app.packs.treatments.runs import RunService
from app.packs.treatments.schemas_runs import RunIn
from app.packs.treatments.stages import (
    ALLOCATION,
    DATA,
    EVALUATION,
    JOURNEY,
    RECOMMENDATION,
    DataAnswered,
    DataAsked,
    History,
    Journey,
    JourneyAnswered,
    JourneyAsked,
    Proposal,
    RecommendationAnswered,
    RecommendationAsked,
    Recommended,
    RunAnswered,
    RunAsked,
    Spent,
)
from app.principal import Principal, Role
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from tests.support.jobs import until

TENANT = "acme"
ADMIN = Principal(TENANT, "test", Role.ADMIN)
CATALOGUE = {"treatments": [{"name": "call_back", "title": "Call back", "cost_usd": 1, "capacity_per_day": 2}]}


class Agents:
    """Every stage, played: each customer is offered a call. `before` is awaited before each recommendation; what it
    raises, the stage raises."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.asked: list[list[str]] = []
        self.allocated: list[str] = []
        self.before: Callable[[RecommendationAsked], Awaitable[None]] | None = None
        self.cost_micros = 0
        self.refuse_allocation = False
        self.switched_off = False

    def serve(self, messenger: LocalMessenger) -> None:
        messenger.serve(DATA, self.data)
        messenger.serve(JOURNEY, self.journey)
        messenger.serve(RECOMMENDATION, self.recommend)
        messenger.serve(ALLOCATION, self.allocate)
        messenger.serve(EVALUATION, self.evaluate)

    async def data(self, asked: DataAsked) -> DataAnswered:
        async with self._db.operator_reading() as session:
            runs = RunRepository(session, asked.tenant_id)
            ids = await runs.next_ids(await runs.get(asked.run_id), asked.after_id, asked.until_id)
            rows = (await session.scalars(select(Customer).where(Customer.id.in_(ids)))).all()
        return DataAnswered([_history(row) for row in rows], [])

    async def journey(self, asked: JourneyAsked) -> JourneyAnswered:
        return JourneyAnswered([_journey(history) for history in asked.histories], [])

    async def recommend(self, asked: RecommendationAsked) -> RecommendationAnswered:
        self.asked.append([journey.customer_id for journey in asked.journeys])
        if self.before is not None:
            await self.before(asked)
        call = [Proposal("call_back", 0.1, 5_000_000, 1_000_000, "likes a call")]
        answers = [Recommended(journey.customer_id, call, "", shared=False) for journey in asked.journeys]
        return RecommendationAnswered(answers, [], Spent(1, 10, self.cost_micros, 0))

    async def allocate(self, asked: RunAsked) -> RunAnswered:
        if self.switched_off:
            raise SwitchedOff(STOPPED, retry_after=60)
        if self.refuse_allocation:
            raise InvalidInput("There is no capacity table.")
        self.allocated.append(asked.run_id)
        return RunAnswered("", "")

    async def evaluate(self, _asked: RunAsked) -> RunAnswered:
        return RunAnswered("", "")


def _history(row: Customer) -> History:
    return History(row.id, row.external_id, row.segment, row.fair_group, row.worth_micros, {}, [], "", 0, "digest")


def _journey(history: History) -> Journey:
    return Journey(
        customer_id=history.customer_id,
        fair_group=history.fair_group,
        worth_micros=history.worth_micros,
        features={"recency_days": 3.0},
        traits={"trend": "up"},
        fingerprint="f" * 8,
        vector=[0.0],
        seen={"digest": history.digest},
        allowed=["call_back"],
        refused={},
    )


@dataclass
class Bench:
    """Runs over customers of one tenant, with the worker in this process."""

    db: Database
    jobs: Jobs
    agents: Agents
    lanes: Lanes
    service: RunService
    chunks: ChunkWork
    kit: Any
    killed: set[str] = field(default_factory=set)

    async def customers(self, number: int, segment: str = "") -> list[str]:
        """Their external ids, which go on from those that are there."""
        now = self.kit.ports.clock()
        async with self.db.operator_transaction() as session:
            known = len((await session.scalars(select(Customer.id))).all())
            rows = [_customer(f"c{known + n}", segment, now) for n in range(number)]
            await session.execute(insert(Customer), rows)
        return [row["external_id"] for row in rows]

    async def catalogue(self) -> None:
        async with self.db.operator_transaction() as session:
            row = {"id": new_id("catalogue"), "tenant_id": TENANT, "created_at": self.kit.ports.clock(), "version": 1}
            await session.execute(insert(Catalogue), [{**row, "content": CATALOGUE, "created_by": "test"}])

    async def start(self, **body: Any) -> str:
        """The id of a new run; of everybody where nothing else is said."""
        scope = {} if {"segment", "customers"} & body.keys() else {"all": True}
        async with self.db.operator_transaction() as session:
            return (await self.service.create(session, ADMIN, RunIn.model_validate({**scope, **body}))).id

    async def run(self, run_id: str) -> Run:
        async with self.db.operator_reading() as session:
            return await RunRepository(session, TENANT).get(run_id)

    async def reaches(self, run_id: str, *states: str) -> Run:
        async def there() -> bool:
            return (await self.run(run_id)).state in states

        await until(there, f"the run is {states}")
        return await self.run(run_id)

    async def rests(self, run_id: str) -> Run:
        """The run, once nothing of it is under way."""

        async def quiet() -> bool:
            return (await self.run(run_id)).chunks_open == 0

        await until(quiet, "what was under way has ended")
        return await self.run(run_id)

    async def results(self, run_id: str) -> Sequence[Result]:
        async with self.db.operator_reading() as session:
            return (await session.scalars(select(Result).where(Result.run_id == run_id))).all()


def _customer(external_id: str, segment: str, now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("customer"),
        "tenant_id": TENANT,
        "created_at": now,
        "updated_at": now,
        "external_id": external_id,
        "segment": segment,
        "worth_micros": 50_000_000,
        "attributes": {},
    }


@asynccontextmanager
async def bench(
    db: Database,
    url: str,
    *,
    lanes: int = 2,
    executor: str = "embedded",
    worker: bool = True,
) -> AsyncIterator[Bench]:
    """Ready to start runs, whose agents may be told what to do first."""
    metrics, clock = Metrics(CollectorRegistry()), system_clock
    jobs = Jobs(url, metrics=metrics, executor_id=executor, dead_after_s=3.0)
    messenger, agents, killed = LocalMessenger(metrics), Agents(db), set[str]()
    kit: Any = SimpleNamespace(
        settings=SimpleNamespace(treatments_lanes=lanes, worker_concurrency=4, treatments_keep_days=400),
        ports=SimpleNamespace(db=db, clock=clock),
        metrics=metrics,
        audit=Audit(clock),
        flags=SimpleNamespace(killed=lambda pack, _tenant: pack in killed),
        jobs=jobs,
        messenger=messenger,
    )
    agents.serve(messenger)
    open_lanes = Lanes(kit)
    chunks = ChunkWork(kit, open_lanes, Patience(attempts=3, first_s=0.01, most_s=0.02))
    run_jobs = RunJobs(kit, open_lanes, chunks)
    declared, queues, _ = run_jobs.declared()
    jobs.register(declared, queues)
    await jobs.migrate()
    await jobs.start(worker=worker)
    made = Bench(db, jobs, agents, open_lanes, RunService(kit, open_lanes), chunks, kit, killed)
    try:
        yield made
    finally:
        await jobs.stop(5)


def failing(error: Exception, customer_ids: set[str]) -> Callable[[RecommendationAsked], Awaitable[None]]:
    """Raises where one of the customers is among those asked about."""

    async def before(asked: RecommendationAsked) -> None:
        if customer_ids & {journey.customer_id for journey in asked.journeys}:
            raise error

    return before
