"""Who waits: in order of value, offered what comes free, and for how long."""

import pytest

from app.packs.treatments import queueing
from app.packs.treatments.allocating import AllocationStage
from app.packs.treatments.models import RunState
from app.packs.treatments.queueing import Queue, QueueFiller
from app.packs.treatments.reservations import ReservationFilter
from app.packs.treatments.schemas_allocation import QueueOut
from app.packs.treatments.stages import RunAsked
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.allocations import AGENT, TENANT, Desk


@pytest.fixture
def desk(db: Database, clock: StillClock) -> Desk:
    return Desk(db, clock)


async def done_run(desk: Desk, offers: dict[str, dict[str, float]]) -> str:
    """Allocated and done."""
    run_id = await desk.run(offers)
    await AllocationStage(desk.kit).handle(RunAsked(TENANT, run_id, "worker"))
    await desk.ended(run_id)
    return run_id


async def calls(desk: Desk, number: int) -> dict[str, dict[str, float]]:
    """Each is worth more than the one before."""
    people = await desk.customers(number)
    return {who: {"call_back": 1.0 + place} for place, who in enumerate(people)}


async def queue(desk: Desk, run_id: str, cursor: str | None = None, limit: int = 50) -> QueueOut:
    async with desk.db.operator_reading() as session:
        return await Queue(desk.kit).page(session, AGENT, run_id, cursor, limit)


async def reserved(desk: Desk, run_id: str, state: str) -> list[str]:
    """Ids of reservations of the run, the newest first."""
    async with desk.db.operator_reading() as session:
        wanted = ReservationFilter(run_id=run_id, state=state)
        return [one.id for one in (await desk.reservations.page(session, AGENT, wanted, None, 50)).items]


async def test_the_queue_is_ordered_by_value_and_says_what_each_waits_for(desk):
    await desk.open(capacity=1)
    offered = await calls(desk, 6)
    run_id = await done_run(desk, offered)
    people = list(offered)
    first = await queue(desk, run_id, limit=2)
    rest = await queue(desk, run_id, first.next_cursor, limit=9)
    assert (first.length, rest.next_cursor) == (5, None)
    assert [(one.position, one.customer_id) for one in first.items + rest.items] == [
        (place, who) for place, who in enumerate(reversed(people[:5]), start=1)
    ]
    [waits] = first.items[0].waits_for
    assert (waits.treatment, waits.net_usd) == ("call_back", 5.0)
    assert waits.why == f"call_back has 1 of 1 units taken on {desk.today}"
    desk.clock.advance(days=1)
    assert (await queue(desk, run_id)).items[0].waits_for[0].why == ""


async def test_the_morning_gives_the_new_days_units_to_the_most_valuable(desk, monkeypatch):
    monkeypatch.setattr(queueing, "PAGE", 2)
    await desk.open(capacity=2)
    offered = await calls(desk, 7)
    run_id = await done_run(desk, offered)
    people = list(offered)
    filler = QueueFiller(desk.kit)
    assert await filler.fill(TENANT) == 0, "today is full"
    desk.clock.advance(days=1)
    assert await filler.tenants() == [TENANT]
    assert await filler.fill(TENANT) == 2
    assert await filler.fill(TENANT) == 0
    assert await desk.live(run_id) == {(people[4], "call_back"), (people[3], "call_back")}
    row = (await desk.results(run_id))[people[4]]
    assert row.reason == f"allocated from the queue for {desk.today}: worth 5.00 USD net"
    await desk.agrees()


async def test_a_hold_that_expires_goes_to_the_head_of_the_queue_not_back_to_the_same(desk):
    await desk.open(capacity=1, hold_hours=1)
    offered = await calls(desk, 3)
    run_id = await done_run(desk, offered)
    small, middle, best = offered
    desk.clock.advance(hours=1)
    assert await desk.reservations.expire() == 1
    assert await desk.reservations.expire() == 0
    row = (await desk.results(run_id))[best]
    assert (row.state, row.net_micros) == ("queued", 3_000_000)
    assert row.reason == f"queued again: the hold of call_back on {desk.today} expired before it was confirmed"
    [(_, payload)] = desk.jobs.queued
    assert await QueueFiller(desk.kit).fill(payload["tenant_id"], payload["treatments"]) == 1
    assert await desk.live(run_id) == {(middle, "call_back")}
    desk.clock.advance(days=1)
    await desk.reservations.expire()
    await QueueFiller(desk.kit).fill(TENANT)
    assert await desk.live(run_id) == {(best, "call_back")}
    assert (await desk.results(run_id))[small].state == "queued"
    await desk.agrees()


async def test_whom_a_person_lets_go_does_not_come_back_by_themselves(desk):
    await desk.open(capacity=1)
    offered = await calls(desk, 2)
    run_id = await done_run(desk, offered)
    other, best = offered
    [held] = await reserved(desk, run_id, "held")
    await desk.release(held)
    assert (await desk.results(run_id))[best].state == "none"
    await QueueFiller(desk.kit).fill(TENANT, ["call_back"])
    assert await desk.live(run_id) == {(other, "call_back")}


async def test_the_time_between_two_holds_for_the_queue_too(desk):
    await desk.open(capacity=1, call={"cooldown_days": 3})
    offered = await calls(desk, 2)
    run_id = await done_run(desk, offered)
    _, best = offered
    later = await done_run(desk, {best: {"call_back": 9}})
    assert (await queue(desk, later)).items[0].waits_for[0].why.startswith("the customer has 1 of at most 1 a day")
    desk.clock.advance(days=1)
    await QueueFiller(desk.kit).fill(TENANT)
    assert await desk.live(later) == set()
    assert len(await desk.live(run_id)) == 1
    desk.clock.advance(days=2)
    await QueueFiller(desk.kit).fill(TENANT)
    assert await desk.live(later) == {(best, "call_back")}


async def test_whose_outcome_is_recorded_waits_no_more(desk):
    await desk.open(capacity=1)
    offered = await calls(desk, 3)
    run_id = await done_run(desk, offered)
    small, middle, _ = offered
    await desk.outcomes(run_id, [middle], "email", 1)
    desk.clock.advance(days=1)
    await QueueFiller(desk.kit).fill(TENANT)
    assert await desk.live(run_id) == {(small, "call_back")}
    assert (await desk.results(run_id))[middle].state == "queued"


async def test_a_later_run_or_an_old_one_leaves_nobody_waiting_twice(desk):
    await desk.open(capacity=0, window_days=30)
    offered = await calls(desk, 2)
    first = await done_run(desk, offered)
    second = await done_run(desk, {next(iter(offered)): {"call_back": 9}})
    await desk.catalogue(capacity=5, window_days=30)
    assert await QueueFiller(desk.kit).fill(TENANT) == 2
    assert (len(await desk.live(first)), len(await desk.live(second))) == (1, 1)
    assert (await queue(desk, first)).length == 1
    third = await desk.run(await calls(desk, 1), state=RunState.ALLOCATING)
    await desk.catalogue(capacity=0, window_days=30)
    await AllocationStage(desk.kit).handle(RunAsked(TENANT, third, "worker"))
    await desk.ended(third)
    await desk.catalogue(capacity=5, window_days=30)
    desk.clock.advance(days=31)
    assert await QueueFiller(desk.kit).fill(TENANT) == 0


async def test_a_kill_switch_stops_the_queue(desk):
    await desk.open(capacity=1)
    await done_run(desk, await calls(desk, 2))
    desk.clock.advance(days=1)
    desk.killed.add("treatments")
    assert await QueueFiller(desk.kit).tenants() == []
    assert await QueueFiller(desk.kit).fill(TENANT) == 0
    desk.killed.clear()
    assert await QueueFiller(desk.kit).fill(TENANT) == 1


async def test_one_tenant_whose_holds_cannot_end_keeps_nobody_elses_from_ending(desk, monkeypatch):
    await desk.open(capacity=1)
    await desk.hold()
    desk.clock.advance(days=2)
    expire, tried = desk.reservations._expire, []

    async def breaks(tenant_id, ids):
        tried.append(tenant_id)
        if len(tried) == 1:
            raise OSError("broken")
        return await expire(tenant_id, ids)

    monkeypatch.setattr(desk.reservations, "_expire", breaks)
    assert await desk.reservations.expire() == 0
    assert tried == [TENANT]
    assert await desk.reservations.expire() == 1
