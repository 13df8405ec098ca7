"""Reservations and allocations over real rows, without the rest of the house: jobs are noted, not run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.audit import Audit
from app.governance.models_keys import Tenant
from app.ids import new_id
from app.packs.treatments.capacity import CapacityBook
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.models import (
    CapacityUse,
    Catalogue,
    Customer,
    Outcome,
    Reservation,
    Result,
    ResultState,
    Run,
    RunState,
)
from app.packs.treatments.reservations import Reservations
from app.packs.treatments.schemas_allocation import ReservationIn, ReservationOut
from app.principal import Principal, Role
from app.storage.base import MICROS
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from tests.conftest import StillClock

TENANT = "acme"
AGENT = Principal(TENANT, "ann", Role.AGENT)


class NotedJobs:
    """What was queued, in the transactions that were committed or not: tests look at those that were."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, dict[str, Any]]] = []

    async def enqueue(self, _session: AsyncSession, name: str, payload: dict[str, Any], *, job_id: str) -> None:
        assert len(job_id) < 200
        self.queued.append((name, payload))


@dataclass
class Desk:
    """One tenant with customers, a catalogue and, where a test makes them, results of runs."""

    db: Database
    clock: StillClock
    jobs: NotedJobs = field(default_factory=NotedJobs)
    versions: int = 0

    def __post_init__(self) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.killed: set[str] = set()
        self.kit: Any = SimpleNamespace(
            settings=SimpleNamespace(treatments_solver_s=20.0, treatments_keep_days=400),
            ports=SimpleNamespace(db=self.db, clock=self.clock),
            metrics=self.metrics,
            audit=Audit(self.clock),
            flags=SimpleNamespace(killed=lambda pack, _tenant: pack in self.killed),
            jobs=self.jobs,
        )
        self.reservations = Reservations(self.kit)

    @property
    def today(self) -> date:
        return self.clock().date()

    async def open(self, **catalogue: Any) -> None:
        """The tenant and its first catalogue."""
        async with self.db.operator_transaction() as session:
            session.add(Tenant(id=TENANT, name="Acme", created_at=self.clock()))
        await self.catalogue(**catalogue)

    async def catalogue(self, **content: Any) -> None:
        """A new version: `capacity` units of call_back a day, an e-mail without limit, or what `treatments` says."""
        self.versions += 1
        call = {"name": "call_back", "title": "Call", "cost_usd": 1, "capacity_per_day": content.pop("capacity", 2)}
        call |= content.pop("call", {})
        given = {"treatments": [call, {"name": "email", "title": "E-mail", "cost_usd": 0.01}], **content}
        whole = CatalogueIn.model_validate(given).model_dump(mode="json")
        stamp = {"id": new_id("catalogue"), "tenant_id": TENANT, "created_at": self.clock()}
        row = {**stamp, "version": self.versions, "content": whole, "created_by": "test"}
        async with self.db.operator_transaction() as session:
            await session.execute(insert(Catalogue), [row])

    async def customers(self, number: int, group: str = "", **more: Any) -> list[str]:
        """Ids of new customers."""
        rows = some_customers(number, self.clock(), fair_group=group, **more)
        async with self.db.operator_transaction() as session:
            await session.execute(insert(Customer), rows)
        return [row["id"] for row in rows]

    async def run(
        self,
        offers: Mapping[str, Mapping[str, float]],
        *,
        state: str = RunState.ALLOCATING,
        groups: Mapping[str, str] | None = None,
    ) -> str:
        """A run that proposed to each customer (id) what `offers` says: net USD by treatment. Its id."""
        now, run_id = self.clock(), new_id("run")
        async with self.db.operator_transaction() as session:
            session.add(a_run(state, now, run_id))
            await session.flush()
            rows = [a_result(run_id, who, nets, (groups or {}).get(who, ""), now) for who, nets in offers.items()]
            await session.execute(insert(Result), rows)
        return run_id

    async def ended(self, run_id: str) -> None:
        async with self.db.operator_transaction() as session:
            run = await session.get_one(Run, run_id)
            run.state, run.finished_at = RunState.DONE, self.clock()

    async def hold(self, treatment: str = "call_back", **given: Any) -> ReservationOut:
        asked = ReservationIn(treatment=treatment, **given)
        async with self.db.operator_transaction() as session:
            return await self.reservations.create(session, AGENT, asked)

    async def confirm(self, reservation_id: str) -> ReservationOut:
        async with self.db.operator_transaction() as session:
            return await self.reservations.confirm(session, AGENT, reservation_id)

    async def release(self, reservation_id: str) -> ReservationOut:
        async with self.db.operator_transaction() as session:
            return await self.reservations.release(session, AGENT, reservation_id)

    async def used(self, day: date | None = None) -> dict[str, int]:
        """What capacity says is used, without the treatments of which nothing is."""
        async with self.db.operator_reading() as session:
            used = await CapacityBook(session, TENANT, self.clock()).used(day or self.today)
        return {name: units for name, units in used.items() if units}

    async def agrees(self) -> None:
        """Fails unless every row of capacity is what is held and confirmed."""
        async with self.db.operator_reading() as session:
            rows = (await session.scalars(select(CapacityUse))).all()
            live = (
                await session.scalars(select(Reservation).where(Reservation.state.in_(["held", "confirmed"])))
            ).all()
        for row in rows:
            of_day = [one for one in live if one.day == row.day]
            money = sum(one.cost_micros for one in of_day)
            units = sum(one.treatment == row.treatment for one in of_day)
            assert row.used == (units if row.treatment else money), (row.treatment, row.day)

    async def results(self, run_id: str) -> dict[str, Result]:
        """By customer."""
        async with self.db.operator_reading() as session:
            rows = (await session.scalars(select(Result).where(Result.run_id == run_id))).all()
        return {row.customer_id: row for row in rows}

    async def live(self, run_id: str) -> set[tuple[str, str]]:
        """Customer and treatment of what the run holds, or has confirmed, today."""
        async with self.db.operator_reading() as session:
            where = (Reservation.run_id == run_id, Reservation.state.in_(["held", "confirmed"]))
            rows = (await session.scalars(select(Reservation).where(*where, Reservation.day == self.today))).all()
        assert len({(row.customer_id, row.treatment) for row in rows}) == len(rows), "held twice"
        return {(row.customer_id or "", row.treatment) for row in rows}

    async def outcomes(self, run_id: str, customers: Sequence[str], treatment: str, successes: int) -> None:
        """One for each customer: the first `successes` of them took it up, for 10 USD."""
        now = self.clock()
        rows = [
            {
                "id": new_id("outcome"),
                "tenant_id": TENANT,
                "created_at": now,
                "key": new_id("key"),
                "customer_id": who,
                "run_id": run_id,
                "treatment": treatment,
                "success": place < successes,
                "value_micros": 10 * MICROS if place < successes else 0,
                "at": now,
            }
            for place, who in enumerate(customers)
        ]
        async with self.db.operator_transaction() as session:
            await session.execute(insert(Outcome), rows)


def some_customers(number: int, now: datetime, **columns: Any) -> list[dict[str, Any]]:
    """Rows of new customers."""
    return [
        {
            "id": new_id("customer"),
            "tenant_id": TENANT,
            "created_at": now,
            "updated_at": now,
            "external_id": new_id("their"),
            "fair_group": "",
            "worth_micros": 50 * MICROS,
            "attributes": {},
            **columns,
        }
        for _ in range(number)
    ]


def a_run(state: str, now: datetime, run_id: str = "") -> Run:
    return Run(
        id=run_id or new_id("run"),
        tenant_id=TENANT,
        created_at=now,
        state=state,
        scope={"all": True},
        seed=7,
        control_share=0.1,
        catalogue_version=1,
        as_of=now,
        finished_at=now if state == RunState.DONE else None,
        created_by="test",
    )


def a_result(run_id: str, customer_id: str, nets: Mapping[str, float], group: str, now: datetime) -> dict[str, Any]:
    """A row that proposes what `nets` says: net USD by treatment; of the control group where it says nothing."""
    costs = {"call_back": MICROS, "email": MICROS // 100}
    options = [
        {
            "treatment": name,
            "chance": 0.1,
            "value_micros": round(net * MICROS) + costs.get(name, 0),
            "cost_micros": costs.get(name, 0),
            "reason": "",
        }
        for name, net in sorted(nets.items(), key=lambda item: -item[1])
    ]
    return {
        "id": new_id("result"),
        "tenant_id": TENANT,
        "created_at": now,
        "updated_at": now,
        "run_id": run_id,
        "customer_id": customer_id,
        "state": ResultState.PROPOSED if options else ResultState.CONTROL,
        "fair_group": group,
        "net_micros": round(max(nets.values(), default=0) * MICROS),
        "options": options,
        "seen": {},
    }
