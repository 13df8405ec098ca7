"""The allocation agent over real rows: what it gives, what it says, and that it may be stopped anywhere."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from app.errors import Conflict, Unavailable
from app.packs.treatments import allocation_data, allocation_writing
from app.packs.treatments.allocating import REALLOCATE_JOB, Allocations, AllocationStage
from app.packs.treatments.allocation_plan import decode, encode, place_of
from app.packs.treatments.catalogue import in_force
from app.packs.treatments.lanes import SwitchedOff
from app.packs.treatments.models import Allocation, Run
from app.packs.treatments.reservations import ReservationFilter
from app.packs.treatments.schemas_allocation import AllocationOut
from app.packs.treatments.stages import RunAnswered, RunAsked
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.allocations import AGENT, TENANT, Desk


@pytest.fixture
def desk(db: Database, clock: StillClock) -> Desk:
    return Desk(db, clock)


@pytest.fixture
def small_pages(monkeypatch):
    """So that a few customers are several pages."""
    for module in (allocation_data, allocation_writing):
        monkeypatch.setattr(module, "PAGE", 3)


async def allocate(desk: Desk, run_id: str) -> RunAnswered:
    return await AllocationStage(desk.kit).handle(RunAsked(TENANT, run_id, "worker"))


async def again(desk: Desk, run_id: str) -> AllocationOut:
    async with desk.db.operator_transaction() as session:
        return await Allocations(desk.kit).ask(session, AGENT, run_id)


async def allocations(desk: Desk, run_id: str) -> list[AllocationOut]:
    """The newest first."""
    async with desk.db.operator_reading() as session:
        return (await Allocations(desk.kit).page(session, AGENT, run_id, None, 50)).items


async def offers(desk: Desk, number: int) -> dict[str, dict[str, float]]:
    """A call is worth more to each customer than to the one before; an e-mail is worth little to every third."""
    people = await desk.customers(number)
    return {
        who: {"call_back": 1.0 + place} | ({"email": 0.5} if place % 3 == 0 else {}) for place, who in enumerate(people)
    }


async def told(desk: Desk, run_id: str) -> dict[str, tuple[str, str, int, str]]:
    return {
        who: (row.state, row.treatment, row.net_micros, row.reason) for who, row in (await desk.results(run_id)).items()
    }


async def test_the_best_get_the_units_and_the_others_wait_with_the_reason(desk):
    await desk.open(capacity=2)
    offered = await offers(desk, 7)
    loss = (await desk.customers(1))[0]
    run_id = await desk.run({**offered, loss: {"call_back": -0.5}})
    answer = await allocate(desk, run_id)
    assert answer.note == "Allocated 4, 3 wait: worth 14.00 USD net, the best there is."
    people = list(offered)
    found = await told(desk, run_id)
    figures = "call_back had 2 a day for 7 candidates"
    assert found[people[6]] == ("allocated", "call_back", 7_000_000, f"allocated: worth 7.00 USD net; {figures}")
    assert found[people[0]] == (
        "allocated",
        "email",
        500_000,
        "allocated: worth 0.50 USD net; email had no limit",
    )
    assert found[people[4]] == ("queued", "", 5_000_000, f"queued: worth 5.00 USD net at best (call_back); {figures}")
    assert found[loss][3] == "none: nothing is worth its cost: the best, call_back, would bring -0.50 USD net"
    [made] = await allocations(desk, run_id)
    assert (made.state, made.method, made.optimal, made.feasible, made.gap) == ("done", "exact", True, True, 0)
    assert (made.allocated, made.queued, made.none, made.usage["call_back"]) == (4, 3, 1, 2)
    assert made.value_usd == made.score_usd == pytest.approx(made.bound_usd) == 14.0
    await desk.agrees()


async def test_asked_again_it_changes_nothing(desk):
    await desk.open()
    run_id = await desk.run(await offers(desk, 5))
    first = await allocate(desk, run_id)
    before = await told(desk, run_id), await desk.live(run_id)
    assert await allocate(desk, run_id) == first
    assert (await told(desk, run_id), await desk.live(run_id)) == before
    assert len(await allocations(desk, run_id)) == 1


@pytest.mark.parametrize("pages", [1, 2, 3])
async def test_stopped_while_it_writes_it_ends_the_same(desk, small_pages, monkeypatch, pages):
    await desk.open(capacity=4)
    offered = await offers(desk, 11)
    whole = await desk.run(offered)
    await allocate(desk, whole)
    expected = {who: row[:3] for who, row in (await told(desk, whole)).items()}
    for one in await desk.live(whole):
        await release_of(desk, whole, *one)
    broken = await desk.run(offered)
    written, write = 0, allocation_writing.Writer.write

    async def dies(writer, after):
        nonlocal written
        if written == pages:
            raise OSError("killed")
        written += 1
        return await write(writer, after)

    with monkeypatch.context() as patch:
        patch.setattr(allocation_writing.Writer, "write", dies)
        with pytest.raises(OSError, match="killed"):
            await allocate(desk, broken)
    states = {row[0] for row in (await told(desk, broken)).values()}
    assert "proposed" in states
    await allocate(desk, broken)
    assert {who: row[:3] for who, row in (await told(desk, broken)).items()} == expected
    assert len(await desk.live(broken)) == 7
    [made] = await allocations(desk, broken)
    assert (made.state, made.allocated, made.not_held) == ("done", 7, 0)
    await desk.agrees()


async def test_a_kill_switch_stops_the_allocation_where_it_is_and_it_goes_on_after(desk, small_pages, monkeypatch):
    await desk.open(capacity=4)
    run_id = await desk.run(await offers(desk, 11))
    desk.killed.add("treatments")
    with pytest.raises(SwitchedOff):
        await allocate(desk, run_id)
    assert await allocations(desk, run_id) == []
    desk.killed.clear()
    write = allocation_writing.Writer.write

    async def switched_off_after_one(writer, after):
        desk.killed.add("treatments")
        return await write(writer, after)

    with monkeypatch.context() as patch:
        patch.setattr(allocation_writing.Writer, "write", switched_off_after_one)
        with pytest.raises(SwitchedOff):
            await allocate(desk, run_id)
    assert sum(row[0] == "proposed" for row in (await told(desk, run_id)).values()) == 8
    with pytest.raises(SwitchedOff):
        await again(desk, run_id)
    desk.killed.clear()
    await allocate(desk, run_id)
    assert "proposed" not in {row[0] for row in (await told(desk, run_id)).values()}
    await desk.agrees()


async def release_of(desk: Desk, run_id: str, customer_id: str, treatment: str) -> None:
    async with desk.db.operator_reading() as session:
        wanted = ReservationFilter(treatment=treatment, customer=customer_id, run_id=run_id)
        [one] = (await desk.reservations.page(session, AGENT, wanted, None, 10)).items
    await desk.release(one.id)


async def test_units_that_others_hold_are_not_given(desk):
    await desk.open(capacity=3)
    await desk.hold()
    offered = await offers(desk, 4)
    await desk.hold(customer=list(offered)[3])
    run_id = await desk.run(offered)
    await allocate(desk, run_id)
    found = await told(desk, run_id)
    people = list(offered)
    assert found[people[2]][3] == "allocated: worth 3.00 USD net; call_back had 2 of 3 a day left for 3 candidates"
    assert await desk.live(run_id) == {(people[2], "call_back"), (people[0], "email")}
    assert found[people[3]][0] == "queued", "the customer has their one treatment of the day already"
    await desk.agrees()


async def test_a_unit_that_somebody_took_after_the_solution_is_said_to_be_gone(desk, monkeypatch):
    await desk.open(capacity=2)
    offered = await offers(desk, 2)
    run_id = await desk.run(offered)
    write = allocation_writing.Writer.write

    async def late(writer, after):
        await desk.hold(key="other")
        return await write(writer, after)

    monkeypatch.setattr(allocation_writing.Writer, "write", late)
    await allocate(desk, run_id)
    found = await told(desk, run_id)
    lost = next(iter(offered))
    assert found[lost][0] == "queued"
    assert "it was chosen, but could not be held any more: call_back has 2 of 2 units taken" in found[lost][3]
    [made] = await allocations(desk, run_id)
    assert (made.not_held, made.allocated, made.value_usd) == (1, 1, 2.0)
    assert made.gap == pytest.approx(1 / 3)
    await desk.agrees()


async def test_after_a_change_confirmed_stay_held_move_and_the_queue_is_looked_at(desk, small_pages):
    await desk.open(capacity=2)
    offered = await offers(desk, 8)
    people = list(offered)
    run_id = await desk.run(offered)
    await allocate(desk, run_id)
    with pytest.raises(Conflict, match="it can be allocated again once it is done"):
        await again(desk, run_id)
    await desk.ended(run_id)
    await desk.confirm(await reservation(desk, run_id, people[7]))
    await desk.catalogue(capacity=2, call={"cost_usd": 2})
    asked = await again(desk, run_id)
    assert (asked.state, asked.number) == ("asked", 2)
    assert desk.jobs.queued[-1][0] == REALLOCATE_JOB
    with pytest.raises(Conflict, match="Allocation 2 of this run is under way"):
        await again(desk, run_id)
    await allocate(desk, run_id)
    assert {one for one in await desk.live(run_id) if one[1] == "call_back"} == {
        (people[7], "call_back"),
        (people[6], "call_back"),
    }
    await desk.catalogue(capacity=3)
    await again(desk, run_id)
    await allocate(desk, run_id)
    calls = {who for who, treatment in await desk.live(run_id) if treatment == "call_back"}
    assert calls == set(people[5:])
    assert (await allocations(desk, run_id))[0].number == 3
    await desk.agrees()


async def test_a_held_unit_moves_to_whoever_is_worth_more(desk):
    await desk.open(capacity=1)
    small, big = await desk.customers(2)
    run_id = await desk.run({small: {"call_back": 1}, big: {"call_back": 5}})
    held = await desk.hold(customer=big, treatment="email")
    await allocate(desk, run_id)
    assert await desk.live(run_id) == {(small, "call_back")}
    await desk.release(held.id)
    await desk.ended(run_id)
    await again(desk, run_id)
    await allocate(desk, run_id)
    assert await desk.live(run_id) == {(big, "call_back")}
    found = await told(desk, run_id)
    assert (found[small][0], found[big][0]) == ("queued", "allocated")
    assert (await allocations(desk, run_id))[0].moved == 1
    await desk.agrees()


async def reservation(desk: Desk, run_id: str, customer_id: str) -> str:
    async with desk.db.operator_reading() as session:
        wanted = ReservationFilter(customer=customer_id, run_id=run_id)
        [one] = (await desk.reservations.page(session, AGENT, wanted, None, 10)).items
    return one.id


async def test_what_the_floors_ask_for_and_cannot_have_is_said_and_the_run_goes_on(desk):
    floor = {"group": "north", "share": 1.0, "treatment": "call_back"}
    await desk.open(capacity=1, floors=[floor])
    north = await desk.customers(3, group="north")
    run_id = await desk.run({who: {"call_back": 1} for who in north}, groups=dict.fromkeys(north, "north"))
    answer = await allocate(desk, run_id)
    [made] = await allocations(desk, run_id)
    assert (made.feasible, made.allocated, len(made.conflicts)) == (False, 1, 1)
    assert "north" in made.conflicts[0].sentence
    assert made.conflicts[0].sentence in answer.note
    await desk.agrees()


async def test_a_day_that_ends_in_the_middle_is_begun_anew_for_the_next(desk, small_pages, monkeypatch):
    await desk.open(capacity=4)
    offered = await offers(desk, 9)
    run_id = await desk.run(offered)
    write = allocation_writing.Writer.write

    async def dies(writer, after):
        if after:
            raise OSError("killed")
        return await write(writer, after)

    with monkeypatch.context() as patch:
        patch.setattr(allocation_writing.Writer, "write", dies)
        with pytest.raises(OSError, match="killed"):
            await allocate(desk, run_id)
    desk.clock.advance(days=1)
    await allocate(desk, run_id)
    newest, first = await allocations(desk, run_id)
    assert (first.state, newest.state, newest.day) == ("failed", "done", desk.today)
    assert "proposed" not in {row[0] for row in (await told(desk, run_id)).values()}
    assert len(await desk.live(run_id)) <= 9
    yesterday = await desk.used(desk.today - timedelta(days=1))
    assert yesterday == {"email": 1, "": 10_000}, "what the first page held stays held"
    await desk.agrees()


async def test_one_that_cannot_be_carried_out_makes_room_for_another(desk):
    await desk.open()
    run_id = await desk.run(await offers(desk, 2))
    await allocate(desk, run_id)
    await desk.ended(run_id)
    asked = await again(desk, run_id)
    assert await Allocations(desk.kit).give_up(TENANT, asked.id, "no memory") == "failed"
    assert (await allocations(desk, run_id))[0].note == "no memory"
    assert (await again(desk, run_id)).number == 3


async def test_a_plan_is_the_same_when_it_is_read_back(desk):
    plan = {place_of(f"customer_{number}"): 1 << number % 50 | 1 for number in range(1000)}
    text = encode(plan)
    assert decode(text) == plan
    assert decode(encode({})) == {}
    await desk.open()
    run_id = await desk.run(await offers(desk, 1))
    await allocate(desk, run_id)
    async with desk.db.operator_reading() as session:
        [row] = (await session.scalars(select(Allocation))).all()
    assert row.plan == "", "what is carried out needs no plan"


async def test_the_day_may_end_while_it_is_written_and_nothing_more_is_held_for_it(desk, small_pages, monkeypatch):
    await desk.open(capacity=4)
    run_id = await desk.run(await offers(desk, 9))
    write = allocation_writing.Writer.write

    async def until_midnight(writer, after):
        written = await write(writer, after)
        desk.clock.advance(days=1)
        return written

    with monkeypatch.context() as patch:
        patch.setattr(allocation_writing.Writer, "write", until_midnight)
        with pytest.raises(Unavailable, match="The day ended"):
            await allocate(desk, run_id)
    assert await desk.used(desk.today) == {}
    await allocate(desk, run_id)
    assert "proposed" not in {row[0] for row in (await told(desk, run_id)).values()}
    assert (await desk.used())["call_back"] == 4


async def test_groups_that_no_floor_names_are_one(desk):
    await desk.open(floors=[{"group": "g1", "share": 1.0}])
    people = await desk.customers(5)
    groups = {who: f"g{place}" for place, who in enumerate(people)}
    run_id = await desk.run({who: {"email": 1.0} for who in people}, groups=groups)
    async with desk.db.operator_reading() as session:
        run, (_, catalogue) = await session.get_one(Run, run_id), await in_force(session, TENANT)
    problem = (await allocation_data.Loader(desk.db, run, catalogue, desk.today).load({})).problem
    assert sorted(problem.group_names) == ["", "g1"]
    assert (problem.groups == problem.group_names.index("g1")).tolist() == [who == people[1] for who in people]
