"""Reservations: what is held, by whom it may be, and what its end brings."""

import asyncio
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import Conflict, Forbidden, InvalidInput, NotFound
from app.packs.treatments.days import day_as_it_is
from app.packs.treatments.reservations import ReservationFilter, forget
from app.packs.treatments.schemas_allocation import DayOut, ReservationIn
from app.packs.treatments.settling import FILL_JOB
from app.principal import Principal, Role
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.allocations import AGENT, TENANT, Desk
from tests.support.examples import examples


@pytest.fixture
def desk(db: Database, clock: StillClock) -> Desk:
    return Desk(db, clock)


async def shown(desk: Desk) -> DayOut:
    async with desk.db.operator_reading() as session:
        return await day_as_it_is(session, desk.kit, AGENT, None)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hold", "hold", "hold", "confirm", "release", "expire", "wait", "limit", "budget"]),
        st.integers(0, 7),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=examples(20))
@given(steps=STEPS)
def test_used_is_what_is_held_and_nothing_is_given_beyond_the_limit_of_the_moment(empty_database, steps):
    async def play(path: Path) -> None:
        database = Database(f"sqlite+aiosqlite:///{path}")
        desk = Desk(database, StillClock())
        limits = {"capacity": 3, "budget_usd_per_day": 5.0, "hold_hours": 2}
        try:
            await desk.open(**limits)
            people, made = await desk.customers(4), []
            for step, number in steps:
                await played(desk, step, number, limits, people, made)
                await desk.agrees()
        finally:
            await database.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(shutil.copy(empty_database, Path(folder) / "trellis.db"))))


async def played(desk: Desk, step: str, number: int, limits: dict, people: list[str], made: list[str]) -> None:
    before = await desk.used()
    try:
        if step == "hold":
            who = people[number] if number < len(people) else None
            made.append((await desk.hold(customer=who)).id)
            used = await desk.used()
            assert used["call_back"] == before.get("call_back", 0) + 1 <= limits["capacity"]
            assert used[""] <= limits["budget_usd_per_day"] * 1_000_000
        elif step in ("confirm", "release") and made:
            await getattr(desk, step)(made[number % len(made)])
        elif step == "expire":
            await desk.reservations.expire()
        elif step == "wait":
            desk.clock.advance(hours=1)
        elif step in ("limit", "budget"):
            limits["capacity" if step == "limit" else "budget_usd_per_day"] = number
            await desk.catalogue(**limits)
            assert await desk.used() == before
    except Conflict:
        assert await desk.used() == before


async def test_a_limit_that_is_lowered_takes_nothing_back_and_gives_nothing_more(desk):
    await desk.open(capacity=3)
    for _ in range(3):
        await desk.hold()
    await desk.catalogue(capacity=1)
    day = await shown(desk)
    assert (day.treatments[0].limit, day.treatments[0].used, day.treatments[0].over) == (1, 3, 2)
    with pytest.raises(Conflict, match="call_back has 3 of 1 units taken"):
        await desk.hold()
    await desk.catalogue(capacity=4)
    await desk.hold()
    assert (await shown(desk)).treatments[0].left == 0


async def test_who_may_not_have_it_does_not_get_it(desk):
    segment = {"segments": ["gold"], "cooldown_days": 5}
    await desk.open(capacity=9, call=segment, treatments_per_customer=2)
    [tin], [gold] = await desk.customers(1, segment="tin"), await desk.customers(1, segment="gold")
    with pytest.raises(InvalidInput, match="it is for the segment gold"):
        await desk.hold(customer=tin)
    await desk.hold(customer=gold)
    with pytest.raises(Conflict, match="5 days must lie between"):
        await desk.hold(customer=gold, day=desk.today + timedelta(days=4))
    await desk.hold(customer=gold, day=desk.today + timedelta(days=5))
    await desk.hold("email", customer=gold)
    with pytest.raises(Conflict, match="at most 2 a day"):
        await desk.hold("email", customer=gold)


async def test_an_outcome_counts_as_having_had_it(desk):
    await desk.open(call={"cooldown_days": 3})
    [who] = await desk.customers(1)
    await desk.outcomes("run_x", [who], "call_back", 1)
    desk.clock.advance(days=2)
    with pytest.raises(Conflict, match="3 days must lie between"):
        await desk.hold(customer=who)
    desk.clock.advance(days=1)
    await desk.hold(customer=who)


async def test_wrong_wishes_are_told_what_to_do(desk):
    await desk.open()
    with pytest.raises(InvalidInput, match="There is no treatment 'gift': the catalogue has call_back, email"):
        await desk.hold("gift")
    with pytest.raises(InvalidInput, match="'day' is from today"):
        await desk.hold(day=desk.today - timedelta(days=1))
    with pytest.raises(NotFound):
        await desk.hold(customer="nobody")
    viewer = Principal(TENANT, "vic", Role.VIEWER)
    async with desk.db.operator_transaction() as session:
        with pytest.raises(Forbidden):
            await desk.reservations.create(session, viewer, ReservationIn(treatment="email"))
        with pytest.raises(Forbidden):
            await desk.reservations.release(session, viewer, "reservation_x")


async def test_another_tenants_reservation_is_not_there(desk):
    await desk.open()
    made = await desk.hold()
    rival = Principal("rival", "eve", Role.ADMIN)
    for change in (desk.reservations.confirm, desk.reservations.release):
        async with desk.db.operator_transaction() as session:
            with pytest.raises(NotFound):
                await change(session, rival, made.id)
    async with desk.db.operator_reading() as session:
        page = await desk.reservations.page(session, rival, ReservationFilter(), None, 10)
    assert page.items == []
    assert (await desk.used())["call_back"] == 1


async def test_a_confirmed_one_may_be_let_go_until_its_day_is_over(desk):
    await desk.open()
    first, second = await desk.hold(), await desk.hold()
    await desk.confirm(first.id)
    assert (await desk.confirm(first.id)).state == "confirmed"
    assert (await desk.release(first.id)).state == "released"
    assert (await desk.release(first.id)).state == "released"
    assert desk.jobs.queued == [(FILL_JOB, {"tenant_id": TENANT, "treatments": ["call_back"]})]
    with pytest.raises(Conflict, match="is released: make a new one"):
        await desk.confirm(first.id)
    await desk.confirm(second.id)
    desk.clock.advance(days=1)
    with pytest.raises(Conflict, match="which is over"):
        await desk.release(second.id)


async def test_a_list_is_filtered_and_paged(desk):
    await desk.open(capacity=9)
    [who] = await desk.customers(1)
    made = [await desk.hold() for _ in range(3)]
    await desk.hold("email", customer=who)
    tomorrow = await desk.hold(day=desk.today + timedelta(days=1))
    await desk.confirm(made[0].id)

    async def ids(cursor=None, limit=10, **wanted):
        async with desk.db.operator_reading() as session:
            page = await desk.reservations.page(session, AGENT, ReservationFilter(**wanted), cursor, limit)
        return [item.id for item in page.items], page.next_cursor

    assert (await ids(state="confirmed"))[0] == [made[0].id]
    assert (await ids(day=tomorrow.day))[0] == [tomorrow.id]
    assert len((await ids(customer=who))[0]) == 1
    first, cursor = await ids(limit=3)
    rest, end = await ids(cursor=cursor, limit=3)
    assert (len(first), len(rest), end) == (3, 2, None)
    assert sorted(first + rest, reverse=True) == first + rest


async def test_what_a_deleted_customer_held_is_free_again(desk):
    await desk.open()
    who, other = await desk.customers(2)
    await desk.hold(customer=who)
    await desk.hold(customer=other)
    async with desk.db.operator_transaction() as session:
        assert await forget(session, desk.kit, TENANT, [who]) == 1
    assert (await desk.used())["call_back"] == 1
    assert desk.jobs.queued[-1] == (FILL_JOB, {"tenant_id": TENANT, "treatments": ["call_back"]})
