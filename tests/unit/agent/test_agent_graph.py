"""Any graph of plans: order kept, each at most once, what is denied never runs."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.agent.models import ToolMode
from app.agent.tools import Effect, OutcomeState, ToolCallPlan, ToolOutcome
from app.agent.tools.graph import check_plans, run_in_order
from app.errors import InvalidInput
from app.ids import new_id
from app.principal import Principal, Role
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import Outside, allow, build_room
from tests.support.examples import examples

DONE, FAILED, DENIED = OutcomeState.DONE, OutcomeState.FAILED, OutcomeState.DENIED


def plan(key: str, *after: str) -> ToolCallPlan:
    return ToolCallPlan("tool", {}, key, after)


@pytest.mark.parametrize(
    ("plans", "why"),
    [
        ([plan("a"), plan("a")], "planned twice"),
        ([plan("a", "b")], "not among"),
        ([plan("a", "a")], "wait for each other"),
        ([plan("a", "b"), plan("b", "c"), plan("c", "a")], "wait for each other"),
        ([plan("")], "needs a key"),
        ([plan("x" * 201)], "needs a key"),
    ],
)
def test_plans_that_contradict_themselves_are_refused(plans: Sequence[ToolCallPlan], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        check_plans(plans)


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[ToolCallPlan, OutcomeState, int]]:
    """Plans in any order, each with how it would end and how many turns it takes."""
    count = draw(st.integers(1, 10))
    ends = st.sampled_from([DONE, DONE, DONE, FAILED, DENIED])
    nodes = []
    for number in range(count):
        after = draw(st.sets(st.integers(0, number - 1))) if number else set()
        nodes.append((plan(str(number), *map(str, sorted(after))), draw(ends), draw(st.integers(0, 3))))
    return draw(st.permutations(nodes))


@given(graphs())
@settings(max_examples=examples(200), deadline=None)
def test_every_plan_runs_at_most_once_and_only_after_all_that_it_names_are_done(
    nodes: list[tuple[ToolCallPlan, OutcomeState, int]],
) -> None:
    ends = {node.key: end for node, end, _ in nodes}
    turns = {node.key: count for node, _, count in nodes}
    began: list[str] = []
    ended: set[str] = set()

    async def run(node: ToolCallPlan) -> ToolOutcome:
        assert ended >= set(node.after)
        began.append(node.key)
        for _ in range(turns[node.key]):
            await asyncio.sleep(0)
        ended.add(node.key)
        return ToolOutcome(node.tool, node.key, ends[node.key])

    def skip(node: ToolCallPlan, why: str) -> ToolOutcome:
        return ToolOutcome(node.tool, node.key, OutcomeState.SKIPPED, error=why)

    plans = [node for node, _, _ in nodes]
    check_plans(plans)
    outcomes = {o.key: o for o in asyncio.run(run_in_order(plans, run, skip))}
    assert list(outcomes) == [node.key for node in plans]
    assert len(began) == len(set(began))
    for node in plans:
        ready = all(outcomes[key].state is DONE for key in node.after)
        assert (node.key in began) == ready
        assert outcomes[node.key].state is (ends[node.key] if ready else OutcomeState.SKIPPED)


async def test_independent_plans_run_at_the_same_time() -> None:
    together = asyncio.Barrier(3)

    async def run(node: ToolCallPlan) -> ToolOutcome:
        await asyncio.wait_for(together.wait(), timeout=5)
        return ToolOutcome(node.tool, node.key, DONE)

    outcomes = await run_in_order([plan("a"), plan("b"), plan("c")], run, lambda node, why: pytest.fail(why))
    assert [outcome.state for outcome in outcomes] == [DONE] * 3


TOOLS = ("read", "write", "denied", "waiting", "made_up")


@st.composite
def calls(draw: st.DrawFn) -> list[ToolCallPlan]:
    made = [
        ToolCallPlan(draw(st.sampled_from(TOOLS)), {}, f"k{n}", tuple(draw(st.sets(st.sampled_from(before)))))
        for n in range(draw(st.integers(1, 6)))
        for before in [[f"k{b}" for b in range(n)] or [f"k{n}"]]
    ]
    return [ToolCallPlan(p.tool, p.args, p.key, tuple(k for k in p.after if k != p.key)) for p in made]


@given(calls())
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_however_often_plans_are_executed_a_write_runs_once_and_what_is_denied_never(
    db: Database, clock: StillClock, plans: list[ToolCallPlan]
) -> None:
    outside = Outside(idempotent=False)
    tools = [outside.tool(name=name, effect=Effect.READ if name == "read" else Effect.WRITE) for name in TOOLS[:-1]]
    room = build_room(db, clock, tools=tools)
    tenant = new_id("ten")
    admin = Principal(tenant, "admin", Role.ADMIN)
    await allow(room, "read", "write", by=admin)
    await allow(room, "waiting", mode=ToolMode.APPROVE, by=admin)
    for _ in range(2):
        outcomes = {o.key: o for o in await room.executor.execute(admin, "dec", plans)}
    ran = [context.key for context, _ in outside.seen]
    ends = {"read": {DONE}, "write": {DONE}, "denied": {DENIED}, "made_up": {DENIED}}
    for node in plans:
        ready = all(outcomes[key].state is DONE for key in node.after)
        expected = ends.get(node.tool, {OutcomeState.WAITING_APPROVAL}) if ready else {OutcomeState.SKIPPED}
        assert outcomes[node.key].state in expected
        assert ran.count(node.key) == {"read": 2, "write": 1}.get(node.tool, 0) * ready
