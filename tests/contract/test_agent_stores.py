"""Budgets, effects and approvals hold embedded and on servers, with several processes at work at the same moment."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select

from app.agent.budget_store import Amount, DailyCaps
from app.agent.budgets import Budgets, Reservation
from app.agent.models import Approval, ApprovalState, BudgetLease, EffectState, ToolMode
from app.agent.tools import EffectLedger, OutcomeState, ToolCallPlan
from app.agent.tools.ledger import Claim, Verdict, Want
from app.errors import BudgetExceeded, Conflict
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from tests.conftest import StillClock
from tests.support.agents import ADMIN, AGENT, STRANGER, TENANT, Outside, allow, build_room

PROCESSES = 4


def budgets(database: Database, clock: StillClock, tokens: int | None = None, cost: int | None = None) -> Budgets:
    """As one process has it."""
    caps = DailyCaps(tokens, cost)
    return Budgets(database, clock, lambda _principal: caps, Metrics(CollectorRegistry()), ttl=timedelta(minutes=15))


async def reserved(database: Database) -> int:
    async with database.operator_reading() as session:
        return await session.scalar(select(func.count()).select_from(BudgetLease)) or 0


async def test_what_is_reserved_is_given_back_and_what_was_used_is_counted(
    database: Database, clock: StillClock
) -> None:
    mine = budgets(database, clock, tokens=100_000)
    first = await mine.reserve(AGENT, 900, 50)
    usage = await mine.usage(TENANT)
    assert (usage.spent, usage.reserved.tokens) == (Amount(), 1000)
    mine.settle(first, 300, 20)
    assert (await mine.usage(TENANT)).spent == Amount(300, 20)
    await mine.stop()
    elsewhere = await budgets(database, clock).usage(TENANT)
    assert (elsewhere.spent, elsewhere.reserved) == (Amount(300, 20), Amount())
    assert await reserved(database) == 0
    assert (await mine.usage(STRANGER.tenant_id)).spent == Amount()


async def test_a_call_that_costs_more_than_its_estimate_is_counted_in_full(
    database: Database, clock: StillClock
) -> None:
    mine = budgets(database, clock, tokens=1000)
    mine.settle(await mine.reserve(AGENT, 400, 0), 950, 0)
    with pytest.raises(BudgetExceeded):
        await mine.reserve(AGENT, 100, 0)
    mine.settle(await mine.reserve(AGENT, 50, 0), 50, 0)
    await mine.stop()
    assert (await mine.usage(TENANT)).spent == Amount(1000, 0)


@pytest.mark.parametrize(("tokens", "cost"), [(10_000, None), (None, 10_000)])
async def test_all_processes_together_never_pass_the_cap(
    database: Database, clock: StillClock, tokens: int | None, cost: int | None
) -> None:
    processes = [budgets(database, clock, tokens, cost) for _ in range(PROCESSES)]

    async def call(process: Budgets) -> int:
        try:
            reservation = await process.reserve(AGENT, 300, 300)
        except BudgetExceeded:
            return 0
        await asyncio.sleep(0)
        process.settle(reservation, 300, 300)
        return 300

    used = sum(await asyncio.gather(*(call(processes[n % PROCESSES]) for n in range(80))))
    for process in processes:
        await process.stop()
    assert (await processes[0].usage(TENANT)).spent.tokens == used
    assert 9_000 < used <= 10_000


async def test_a_tenant_at_work_waits_for_no_transaction_after_a_sync(
    database: Database, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = budgets(database, clock, tokens=100_000)
    mine.settle(await mine.reserve(AGENT, 100, 0), 100, 0)
    clock.advance(seconds=4)
    await mine.sync()
    clock.advance(seconds=4)
    with monkeypatch.context() as asked:
        asked.setattr(database, "transaction", None)
        mine.settle(await mine.reserve(AGENT, 900, 0), 900, 0)
    assert (await mine.usage(TENANT)).reserved.tokens == 1000
    await mine.stop()
    assert (await mine.usage(TENANT)).spent == Amount(1000, 0)
    assert await reserved(database) == 0


async def test_a_lease_of_a_day_that_is_over_is_not_kept(database: Database, clock: StillClock) -> None:
    mine = budgets(database, clock, tokens=100_000)
    mine.settle(await mine.reserve(AGENT, 100, 0), 100, 0)
    clock.advance(days=1)
    await mine.sync()
    assert await reserved(database) == 0


async def test_what_is_leased_anew_never_passes_the_cap(database: Database, clock: StillClock) -> None:
    mine, other = (budgets(database, clock, tokens=10_000) for _ in range(2))
    mine.settle(await mine.reserve(AGENT, 100, 0), 100, 0)
    held = await other.reserve(AGENT, 9_880, 0)
    await mine.sync()
    usage = await mine.usage(TENANT)
    assert usage.spent.tokens + usage.reserved.tokens <= 10_000
    with pytest.raises(BudgetExceeded):
        await mine.reserve(AGENT, 100, 0)
    other.settle(held, 0, 0)
    await other.sync()
    await mine.reserve(AGENT, 100, 0)


async def test_another_processes_unused_part_comes_back_within_two_syncs(database: Database, clock: StillClock) -> None:
    idle, busy = (budgets(database, clock, tokens=100_000) for _ in range(2))
    idle.settle(await idle.reserve(AGENT, 100, 0), 100, 0)
    with pytest.raises(BudgetExceeded):
        await busy.reserve(AGENT, 99_500, 0)
    await idle.sync()
    with pytest.raises(BudgetExceeded):
        await busy.reserve(AGENT, 99_500, 0)
    await idle.sync()
    await busy.reserve(AGENT, 99_500, 0)


async def test_what_a_dead_process_reserved_comes_back_when_it_expires(database: Database, clock: StillClock) -> None:
    dead, alive = (budgets(database, clock, tokens=1000) for _ in range(2))
    await dead.reserve(AGENT, 800, 0)
    with pytest.raises(BudgetExceeded):
        await alive.reserve(AGENT, 800, 0)
    clock.advance(minutes=16)
    reservation = await alive.reserve(AGENT, 800, 0)
    assert (await alive.usage(TENANT)).reserved.tokens == 800
    alive.settle(reservation, 100, 0)
    await alive.stop()
    assert (await alive.usage(TENANT)).reserved == Amount()
    assert await reserved(database) == 0


async def test_a_process_that_was_given_up_too_early_settles_without_harm(
    database: Database, clock: StillClock
) -> None:
    slow, other = (budgets(database, clock, tokens=1000) for _ in range(2))
    reservation = await slow.reserve(AGENT, 800, 0)
    clock.advance(minutes=16)
    other.settle(await other.reserve(AGENT, 100, 0), 100, 0)
    slow.settle(reservation, 700, 0)
    await slow.stop()
    await other.stop()
    usage = await other.usage(TENANT)
    assert (usage.spent, usage.reserved) == (Amount(800, 0), Amount())


async def test_a_call_over_midnight_is_counted_on_the_day_it_began(database: Database, clock: StillClock) -> None:
    mine = budgets(database, clock, tokens=1000)
    yesterday = clock.now.date()
    reservation = await mine.reserve(AGENT, 900, 0)
    clock.advance(hours=15)
    today = await mine.reserve(AGENT, 1000, 0)
    mine.settle(reservation, 800, 0)
    mine.settle(today, 10, 0)
    await mine.stop()
    assert (await mine.usage(TENANT, yesterday)).spent == Amount(800, 0)
    assert (await mine.usage(TENANT)).spent == Amount(10, 0)
    assert await reserved(database) == 0


async def test_refusals_end_at_midnight_utc(database: Database, clock: StillClock) -> None:
    mine = budgets(database, clock, tokens=100)
    clock.advance(hours=14, minutes=59, seconds=59)
    with pytest.raises(BudgetExceeded) as refused:
        await mine.reserve(AGENT, 101, 0)
    assert refused.value.retry_after == 1


async def test_a_cap_of_nothing_lets_only_the_free_pass(database: Database, clock: StillClock) -> None:
    mine = budgets(database, clock, cost=0)
    mine.settle(await mine.reserve(AGENT, 100, 0), 100, 0)
    with pytest.raises(BudgetExceeded):
        await mine.reserve(AGENT, 100, 1)


async def test_a_cancelled_reserve_leaves_the_books_right(database: Database, clock: StillClock) -> None:
    mine = budgets(database, clock, tokens=1000)
    for turns in range(12):
        task = asyncio.create_task(mine.reserve(AGENT, 600, 0))
        for _ in range(turns):
            await asyncio.sleep(0.001)
        task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(result, Reservation):
            mine.settle(result, 0, 0)
    await mine.stop()
    usage = await mine.usage(TENANT)
    assert (usage.spent, usage.reserved) == (Amount(), Amount())


async def test_a_sync_at_the_moment_of_a_growth_loses_nothing(database: Database, clock: StillClock) -> None:
    mine = budgets(database, clock, tokens=100_000)

    async def call() -> None:
        mine.settle(await mine.reserve(AGENT, 900, 0), 900, 0)

    for _ in range(10):
        await asyncio.gather(mine.sync(), call(), mine.sync(), call(), mine.sync())
    await mine.stop()
    assert (await budgets(database, clock).usage(TENANT)).spent == Amount(18_000, 0)
    assert await reserved(database) == 0


async def test_figures_are_written_down_in_the_background(database: Database, clock: StillClock) -> None:
    mine = Budgets(database, clock, lambda _principal: DailyCaps(), Metrics(CollectorRegistry()), sync_s=0.01)
    await mine.start()
    mine.settle(await mine.reserve(AGENT, 100, 0), 70, 3)
    for _ in range(200):
        await asyncio.sleep(0.01)
        if (await budgets(database, clock).usage(TENANT)).spent == Amount(70, 3):
            break
    else:
        pytest.fail("nothing was written down")
    await mine.stop()


WANT = Want(TENANT, "dec_1", "k", "send", {"to": "x"}, False, 30)


async def test_of_many_processes_one_claims_an_effect(database: Database, clock: StillClock) -> None:
    ledgers = [EffectLedger(database, clock) for _ in range(PROCESSES)]
    claims = await asyncio.gather(*(ledger.claim(WANT) for ledger in ledgers))
    verdicts = [claim.verdict for claim in claims]
    assert sorted(verdict.name for verdict in verdicts) == ["BUSY"] * (PROCESSES - 1) + ["RUN"]
    mine = next(claim for claim in claims if claim.verdict is Verdict.RUN)
    await ledgers[0].finish(mine, EffectState.DONE, receipt={"id": 1})
    again = await ledgers[1].claim(WANT)
    assert (again.verdict, again.receipt) == (Verdict.DONE, {"id": 1})


async def test_of_many_processes_one_takes_up_a_failed_effect(database: Database, clock: StillClock) -> None:
    ledgers = [EffectLedger(database, clock) for _ in range(PROCESSES)]
    first = await ledgers[0].claim(WANT)
    await ledgers[0].finish(first, EffectState.FAILED, error="no")
    claims = await asyncio.gather(*(ledger.claim(WANT) for ledger in ledgers))
    assert [claim.verdict for claim in claims].count(Verdict.RUN) == 1


async def test_a_late_receipt_of_a_parked_effect_is_kept_and_one_of_a_lost_claim_is_not(
    database: Database, clock: StillClock
) -> None:
    slow, other = EffectLedger(database, clock), EffectLedger(database, clock)
    claim = await slow.claim(WANT)
    clock.advance(seconds=31)
    assert (await other.claim(WANT)).verdict is Verdict.PARKED
    await slow.finish(claim, EffectState.DONE, receipt="late")
    assert (await other.claim(WANT)).receipt == "late"
    repeatable = replace(WANT, key="k2", repeatable=True)
    lost = await slow.claim(repeatable)
    taken = await other.claim(repeatable)
    assert taken.verdict is Verdict.RUN
    await slow.finish(lost, EffectState.FAILED, error="mine")
    await other.finish(taken, EffectState.DONE, receipt="theirs")
    assert (await other.claim(repeatable)).receipt == "theirs"


async def test_several_effects_are_claimed_together(database: Database, clock: StillClock) -> None:
    ledger = EffectLedger(database, clock)
    wants = [replace(WANT, key=f"k{n % 3}", args={"n": n}) for n in range(4)]
    claims = await asyncio.gather(*(ledger.claim(want) for want in wants))
    assert [(claim.key, claim.verdict, claim.args) for claim in claims] == [
        ("k0", Verdict.RUN, {"n": 0}),
        ("k1", Verdict.RUN, {"n": 1}),
        ("k2", Verdict.RUN, {"n": 2}),
        ("k0", Verdict.BUSY, {"n": 0}),
    ]
    await asyncio.gather(*(ledger.finish(claims[n], EffectState.DONE, receipt=n) for n in range(3)))
    again = await asyncio.gather(*(ledger.claim(want) for want in wants))
    assert [(claim.verdict, claim.receipt) for claim in again] == [(Verdict.DONE, n) for n in (0, 1, 2, 0)]


async def test_of_those_who_take_up_a_cut_off_effect_at_once_one_runs_it(database: Database, clock: StillClock) -> None:
    repeatable = replace(WANT, repeatable=True)
    await EffectLedger(database, clock).claim(repeatable)
    ledger = EffectLedger(database, clock)
    claims = await asyncio.gather(*(ledger.claim(repeatable) for _ in range(3)))
    assert sorted(claim.verdict.name for claim in claims) == ["BUSY", "BUSY", "RUN"]


async def test_a_claim_that_cannot_be_written_fails_no_other(database: Database, clock: StillClock) -> None:
    ledger = EffectLedger(database, clock)
    wants = [WANT, replace(WANT, key="bad", args={"n": object()}), replace(WANT, key="k2")]
    good, bad, other = await asyncio.gather(*(ledger.claim(want) for want in wants), return_exceptions=True)
    assert isinstance(bad, Exception)
    assert [claim.verdict for claim in (good, other) if isinstance(claim, Claim)] == [Verdict.RUN] * 2


async def test_a_claim_whose_caller_was_cancelled_counts_as_cut_off(database: Database, clock: StillClock) -> None:
    ledger = EffectLedger(database, clock)
    repeatable = replace(WANT, repeatable=True)
    claiming = asyncio.create_task(ledger.claim(repeatable))
    await asyncio.sleep(0)
    claiming.cancel()
    await asyncio.gather(claiming, return_exceptions=True)
    assert (await ledger.claim(repeatable)).verdict is Verdict.RUN


async def test_of_many_who_decide_one_approves_and_the_write_runs_once(database: Database, clock: StillClock) -> None:
    outside = Outside(idempotent=False)
    room = build_room(database, clock, tools=[outside.tool()])
    await allow(room, "send", mode=ToolMode.APPROVE)
    plan = ToolCallPlan("send", {}, "k")
    await asyncio.gather(*(room.executor.execute(AGENT, "dec_1", [plan]) for _ in range(PROCESSES)))
    async with database.operator_reading() as session:
        approval_id = (await session.scalars(select(Approval.id))).one()

    async def decide(approve: bool) -> str:
        decision = room.executor.approvals.approve if approve else room.executor.approvals.reject
        try:
            async with database.operator_transaction() as session:
                return (await decision(session, ADMIN, approval_id)).state
        except Conflict:
            return "conflict"

    states = await asyncio.gather(*(decide(n % 2 == 0) for n in range(PROCESSES)))
    assert states.count("conflict") == PROCESSES - 1
    outcome = (await room.executor.execute(AGENT, "dec_1", [plan]))[0]
    expected = OutcomeState.DONE if ApprovalState.APPROVED in states else OutcomeState.DENIED
    assert (outcome.state, outside.runs) == (expected, int(expected is OutcomeState.DONE))
