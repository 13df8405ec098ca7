"""Tools that hang, lie and raise; who may use them; who must approve."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import select

from app.agent.models import Approval, ApprovalState, ToolMode
from app.agent.tools import Effect, OutcomeState, Tool, ToolCallPlan, ToolContext, ToolOutcome, ToolRegistry
from app.agent.tools.records import count_waiting
from app.errors import ConfigError, Conflict, Forbidden, InvalidInput, NotFound, RateLimited, TrellisError
from app.governance.models import AuditEntry
from app.principal import Role
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import (
    ADMIN,
    AGENT,
    FIND,
    STRANGER,
    VIEWER,
    Outside,
    Room,
    SendArgs,
    allow,
    build_room,
)

Run = Callable[[ToolContext, Any], Awaitable[Any]]


class VendorError(TrellisError):
    """As the integrations raise it."""

    def __init__(self, *, retryable: bool, uncertain: bool) -> None:
        super().__init__("The CRM is down.")
        self.retryable, self.uncertain, self.retry_after = retryable, uncertain, None


def raising(*errors: Exception, then: Any = "fine") -> tuple[Run, list[int]]:
    left, runs = list(errors), [0]

    async def run(_context: ToolContext, _args: SendArgs) -> Any:
        runs[0] += 1
        if left:
            raise left.pop(0)
        return then

    return run, runs


async def execute(room: Room, *plans: ToolCallPlan) -> list[ToolOutcome]:
    await allow(room, *{plan.tool for plan in plans})
    return await room.executor.execute(AGENT, "dec_1", plans)


async def call(db: Database, clock: StillClock, run: Run, **settings: Any) -> ToolOutcome:
    tool = Outside(idempotent=False).tool(run=run, **settings)
    return (await execute(build_room(db, clock, tools=[tool]), ToolCallPlan("send", {}, "k")))[0]


async def test_a_tool_gets_who_calls_the_key_and_its_typed_arguments(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=True)
    room = build_room(db, clock, tools=[outside.tool(), FIND])
    sent, found = await execute(
        room, ToolCallPlan("send", {"body": "hi"}, "k1"), ToolCallPlan("find", {"query": "prices"}, "k2")
    )
    assert outside.seen == [(ToolContext(AGENT, "k1", "dec_1"), SendArgs(body="hi"))]
    assert (sent.state, sent.result, found.result) == (OutcomeState.DONE, {"id": "mail-k1"}, ["about prices"])
    assert sent.duration_ms > 0
    assert sent.as_row() | {"duration_ms": 0} == {
        "tool": "send",
        "effect": "write",
        "state": "done",
        "key": "k1",
        "duration_ms": 0,
        "detail": "",
    }
    assert room.count("tool_calls_total", tool="send", outcome="done") == 1
    assert room.count("tool_duration_seconds_count", tool="find") == 1


async def test_an_end_user_reaches_no_tool_that_is_not_for_users(db: Database, clock: StillClock) -> None:
    outside, user = Outside(idempotent=True), replace(AGENT, role=Role.USER, user_id="u-1")
    room = build_room(db, clock, tools=[outside.tool(), FIND, replace(FIND, name="own", for_users=True)])
    await allow(room, "send", "find", "own")
    plans = [ToolCallPlan("send", {"to": "a@b.example"}, "k1")]
    plans += [ToolCallPlan(name, {"query": "x"}, name) for name in ("find", "own")]
    outcomes = await room.executor.execute(user, "dec_1", plans)
    assert [outcome.state for outcome in outcomes] == [OutcomeState.DENIED, OutcomeState.DENIED, OutcomeState.DONE]
    assert "is not for end users" in outcomes[1].error
    assert outside.runs == 0


async def test_nothing_is_allowed_that_no_row_allows(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=True)
    room = build_room(db, clock, tools=[outside.tool(), FIND])
    await allow(room, "send", by=STRANGER)
    plans = [ToolCallPlan("send", {}, "k1"), ToolCallPlan("find", {"query": "x"}, "k2"), ToolCallPlan("rm", {}, "k3")]
    outcomes = await room.executor.execute(AGENT, "dec_1", plans)
    assert {outcome.state for outcome in outcomes} == {OutcomeState.DENIED}
    assert "allow list" in outcomes[0].error
    assert outside.runs == 0
    assert room.count("tool_calls_total", tool="unknown", outcome="denied") == 1
    async with db.operator_reading() as session:
        denied = await session.scalars(select(AuditEntry.action).where(AuditEntry.tenant_id == AGENT.tenant_id))
        assert list(denied) == ["tool.denied", "tool.denied"]


async def test_a_tool_that_is_taken_away_stops_within_a_second_in_every_process(
    db: Database, clock: StillClock
) -> None:
    outside = Outside(idempotent=True)
    room, elsewhere = (build_room(db, clock, tools=[outside.tool()]) for _ in range(2))
    now = [0.0]
    elsewhere.policies._known._timer = lambda: now[0]
    await allow(room, "send")
    assert await elsewhere.policies.modes(AGENT.tenant_id) == {"send": ToolMode.ALLOW}
    await allow(room, "send", mode=None)
    assert await room.policies.modes(AGENT.tenant_id) == {}
    now[0] = 1.1
    outcomes = await elsewhere.executor.execute(AGENT, "dec_1", [ToolCallPlan("send", {}, "k")])
    assert (outcomes[0].state, outside.runs) == (OutcomeState.DENIED, 0)


async def test_only_an_admin_changes_the_allow_list(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock)
    with pytest.raises(Forbidden):
        await allow(room, "send", by=AGENT)
    assert await room.policies.modes(AGENT.tenant_id) == {}


async def test_wrong_arguments_are_one_sentence_and_nothing_runs(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=True)
    room = build_room(db, clock, tools=[outside.tool()])
    wrong, more = await execute(
        room, ToolCallPlan("send", {"to": 5}, "k1"), ToolCallPlan("send", {"bcc": "x@y.example"}, "k2")
    )
    assert wrong.error == "The arguments of 'send' are not valid at to: Input should be a valid string."
    assert (wrong.state, more.state, outside.runs) == (OutcomeState.FAILED, OutcomeState.FAILED, 0)


class Stubborn:
    """Hangs until it is let go, whether it is cancelled or not."""

    def __init__(self, *, swallows: bool) -> None:
        self.swallows = swallows
        self.go = asyncio.Event()
        self.ended = False

    async def __call__(self, _context: ToolContext, _args: SendArgs) -> None:
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                if not self.swallows:
                    raise
        self.ended = True


@pytest.mark.parametrize("swallows", [False, True])
@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ({"effect": Effect.READ}, OutcomeState.FAILED),
        ({"idempotent": True}, OutcomeState.FAILED),
        ({}, OutcomeState.PARKED),
    ],
)
async def test_a_tool_that_hangs_is_an_outcome_in_time(
    db: Database, clock: StillClock, swallows: bool, settings: dict[str, Any], state: OutcomeState
) -> None:
    run = Stubborn(swallows=swallows)
    outcome = await call(db, clock, run, timeout_s=0.05, **settings)
    assert not run.ended
    run.go.set()
    assert outcome.state is state
    assert "did not end within 0.05 s" in outcome.error


async def cancels_itself(_context: ToolContext, _args: SendArgs) -> None:
    raise asyncio.CancelledError


def is_no_coroutine(_context: ToolContext, _args: SendArgs) -> str:
    return "sent"


@pytest.mark.parametrize("run", [cancels_itself, is_no_coroutine, raising(ValueError("password=hunter2"))[0]])
async def test_a_tool_that_crashes_is_an_outcome_that_does_not_quote_it(
    db: Database, clock: StillClock, run: Run
) -> None:
    outcome = await call(db, clock, run, effect=Effect.READ)
    assert outcome.state is OutcomeState.FAILED
    assert "'send'" in outcome.error
    assert "hunter2" not in outcome.error


class Receipt(BaseModel):
    id: str


@pytest.mark.parametrize("result", [object(), {1, 2}, "x" * 300_000, {"no": "id"}, float("nan")])
async def test_a_tool_that_lies_about_its_result_is_an_outcome(db: Database, clock: StillClock, result: Any) -> None:
    returns = {"returns": Receipt} if isinstance(result, dict | float) else {}
    run, runs = raising(then=result)
    read = await call(db, clock, run, effect=Effect.READ, **returns)
    assert (read.state, runs[0]) == (OutcomeState.FAILED, 1)
    written = await call(db, clock, run, **returns)
    assert written.state is OutcomeState.PARKED
    assert "gave back" in written.error


async def test_results_become_json_values_without_nul(db: Database, clock: StillClock) -> None:
    run, _ = raising(then={"text": "a\0b", "list": ["\0", 1]})
    assert (await call(db, clock, run)).result == {"text": "ab", "list": ["", 1]}
    run, _ = raising(then=Receipt(id="7"))
    assert (await call(db, clock, run, effect=Effect.READ, returns=Receipt)).result == {"id": "7"}


SURE = VendorError(retryable=True, uncertain=False)
UNSURE = VendorError(retryable=True, uncertain=True)
LASTING = VendorError(retryable=False, uncertain=False)


@pytest.mark.parametrize(
    ("error", "idempotent", "runs", "state"),
    [
        (SURE, True, 2, OutcomeState.DONE),
        (UNSURE, True, 2, OutcomeState.DONE),
        (LASTING, True, 1, OutcomeState.FAILED),
        (SURE, False, 2, OutcomeState.DONE),
        (UNSURE, False, 1, OutcomeState.PARKED),
        (LASTING, False, 1, OutcomeState.FAILED),
        (RateLimited("slow down", retry_after=0.001), False, 2, OutcomeState.DONE),
        (InvalidInput("no such address"), False, 1, OutcomeState.FAILED),
        (ConnectionResetError(), True, 2, OutcomeState.DONE),
        (ConnectionResetError(), False, 1, OutcomeState.PARKED),
        (ValueError("bug"), False, 1, OutcomeState.PARKED),
    ],
)
async def test_a_write_is_tried_again_only_where_that_is_safe(
    db: Database, clock: StillClock, error: Exception, idempotent: bool, runs: int, state: OutcomeState
) -> None:
    run, ran = raising(error)
    outcome = await call(db, clock, run, idempotent=idempotent)
    assert (outcome.state, ran[0]) == (state, runs)


async def test_a_failed_write_may_be_asked_for_again(db: Database, clock: StillClock) -> None:
    run, runs = raising(LASTING)
    room = build_room(db, clock, tools=[Outside(idempotent=False).tool(run=run)])
    plan = ToolCallPlan("send", {}, "k")
    first, second, third = [(await execute(room, plan))[0] for _ in range(3)]
    assert [first.state, second.state, third.state] == [OutcomeState.FAILED, OutcomeState.DONE, OutcomeState.DONE]
    assert runs[0] == 2


async def test_a_broken_tool_is_left_alone_for_its_tenant_and_for_no_other(db: Database, clock: StillClock) -> None:
    run, runs = raising(*[LASTING] * 2, *[ValueError()] * 2, then="fine")
    tool = Tool("send", "", SendArgs, run, Effect.READ, attempts=1)
    room = build_room(db, clock, tools=[tool], breaker={"failures": 2})
    await allow(room, "send", by=STRANGER)
    for number in range(5):
        outcome = (await execute(room, ToolCallPlan("send", {}, f"k{number}")))[0]
    assert runs[0] == 4
    assert "failed repeatedly" in outcome.error
    assert room.count("breaker_state", name="tool:send") == 2
    stranger = await room.executor.execute(STRANGER, "dec_1", [ToolCallPlan("send", {}, "k")])
    assert stranger[0].state is OutcomeState.DONE


async def waiting(db: Database, clock: StillClock, outside: Outside) -> tuple[Room, str]:
    room = build_room(db, clock, tools=[outside.tool()])
    await allow(room, "send", mode=ToolMode.APPROVE)
    for body in ("hello", "another text"):
        plan = ToolCallPlan("send", {"body": body}, "k1")
        outcome = (await room.executor.execute(AGENT, "dec_1", [plan]))[0]
        assert outcome.state is OutcomeState.WAITING_APPROVAL
    async with db.operator_reading() as session:
        approval = (await session.scalars(select(Approval))).one()
        assert (await count_waiting(session)).pending == 1
    return room, approval.id


async def decide(room: Room, approval_id: str, *, approve: bool = True, by: Any = ADMIN) -> Approval:
    decision = room.executor.approvals.approve if approve else room.executor.approvals.reject
    async with room.db.operator_transaction() as session:
        return await decision(session, by, approval_id)


async def test_an_approved_write_runs_exactly_once_with_what_was_approved(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=False)
    room, approval_id = await waiting(db, clock, outside)
    assert (await decide(room, approval_id)).decided_by == ADMIN.actor
    again = [ToolCallPlan("send", {"body": "a third text"}, "k1")]
    runs = await asyncio.gather(*(room.executor.execute(AGENT, "dec_1", again) for _ in range(4)))
    outcomes = [outcome for run in runs for outcome in run]
    assert [outcome.result for outcome in outcomes] == [{"id": "mail-k1"}] * 4
    assert [args.body for _, args in outside.seen] == ["hello"]


async def test_a_second_decision_is_a_conflict_whichever_it_is(db: Database, clock: StillClock) -> None:
    room, approval_id = await waiting(db, clock, Outside(idempotent=False))
    await decide(room, approval_id)
    for approve in (True, False):
        with pytest.raises(Conflict, match="already approved, by key_admin"):
            await decide(room, approval_id, approve=approve, by=ADMIN)
    async with db.operator_reading() as session:
        actions = list(await session.scalars(select(AuditEntry.action).order_by(AuditEntry.seq)))
    assert actions == ["tool.policy", "approval.requested", "approval.approved"]


async def test_a_rejected_write_never_runs(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=False)
    room, approval_id = await waiting(db, clock, outside)
    assert (await decide(room, approval_id, approve=False)).state == ApprovalState.REJECTED
    outcome = (await room.executor.execute(AGENT, "dec_1", [ToolCallPlan("send", {}, "k1")]))[0]
    assert (outcome.state, outcome.error) == (OutcomeState.DENIED, "It was rejected by key_admin.")
    assert outside.runs == 0


async def test_an_approval_is_of_one_tenant_and_not_for_viewers(db: Database, clock: StillClock) -> None:
    room, approval_id = await waiting(db, clock, Outside(idempotent=False))
    for by, error in ((STRANGER, NotFound), (VIEWER, Forbidden)):
        with pytest.raises(error):
            await decide(room, approval_id, by=by)


async def test_an_approved_tool_that_was_taken_away_does_not_run(db: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=False)
    room, approval_id = await waiting(db, clock, outside)
    await decide(room, approval_id)
    await allow(room, "send", mode=None)
    outcome = (await room.executor.execute(AGENT, "dec_1", [ToolCallPlan("send", {}, "k1")]))[0]
    assert outcome.state is OutcomeState.DENIED
    assert outside.runs == 0


def test_the_registry_refuses_names_that_clash_or_that_models_do_not_take() -> None:
    def named(name: str, **settings: Any) -> Tool:
        return Outside(idempotent=True).tool(name=name, **settings)

    assert ToolRegistry([named("b"), named("a")]).names == ("a", "b")
    for tools in ([named("a"), named("a")], [named("a b")], [named("unknown")], [named("")]):
        with pytest.raises(ConfigError):
            ToolRegistry(tools)
    for settings in ({"timeout_s": 0}, {"attempts": 0}):
        with pytest.raises(ConfigError):
            ToolRegistry([named("a", **settings)])
    with pytest.raises(ConfigError, match="no pack registers it"):
        ToolRegistry([]).spec("a")
