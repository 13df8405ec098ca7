"""What a run was worth, and what will be wanted: from rows, embedded and on servers."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from app.packs.treatments.demand import demand, forecasts
from app.packs.treatments.evaluating import EvaluationStage
from app.packs.treatments.models import Result, Run
from app.packs.treatments.stages import RunAsked
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.allocations import AGENT, TENANT, Desk


@pytest.fixture
async def desk(database: Database, clock: StillClock) -> Desk:
    made = Desk(database, clock)
    await made.open(capacity=5)
    return made


async def judged(desk: Desk) -> str:
    """60 got a call and 30 succeeded, 40 waited and 4 did, 50 were held back and 5 did; 10 more told nothing."""
    called, waiting, control = [await desk.customers(number) for number in (70, 40, 50)]
    run_id = await desk.run({who: {"call_back": 2} for who in [*called, *waiting]} | {who: {} for who in control})
    async with desk.db.operator_transaction() as session:
        changed = update(Result).where(Result.customer_id.in_(called))
        await session.execute(changed.values(state="allocated", treatment="call_back"))
        await session.execute(update(Result).where(Result.customer_id.in_(waiting)).values(state="queued"))
    await desk.outcomes(run_id, called[:60], "call_back", 30)
    await desk.outcomes(run_id, waiting, "", 4)
    await desk.outcomes(run_id, control, "", 5)
    return run_id


async def test_all_whom_the_run_decided_about_are_held_against_those_held_back(desk):
    run_id = await judged(desk)
    stage = EvaluationStage(desk.kit)
    async with desk.db.operator_reading() as session:
        found = await stage.show(session, AGENT, run_id)
    arms = {arm.name: (arm.customers, arm.known, arm.successes, arm.value_usd) for arm in found.arms}
    assert arms == {
        "decided": (110, 100, 34, 340.0),
        "control": (50, 50, 5, 50.0),
        "call_back": (70, 60, 30, 300.0),
    }
    assert found.uplift.success == pytest.approx(0.34 - 0.1)
    assert found.uplift.value_usd == pytest.approx(2.4)
    low, high = found.uplift.value_interval95_usd
    assert 0 < low < 2.4 < high
    assert [(one.arm, round(one.success, 9)) for one in found.by_treatment] == [("call_back", 0.4)]
    answer = await stage.handle(RunAsked(TENANT, run_id, "worker"))
    assert answer.note == found.note
    async with desk.db.operator_reading() as session:
        kept = (await session.get_one(Run, run_id)).evaluation
    assert kept["uplift"]["success"] == pytest.approx(0.24)


async def test_nothing_is_said_before_an_outcome_is_known(desk):
    people = await desk.customers(2)
    run_id = await desk.run({people[0]: {"call_back": 2}, people[1]: {}})
    stage = EvaluationStage(desk.kit)
    assert (await stage.handle(RunAsked(TENANT, run_id, "worker"))).note == "No outcome is known yet."
    async with desk.db.operator_reading() as session:
        found = await stage.show(session, AGENT, run_id)
        assert (await session.get_one(Run, run_id)).evaluation is None
    assert (found.uplift.success, found.uplift.enough) == (None, False)
    assert (await stage.handle(RunAsked(TENANT, "run_none", "worker"))).id == ""


async def test_demand_is_counted_by_utc_day_and_told_with_its_error(desk):
    people = await desk.customers(8)
    desk.clock.now = desk.clock.now.replace(hour=23, minute=59)
    for day in range(30):
        wanted = people[: 8 if day % 7 == 0 else 6]
        await desk.run({who: {"call_back": 2, "email": 1} for who in wanted})
        await desk.outcomes("", people[:1], "email", 1)
        desk.clock.advance(days=1)
    async with desk.db.operator_reading() as session:
        found = await demand(session, TENANT, desk.today)
        told = await forecasts(session, desk.kit, AGENT, 7)
    first = desk.today - timedelta(days=30)
    assert found["call_back"] == {first + timedelta(days=day): 8 if day % 7 == 0 else 6 for day in range(30)}
    assert set(found["email"].values()) == {1}
    call, email = told.treatments
    assert (call.treatment, call.days, call.method) == ("call_back", 30, "smoothed_weekdays")
    assert [round(point.expected) for point in call.points] == [6, 6, 6, 6, 6, 8, 6]
    assert call.points[5].short == pytest.approx(call.points[5].expected - 5)
    assert call.backtest is not None
    assert call.backtest.mae < 1
    assert email.capacity_per_day is None
    assert email.points[0].short == 0
