"""A process that dies at any point of a write, and comes back: never two side effects."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from app.agent.models import EffectRow, EffectState
from app.agent.tools import EffectLedger, OutcomeState, ToolCallPlan, ToolContext, ToolOutcome
from app.agent.tools.ledger import Claim, Want
from app.agent.tools.records import (
    EffectRepository,
    count_waiting,
    erase_subjects,
    export_subjects,
    settle_parked,
)
from app.errors import Conflict, Forbidden, NotFound
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import ADMIN, AGENT, STRANGER, VIEWER, Outside, Room, SendArgs, allow, build_room

PLAN = ToolCallPlan("send", {}, "dec_1:send")
LEASE_S = 60


class Died(BaseException):
    """The process is gone: nothing after it runs."""


class DyingLedger(EffectLedger):
    """Dies once, at a point around a write."""

    def __init__(self, db: Database, clock: StillClock, point: str) -> None:
        super().__init__(db, clock)
        self.point = point

    def die(self, point: str) -> None:
        if point == self.point:
            raise Died(point)

    async def claim(self, want: Want) -> Claim:
        self.die("before claim")
        claim = await super().claim(want)
        self.die("after claim")
        return claim

    async def finish(self, *args: Any, **settings: Any) -> None:
        self.die("after run")
        await super().finish(*args, **settings)
        self.die("after receipt")


async def one(room: Room, plan: ToolCallPlan = PLAN) -> ToolOutcome:
    return (await room.executor.execute(AGENT, "dec_1", [plan]))[0]


async def die_at(point: str, outside: Outside, db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, tools=[outside.tool()], ledger=DyingLedger(db, clock, point))
    await allow(room, "send")
    with pytest.raises(Died):
        await one(room)


async def come_back(outside: Outside, db: Database, clock: StillClock) -> ToolOutcome:
    return await one(build_room(db, clock, tools=[outside.tool()]))


@pytest.mark.parametrize(
    ("point", "runs"), [("before claim", 1), ("after claim", 1), ("after run", 2), ("after receipt", 1)]
)
async def test_an_idempotent_write_is_done_once_wherever_the_process_dies(
    db: Database, clock: StillClock, point: str, runs: int
) -> None:
    outside = Outside(idempotent=True)
    await die_at(point, outside, db, clock)
    outcome = await come_back(outside, db, clock)
    assert outcome.state is OutcomeState.DONE
    assert outcome.result == {"id": "mail-dec_1:send"}
    assert outside.happened == ["dec_1:send"]
    assert outside.runs == runs


@pytest.mark.parametrize(
    ("point", "happened", "state"),
    [
        ("before claim", 1, OutcomeState.DONE),
        ("after claim", 0, OutcomeState.PARKED),
        ("after run", 1, OutcomeState.PARKED),
        ("after receipt", 1, OutcomeState.DONE),
    ],
)
async def test_any_other_write_is_parked_where_nobody_can_know(
    db: Database, clock: StillClock, point: str, happened: int, state: OutcomeState
) -> None:
    outside = Outside(idempotent=False)
    await die_at(point, outside, db, clock)
    clock.advance(seconds=LEASE_S)
    for _ in range(2):
        outcome = await come_back(outside, db, clock)
        assert outcome.state is state
    assert len(outside.happened) == happened
    assert ("settle it by hand" in outcome.error) == (state is OutcomeState.PARKED)


async def test_a_write_that_may_still_run_elsewhere_is_waited_for_and_then_parked(
    db: Database, clock: StillClock
) -> None:
    outside = Outside(idempotent=False)
    await die_at("after run", outside, db, clock)
    waiting = asyncio.create_task(come_back(outside, db, clock))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    clock.advance(seconds=LEASE_S)
    assert (await waiting).state is OutcomeState.PARKED
    assert outside.runs == 1


@pytest.mark.parametrize("idempotent", [True, False])
async def test_the_same_key_twice_at_once_runs_once_and_both_get_the_receipt(
    db: Database, clock: StillClock, idempotent: bool
) -> None:
    outside = Outside(idempotent=idempotent)

    async def slowly(context: ToolContext, args: SendArgs) -> dict[str, str]:
        await asyncio.sleep(0.05)
        return await outside.send(context, args)

    room = build_room(db, clock, tools=[outside.tool(run=slowly)])
    await allow(room, "send")
    outcomes = await asyncio.gather(*(one(room) for _ in range(5)))
    assert [outcome.result for outcome in outcomes] == [{"id": "mail-dec_1:send"}] * 5
    assert outside.runs == 1


async def test_a_cancelled_write_counts_as_cut_off(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=True)
    started = asyncio.Event()

    async def hangs_once(context: ToolContext, args: SendArgs) -> dict[str, str]:
        if not started.is_set():
            started.set()
            await asyncio.sleep(30)
        return await outside.send(context, args)

    room = build_room(db, clock, tools=[outside.tool(run=hangs_once)])
    await allow(room, "send")
    running = asyncio.create_task(one(room))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await asyncio.wait_for(one(room), timeout=5)).state is OutcomeState.DONE


async def test_what_runs_again_runs_with_the_arguments_of_the_first_time(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=True)
    await die_at("after claim", outside, db, clock)
    room = build_room(db, clock, tools=[outside.tool()])
    await one(room, ToolCallPlan("send", {"body": "rewritten by the model"}, PLAN.key))
    assert [args.body for _, args in outside.seen] == ["hello"]


async def test_a_key_belongs_to_one_tool_of_one_tenant(db: Database, clock: StillClock) -> None:
    outside, other = Outside(idempotent=True), Outside(idempotent=True)
    room = build_room(db, clock, tools=[outside.tool(), other.tool(name="post")])
    await allow(room, "send", "post")
    await allow(room, "send", by=STRANGER)
    await one(room)
    taken = await one(room, ToolCallPlan("post", {}, PLAN.key))
    assert (taken.state, other.runs) == (OutcomeState.FAILED, 0)
    assert "belongs to a call of another tool" in taken.error
    stranger = await room.executor.execute(STRANGER, "dec_1", [PLAN])
    assert (stranger[0].state, outside.runs) == (OutcomeState.DONE, 2)


async def parked(db: Database, clock: StillClock, outside: Outside) -> EffectRow:
    await die_at("after claim", outside, db, clock)
    clock.advance(seconds=LEASE_S)
    await come_back(outside, db, clock)
    async with db.operator_reading() as session:
        assert (await count_waiting(session)).parked == 1
        return (await EffectRepository(session, AGENT.tenant_id).parked())[0]


@pytest.mark.parametrize(("happened", "runs"), [(True, 0), (False, 1)])
async def test_a_persons_word_settles_a_parked_write(
    db: Database, clock: StillClock, happened: bool, runs: int
) -> None:
    outside = Outside(idempotent=False)
    effect = await parked(db, clock, outside)
    room = build_room(db, clock, tools=[outside.tool()])
    async with db.operator_transaction() as session:
        await settle_parked(session, ADMIN, room.audit, clock, effect.id, happened=happened)
    assert (await one(room)).state is OutcomeState.DONE
    assert outside.runs == runs


async def test_only_a_parked_write_of_the_own_tenant_can_be_settled_and_by_an_admin_alone(
    db: Database, clock: StillClock
) -> None:
    effect = await parked(db, clock, Outside(idempotent=False))
    room = build_room(db, clock)
    for who, error in ((VIEWER, Forbidden), (AGENT, Forbidden), (STRANGER, NotFound)):
        with pytest.raises(error):
            async with db.operator_transaction() as session:
                await settle_parked(session, who, room.audit, clock, effect.id, happened=True)
    async with db.operator_transaction() as session:
        await settle_parked(session, ADMIN, room.audit, clock, effect.id, happened=True)
    with pytest.raises(Conflict, match="is done"):
        async with db.operator_transaction() as session:
            await settle_parked(session, ADMIN, room.audit, clock, effect.id, happened=False)


async def test_a_persons_writes_can_be_given_out_and_erased(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=True)
    room = build_room(db, clock, tools=[outside.tool()])
    await allow(room, "send")
    await one(room)
    await room.executor.execute(AGENT, "dec_2", [ToolCallPlan("send", {"body": "other"}, "dec_2:send")])
    async with db.operator_transaction() as session:
        exported = await export_subjects(session, AGENT.tenant_id, ["dec_1"])
        assert [entry["args"] for entry in exported] == [{"to": "lead@acme.example", "body": "hello"}]
        assert await export_subjects(session, STRANGER.tenant_id, ["dec_1"]) == []
        assert await erase_subjects(session, AGENT.tenant_id, ["dec_1"]) == 1
    async with db.operator_reading() as session:
        rows = (await session.scalars(select(EffectRow).order_by(EffectRow.key))).all()
    assert [(row.args.get("body"), row.state) for row in rows] == [(None, EffectState.DONE), ("other", "done")]
    await one(room)
    assert outside.runs == 2
