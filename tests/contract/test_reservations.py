"""Capacity holds embedded and on servers, whoever holds at the same moment."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.errors import Conflict
from app.governance.audit import verify
from app.governance.models import AuditEntry
from app.packs.treatments.allocating import AllocationStage
from app.packs.treatments.models import Allocation, Reservation
from app.packs.treatments.stages import RunAsked
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.allocations import TENANT, Desk

HOLDERS = 12


@pytest.fixture
async def desk(database: Database, clock: StillClock) -> Desk:
    return Desk(database, clock)


async def refused(work) -> str:
    """ "" where it was done, else why not."""
    try:
        await work
    except Conflict as error:
        return error.detail
    return ""


async def test_holders_at_the_same_moment_never_pass_the_capacity(desk: Desk) -> None:
    await desk.open(capacity=5)
    said = await asyncio.gather(*(refused(desk.hold()) for _ in range(HOLDERS)))
    assert said.count("") == 5
    assert set(said) == {"", f"This cannot be held: call_back has 5 of 5 units taken on {desk.today}."}
    assert await desk.used() == {"call_back": 5, "": 5_000_000}
    await desk.agrees()


async def test_holders_at_the_same_moment_never_pass_the_budget(desk: Desk) -> None:
    await desk.open(capacity=100, budget_usd_per_day=3.5)
    people = await desk.customers(HOLDERS)
    said = await asyncio.gather(*(refused(desk.hold(customer=who)) for who in people))
    assert said.count("") == 3
    assert f"the budget of {desk.today} has 0.50 USD left, call_back costs 1.00 USD" in max(said)
    await desk.agrees()


async def test_one_customer_gets_one_treatment_a_day_whoever_holds_it(desk: Desk) -> None:
    await desk.open(capacity=100, call={"cooldown_days": 3})
    [who] = await desk.customers(1)
    days = [desk.today + timedelta(days=number % 3) for number in range(HOLDERS)]
    said = await asyncio.gather(*(refused(desk.hold(customer=who, day=day)) for day in days))
    assert said.count("") == 1
    assert "days must lie between" in max(said) or "of at most 1 a day" in max(said)
    await desk.agrees()


async def test_a_key_holds_once_however_often_it_is_sent(desk: Desk) -> None:
    await desk.open(capacity=1)
    made = await asyncio.gather(*(desk.hold(key="same") for _ in range(HOLDERS)))
    assert len({one.id for one in made}) == 1
    assert await desk.used() == {"call_back": 1, "": 1_000_000}
    assert "belongs to another reservation" in await refused(desk.hold("email", key="same"))


async def test_a_unit_comes_free_once_whoever_lets_it_go(desk: Desk) -> None:
    await desk.open(capacity=3, hold_hours=1)
    made = [await desk.hold() for _ in range(3)]
    await desk.confirm(made[2].id)
    desk.clock.advance(hours=2)
    ends = [desk.release(made[number % 3].id) for number in range(6)] + [desk.reservations.expire() for _ in range(4)]
    await asyncio.gather(*ends, return_exceptions=True)
    assert await desk.used() == {}
    await desk.agrees()
    async with desk.db.operator_reading() as session:
        states = {row.state for row in [await session.get_one(Reservation, one.id) for one in made[:2]]}
        assert states <= {"released", "expired"}
        assert (await session.get_one(Reservation, made[2].id)).state == "released"
        assert (await verify(session)).ok


async def test_what_expires_is_not_confirmed_at_the_same_moment(desk: Desk) -> None:
    await desk.open(capacity=HOLDERS, hold_hours=1)
    made = [await desk.hold() for _ in range(HOLDERS)]
    desk.clock.advance(minutes=59)
    said = await asyncio.gather(*(refused(desk.confirm(one.id)) for one in made[:4]))
    desk.clock.advance(minutes=1)
    late = await asyncio.gather(*(refused(desk.confirm(one.id)) for one in made[4:]), desk.reservations.expire())
    assert said == [""] * 4
    assert all("is expired: make a new one" in one for one in late[:-1])
    assert late[-1] == HOLDERS - 4
    assert (await desk.used())["call_back"] == 4
    await desk.agrees()


async def test_two_workers_on_one_allocation_and_people_at_the_desk_do_nothing_twice(desk: Desk) -> None:
    await desk.open(capacity=6, budget_usd_per_day=20)
    people = await desk.customers(30)
    run_id = await desk.run({who: {"call_back": 1.0 + place, "email": 0.5} for place, who in enumerate(people)})
    made = [await desk.hold(customer=who) for who in people[:4]]
    asked = RunAsked(TENANT, run_id, "worker")
    stages = [AllocationStage(desk.kit).handle(asked) for _ in range(3)]
    others = [refused(desk.hold(customer=who)) for who in people[4:10]] + [
        refused(desk.release(one.id)) for one in made
    ]
    answers = await asyncio.gather(*stages, *others)
    assert len({answer.id for answer in answers[:3]}) == 1
    await desk.agrees()
    async with desk.db.operator_reading() as session:
        [allocation] = (await session.scalars(select(Allocation))).all()
        states = [row.state for row in (await desk.results(run_id)).values()]
        assert allocation.report["allocated"] == states.count("allocated") == len(await desk.live(run_id))
        assert "proposed" not in states
        actions = await session.scalars(select(AuditEntry.action))
        assert actions.all().count("treatments.allocated") == 1
