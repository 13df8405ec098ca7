"""Customers and outcomes embedded and on servers: the same counts, also where two put the same things in at once."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select

from app.clock import system_clock
from app.errors import Conflict
from app.governance.audit import Audit
from app.ids import new_id
from app.packs.treatments.catalogue import CatalogueIn, Treatment
from app.packs.treatments.customers import CustomerImport
from app.packs.treatments.data_stage import DataStage
from app.packs.treatments.models import Case, Customer, CustomerEvent, Outcome, Run
from app.packs.treatments.outcomes import Outcomes
from app.packs.treatments.schemas import CustomerIn, EventIn, ImportReport, OutcomeIn, OutcomesReport
from app.packs.treatments.stages import DataAsked
from app.packs.treatments.versions import Catalogues
from app.principal import Principal, Role
from app.storage.db import Database

HERE = Principal("acme", "test", Role.ADMIN)
AT = datetime(2026, 6, 1, tzinfo=UTC)
AUDIT = Audit(system_clock)


@pytest.fixture
async def kit(database: Database) -> Any:
    kit = SimpleNamespace(ports=SimpleNamespace(db=database, clock=system_clock), audit=AUDIT)
    email = Treatment(name="email", title="An e-mail")
    await Catalogues(kit).put(HERE, CatalogueIn(treatments=(email,), traits=("plan",)))
    return kit


def customer(number: int, worth: float = 5.0, events: int = 2) -> CustomerIn:
    happened = [
        EventIn(key=f"e{n}", at=AT - timedelta(minutes=50 * n + 50), kind="visit", amount_usd=n) for n in range(events)
    ]
    about = {"plan": "plus", "age": 40 + number % 2, "vip": True, "share": 0.25}
    return CustomerIn(external_id=f"c-{number}", worth_usd=worth, attributes=about, events=happened)


async def put(kit: Any, *customers: CustomerIn) -> ImportReport:
    async with kit.ports.db.operator_transaction() as session:
        return await CustomerImport(system_clock, AUDIT).put(session, HERE, customers)


async def record(kit: Any, *outcomes: OutcomeIn) -> OutcomesReport:
    async with kit.ports.db.operator_transaction() as session:
        return await Outcomes(system_clock, AUDIT).record(session, HERE, outcomes)


def outcome(key: str, number: int, success: bool = False) -> OutcomeIn:
    return OutcomeIn(key=key, customer=f"c-{number}", treatment="email", success=success, at=AT)


async def count(kit: Any, model: Any) -> int:
    async with kit.ports.db.operator_reading() as session:
        return int(await session.scalar(select(func.count()).select_from(model)) or 0)


async def test_an_import_says_what_became_of_it(kit: Any) -> None:
    body = [customer(number) for number in range(620)]
    assert await put(kit, *body) == ImportReport(new=620, events_new=1240)
    assert await put(kit, *body) == ImportReport(unchanged=620)
    assert await put(kit, customer(0, worth=6), customer(1, events=5)) == ImportReport(
        changed=1, unchanged=1, events_new=3
    )
    assert (await count(kit, Customer), await count(kit, CustomerEvent)) == (620, 1243)


async def test_two_imports_at_once_leave_each_customer_once(kit: Any) -> None:
    bodies = [[customer(number) for number in range(start, start + 300)] for start in (0, 0, 150)]
    bodies[1].reverse()
    done = await asyncio.gather(*(put(kit, *body) for body in bodies), return_exceptions=True)
    assert all(isinstance(one, ImportReport | Conflict) for one in done)
    for body, one in zip(bodies, done, strict=True):
        if isinstance(one, Conflict):
            await put(kit, *body)
    assert (await count(kit, Customer), await count(kit, CustomerEvent)) == (450, 900)


async def test_outcomes_at_once_are_all_counted(kit: Any) -> None:
    await put(kit, *(customer(number) for number in range(40)))
    batches = [[outcome(f"k-{number}", number, number % 4 == 0) for number in range(k, 40, 4)] for k in range(4)]
    reports = await asyncio.gather(*(record(kit, *batch) for batch in batches))
    assert sum(report.new for report in reports) == 40
    assert (await record(kit, *batches[0])).known == 10
    async with kit.ports.db.operator_reading() as session:
        ((trials, successes),) = (await session.execute(select(Case.trials, Case.successes))).all()
    assert (trials, successes, await count(kit, Outcome)) == (40, 10, 40)


async def test_the_data_agent_sees_the_same(kit: Any) -> None:
    await put(kit, *(customer(number, events=2200 if number == 1 else 2) for number in range(3)))
    await record(kit, outcome("k1", 0, True))
    later = AT + timedelta(hours=1)
    some = {"state": "running", "scope": {"all": True}, "seed": 1, "control_share": 0.0, "catalogue_version": 1}
    run = Run(id=new_id("run"), tenant_id="acme", created_at=system_clock(), as_of=later, created_by="test", **some)
    async with kit.ports.db.operator_transaction() as session:
        session.add(run)
    answered = await DataStage(kit).handle(DataAsked("acme", run.id, "", "z"))
    assert [one.total for one in answered.histories] == [2, 2200, 2]
    first = answered.histories[0]
    assert (first.tries, first.successes, first.contacts) == ({"email": 1}, {"email": 1}, {"email": AT})
    assert first.attributes == {"plan": "plus", "age": 40, "vip": True, "share": 0.25}
    assert answered.set_aside == []
