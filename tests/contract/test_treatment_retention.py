"""What runs left behind goes after its time, embedded and on servers: whole runs, of each tenant its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict
from app.governance.audit import verify
from app.governance.models import AuditEntry
from app.ids import new_id
from app.packs.treatments import purging
from app.packs.treatments.allocating import Allocations
from app.packs.treatments.lanes import Lanes
from app.packs.treatments.models import (
    Allocation,
    Customer,
    ModelAnswer,
    Reservation,
    Result,
    Run,
    RunChunk,
    RunMember,
)
from app.packs.treatments.purging import Purge
from app.packs.treatments.queueing import QueueFiller
from app.packs.treatments.runs import RunService
from app.packs.treatments.schemas_runs import ResumeIn
from app.packs.treatments.story import Stories
from app.principal import EVERY_TENANT
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.allocations import AGENT, TENANT, Desk, a_result, a_run, some_customers

RIVAL = "globex"
LEFT = (Result, RunMember, RunChunk, Allocation, Reservation)
CUSTOMERS = 5


@pytest.fixture
async def desk(database: Database, clock: StillClock, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(purging, "BATCH", 2)
    opened = Desk(database, clock)
    await opened.open(capacity=50)
    return opened


async def a_whole_run(
    desk: Desk, state: str = "done", tenant: str = TENANT, *, held: int = 0, ended: bool = True
) -> str:
    """A run of five customers with everything that runs leave; reservations are of the day that is `held` days on."""
    now, run_id = desk.clock(), new_id("run")
    people = [{**row, "tenant_id": tenant} for row in some_customers(CUSTOMERS, now)]
    run = a_run(state, now, run_id)
    run.tenant_id, run.finished_at = tenant, now if ended else None
    stamp = {"tenant_id": tenant, "created_at": now, "run_id": run_id}
    async with desk.db.operator_transaction() as session:
        session.add(run)
        await session.execute(insert(Customer), people)
        answer = _answer(tenant, desk)
        await session.execute(insert(ModelAnswer), [answer])
        for place, who in enumerate(person["id"] for person in people):
            of_customer = stamp | {"customer_id": who}
            result = a_result(run_id, who, {"call_back": 5.0}, "", now) | {"tenant_id": tenant}
            await session.execute(insert(Result), [result | {"answer_id": answer["id"], "state": "queued"}])
            await session.execute(insert(RunMember), [of_customer | {"id": new_id("member")}])
            chunk = {"number": place, "after_id": "", "until_id": who, "customers": 1, "state": "done"}
            await session.execute(insert(RunChunk), [stamp | chunk | {"id": new_id("chunk"), "updated_at": now}])
            await session.execute(insert(Reservation), [of_customer | _reservation(desk, place, held)])
        await session.execute(insert(Allocation), [stamp | _allocation(desk)])
    return run_id


def _answer(tenant: str, desk: Desk) -> dict[str, Any]:
    said = {"profile": {}, "proposals": [], "prompt_version": 1, "model": "m", "provider": "p", "catalogue_version": 1}
    stamp = {"id": new_id("answer"), "tenant_id": tenant, "created_at": desk.clock(), "key": new_id("key")}
    return stamp | said


def _reservation(desk: Desk, place: int, held: int) -> dict[str, Any]:
    """One of each state, and a second that is confirmed."""
    now = desk.clock()
    state = ("held", "confirmed", "released", "expired", "confirmed")[place]
    row = {"id": new_id("reservation"), "key": new_id("key"), "treatment": "call_back", "state": state}
    return row | {"day": desk.today + timedelta(days=held), "expires_at": now, "updated_at": now}


def _allocation(desk: Desk) -> dict[str, Any]:
    found = {"method": "exact", "feasible": True, "value_micros": 0, "bound_micros": 0, "gap": 0.0}
    about = {"problem": {}, "report": {}, "created_by": "test", "number": 1, "day": desk.today, "state": "done"}
    return found | about | {"id": new_id("allocation")}


async def there(desk: Desk, run_id: str) -> dict[str, int]:
    """How many rows of each kind are left of a run."""
    async with desk.db.operator_reading() as session:
        counts = {
            kind.__name__: len((await session.scalars(select(kind.id).where(kind.run_id == run_id))).all())
            for kind in LEFT
        }
        counts["Run"] = len((await session.scalars(select(Run.id).where(Run.id == run_id))).all())
    return {name: count for name, count in counts.items() if count}


async def answers(desk: Desk, tenant: str) -> int:
    async with desk.db.operator_reading() as session:
        return len((await session.scalars(select(ModelAnswer.id).where(ModelAnswer.tenant_id == tenant))).all())


async def purged(desk: Desk) -> dict[str, list[int]]:
    """By tenant: the numbers of runs that the audit entries tell of."""
    found: dict[str, list[int]] = {}
    async with desk.db.operator_reading() as session:
        where = AuditEntry.action == "treatments.runs_purged"
        for entry in (await session.scalars(select(AuditEntry).where(where).order_by(AuditEntry.seq))).all():
            found.setdefault(entry.tenant_id, []).append(orjson.loads(entry.data)["runs"])
        assert (await verify(session)).ok
    return found


WHOLE = {"Result": 5, "RunMember": 5, "RunChunk": 5, "Allocation": 1, "Reservation": 5, "Run": 1}


class AtOnce:
    """A job's context that keeps no record."""

    job_id = "purge"

    async def step(self, _name: str, fn: Any, *args: Any, attempts: int = 1) -> Any:
        return await fn(*args)


async def night(desk: Desk) -> dict[str, Any]:
    context: Any = AtOnce()
    return await Purge(desk.kit).job(context, {})


async def test_what_ended_long_ago_goes_with_all_that_it_left_and_nothing_else(desk: Desk) -> None:
    over = [await a_whole_run(desk, state) for state in ("done", "cancelled", "failed")]
    rivals = await a_whole_run(desk, tenant=RIVAL)
    going_on = [await a_whole_run(desk, state, ended=False) for state in ("paused", "running", "allocating")]
    desk.clock.advance(days=1)
    young = await a_whole_run(desk)
    who = next(iter(await desk.results(over[0])))
    desk.clock.advance(days=399)
    assert await night(desk) == {"runs": 0, "answers": 0, "tenants_failed": 0}, "to the day"
    desk.clock.advance(seconds=1)
    assert await night(desk) == {"runs": 4, "answers": 4, "tenants_failed": 0}
    assert [await there(desk, run_id) for run_id in (*over, rivals)] == [{}] * 4
    assert [await there(desk, run_id) for run_id in (*going_on, young)] == [WHOLE] * 4
    assert (await answers(desk, TENANT), await answers(desk, RIVAL)) == (4, 0)
    told = await Stories(desk.kit).of(AGENT, who)
    assert (told.decisions_total, told.decisions, told.reservations) == (0, [], [])
    assert await night(desk) == {"runs": 0, "answers": 0, "tenants_failed": 0}
    assert await purged(desk) == {TENANT: [3], RIVAL: [1]}


async def test_what_still_counts_for_a_customer_keeps_its_run(desk: Desk) -> None:
    today, past = await a_whole_run(desk, held=401), await a_whole_run(desk, held=400)
    desk.clock.advance(days=401)
    assert (await night(desk))["runs"] == 1
    assert (await there(desk, today), await there(desk, past)) == (WHOLE, {})
    await desk.catalogue(call={"cooldown_days": 30})
    desk.clock.advance(days=30)
    assert (await night(desk))["runs"] == 0, "a customer may have it again after 30 days only"
    desk.clock.advance(days=1)
    assert (await night(desk))["runs"] == 1


async def test_nothing_goes_where_everything_is_kept(desk: Desk) -> None:
    run_id = await a_whole_run(desk)
    desk.kit.settings.treatments_keep_days = 0
    desk.clock.advance(days=20_000)
    assert await night(desk) == {"runs": 0, "answers": 0, "tenants_failed": 0}
    assert await there(desk, run_id) == WHOLE


async def test_an_answer_stays_while_a_result_names_it(desk: Desk) -> None:
    old = _answer(TENANT, desk)
    async with desk.db.operator_transaction() as session:
        await session.execute(insert(ModelAnswer), [old, *(_answer(TENANT, desk) for _ in range(CUSTOMERS))])
    desk.clock.advance(days=300)
    run_id = await a_whole_run(desk)
    async with desk.db.operator_transaction() as session:
        for row in (await session.scalars(select(Result).where(Result.run_id == run_id))).all():
            row.answer_id = old["id"]
    desk.clock.advance(days=200)
    assert await night(desk) == {"runs": 0, "answers": CUSTOMERS, "tenants_failed": 0}
    assert await purged(desk) == {}
    desk.clock.advance(days=250)
    assert await night(desk) == {"runs": 1, "answers": 2, "tenants_failed": 0}


async def test_nobody_takes_up_a_run_whose_time_is_over(desk: Desk) -> None:
    await desk.catalogue(capacity=50, window_days=3650)
    stopped, done = await a_whole_run(desk, "cancelled"), await a_whole_run(desk)
    desk.clock.advance(days=401)
    desk.kit.settings.treatments_lanes = 1
    service = RunService(desk.kit, Lanes(desk.kit))
    async with desk.db.operator_transaction() as session:
        with pytest.raises(Conflict, match="ended more than 400 days ago"):
            await service.resume(session, AGENT, stopped, ResumeIn())
        with pytest.raises(Conflict, match="ended more than 400 days ago"):
            await Allocations(desk.kit).ask(session, AGENT, done)
    assert await QueueFiller(desk.kit).fill(TENANT) == 0, "five wait in the queue of the done one"


class Dies(Exception):
    """The process, in a test."""


def dying(db: Database, last: int) -> Any:
    """The database of a process that dies in its transaction number `last`, before it is committed."""
    left = last

    @asynccontextmanager
    async def transaction(tenant: str) -> AsyncIterator[AsyncSession]:
        nonlocal left
        left -= 1
        async with db.transaction(tenant) as session:
            yield session
            if left <= 0:
                raise Dies

    return SimpleNamespace(
        transaction=transaction,
        operator_transaction=partial(transaction, EVERY_TENANT),
        reading=db.reading,
        operator_reading=db.operator_reading,
    )


async def test_a_crash_between_any_two_batches_leaves_the_rest_for_the_next_time(desk: Desk) -> None:
    runs = [await a_whole_run(desk), await a_whole_run(desk)]
    desk.clock.advance(days=401)
    kit, deaths = desk.kit, 0
    for last in range(1, 100):
        dies = SimpleNamespace(**vars(kit) | {"ports": SimpleNamespace(db=dying(desk.db, last), clock=desk.clock)})
        try:
            await Purge(dies).tenant(TENANT)
            break
        except Dies:
            deaths += 1
            assert await purged(desk) in ({}, {TENANT: [2]})
    assert deaths > 5
    assert [await there(desk, run_id) for run_id in runs] == [{}, {}]
    assert (await purged(desk), await answers(desk, TENANT)) == ({TENANT: [2]}, 0)


async def test_a_run_that_is_taken_up_again_meanwhile_is_left_alone(desk: Desk) -> None:
    run_id = await a_whole_run(desk, "cancelled")
    desk.clock.advance(days=401)
    purge = Purge(desk.kit)
    over = await purge._over(TENANT)
    async with desk.db.operator_transaction() as session:
        (await session.get_one(Run, run_id)).state = "queued"
    assert await purge._batch(run_id, Result, over) == 0
    assert await purge._rows(TENANT, [run_id], over) == 0
    assert await there(desk, run_id) == WHOLE
