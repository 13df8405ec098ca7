"""Runs from their start to their end, on real jobs and rows, with agents that the test plays."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import BudgetExceeded, Conflict, InvalidInput
from app.messages.base import NoAnswer
from app.packs.treatments import runs
from app.packs.treatments import sweep as sweeping
from app.packs.treatments.chunks import DIED
from app.packs.treatments.models import Customer, Result, Run, RunChunk
from app.packs.treatments.run_rows import ChunkRepository
from app.packs.treatments.schemas_runs import ResumeIn
from app.packs.treatments.stages import RecommendationAsked
from app.packs.treatments.sweep import Sweep
from app.storage.db import Database
from tests.support.jobs import until
from tests.support.treatments import ADMIN, TENANT, Bench, bench, failing

AWAY = NoAnswer("The model is away.", retry_after=5)
SPENT = BudgetExceeded("The tenant's budget is spent for today.", retry_after=3600, scope="tenant")


@pytest.fixture
async def work(db: Database) -> AsyncIterator[Bench]:
    async with bench(db, f"sqlite+aiosqlite:///{db.writer.url.database}") as opened:
        await opened.catalogue()
        yield opened


async def steer(work: Bench, verb: str, run_id: str, *more: object) -> None:
    async with work.db.operator_transaction() as session:
        await getattr(work.service, verb)(session, ADMIN, run_id, *more)


async def sweep(work: Bench) -> int:
    return await Sweep(work.kit, work.lanes).all()


async def once_each(work: Bench, run_id: str, customers: int) -> Counter[str]:
    """The states of the results, of which every customer has exactly one."""
    results = await work.results(run_id)
    run = await work.run(run_id)
    assert len({result.customer_id for result in results}) == len(results) == customers
    assert (run.finished, run.total, run.chunks_open) == (customers, customers, 0)
    states = Counter(result.state for result in results)
    assert run.set_aside == states["set_aside"]
    return states


class Gate:
    """Holds the agents once `after` chunks went through."""

    def __init__(self, work: Bench, after: int) -> None:
        self._left = after
        self._open = asyncio.Event()
        self.waiting = 0
        work.agents.before = self._pass

    async def _pass(self, _asked: RecommendationAsked) -> None:
        self._left -= 1
        if self._left < 0:
            self.waiting += 1
            await self._open.wait()

    def open(self) -> None:
        self._open.set()


async def test_every_customer_has_one_result_and_some_are_held_back(work: Bench) -> None:
    await work.customers(450)
    run_id = await work.start(control_share=0.2)
    run = await work.reaches(run_id, "done")
    states = await once_each(work, run_id, 450)
    assert states.keys() == {"proposed", "control"}
    assert 50 < states["control"] < 130
    asked = {one for part in work.agents.asked for one in part}
    held = {result.customer_id for result in await work.results(run_id) if result.state == "control"}
    assert len(asked) == states["proposed"]
    assert not asked & held
    assert run.chunks == 5
    assert work.agents.allocated == [run_id]


async def test_the_same_seed_holds_the_same_customers_back(work: Bench) -> None:
    await work.customers(80)
    held = []
    for seed in (3, 3, 4):
        run_id = await work.start(seed=seed, control_share=0.5, allocate=False)
        await work.reaches(run_id, "done")
        held.append({result.customer_id for result in await work.results(run_id) if result.state == "control"})
    assert held[0] == held[1] != held[2]
    assert work.agents.allocated == []


async def test_never_more_chunks_are_under_way_than_lanes(work: Bench) -> None:
    await work.customers(1000)
    gate = Gate(work, after=0)
    run_id = await work.start(control_share=0)
    await until(lambda: gate.waiting == work.lanes.number, "every lane has a chunk")
    async with work.db.operator_reading() as session:
        chunks = await session.scalar(select(func.count()).select_from(RunChunk))
    assert chunks == (await work.run(run_id)).chunks_open == work.lanes.number == 2
    gate.open()
    await work.reaches(run_id, "done")
    await once_each(work, run_id, 1000)


async def test_who_comes_after_the_run_was_made_is_not_of_it(work: Bench) -> None:
    await work.customers(150)
    gate = Gate(work, after=0)
    run_id = await work.start()
    await work.customers(100)
    gate.open()
    await work.reaches(run_id, "done")
    await once_each(work, run_id, 150)


async def test_only_the_segment_or_the_list_is_decided(work: Bench) -> None:
    await work.customers(120, "gold")
    others = await work.customers(130, "tin")
    by_segment = await work.start(segment="gold", allocate=False)
    by_list = await work.start(customers=[*others[:110], *others[:5]], allocate=False)
    for run_id, number in ((by_segment, 120), (by_list, 110)):
        await work.reaches(run_id, "done")
        await once_each(work, run_id, number)


async def test_a_paused_run_keeps_what_is_done_and_goes_on_where_it_stopped(work: Bench) -> None:
    await work.customers(600)
    gate = Gate(work, after=2)
    run_id = await work.start(control_share=0)
    await until(lambda: gate.waiting == 2, "two chunks are under way")
    await steer(work, "pause", run_id)
    gate.open()
    run = await work.rests(run_id)
    assert (run.state, run.finished, run.resume_at) == ("paused", 400, None)
    assert await sweep(work) == 0
    await steer(work, "resume", run_id, ResumeIn())
    await work.reaches(run_id, "done")
    await once_each(work, run_id, 600)
    assert len(work.agents.asked) == 6


async def test_a_cancelled_run_keeps_what_is_done_and_may_be_resumed(work: Bench) -> None:
    await work.customers(500)
    gate = Gate(work, after=1)
    run_id = await work.start(control_share=0)
    await until(lambda: gate.waiting == 2, "two chunks are under way")
    await steer(work, "cancel", run_id)
    await steer(work, "cancel", run_id)
    gate.open()
    run = await work.rests(run_id)
    assert (run.state, run.finished) == ("cancelled", 300)
    assert work.agents.allocated == []
    with pytest.raises(Conflict, match="is cancelled"):
        await steer(work, "pause", run_id)
    await steer(work, "resume", run_id, ResumeIn())
    await work.reaches(run_id, "done")
    await once_each(work, run_id, 500)


async def test_an_error_that_passes_is_tried_again_without_anyone_set_aside(work: Bench) -> None:
    await work.customers(200)
    failures = iter([AWAY, RuntimeError("a hiccup")])

    async def before(_asked: RecommendationAsked) -> None:
        if (error := next(failures, None)) is not None:
            raise error

    work.agents.before = before
    run_id = await work.start(control_share=0)
    await work.reaches(run_id, "done")
    assert await once_each(work, run_id, 200) == {"proposed": 200}


async def test_only_the_poison_customer_is_set_aside_with_the_reason(work: Bench) -> None:
    await work.customers(250)
    async with work.db.operator_reading() as session:
        poison = set((await session.scalars(select(Customer.id).where(Customer.external_id.in_(["c7", "c133"])))).all())
    work.agents.before = failing(ValueError("no such plan"), poison)
    run_id = await work.start(control_share=0)
    await work.reaches(run_id, "done")
    assert await once_each(work, run_id, 250) == {"proposed": 248, "set_aside": 2}
    aside = [result for result in await work.results(run_id) if result.state == "set_aside"]
    assert {result.customer_id for result in aside} == poison
    assert {result.reason for result in aside} == {"run: ValueError: no such plan"}
    assert len(work.agents.asked) < 50


async def test_input_that_is_refused_is_halved_at_once(work: Bench) -> None:
    await work.customers(3)
    async with work.db.operator_reading() as session:
        poison = {(await session.scalars(select(Customer.id).where(Customer.external_id == "c1"))).one()}
    work.agents.before = failing(InvalidInput("Its plan is unknown."), poison)
    run_id = await work.start(control_share=0)
    await work.reaches(run_id, "done")
    assert [len(part) for part in work.agents.asked] == [3, 1, 2, 1, 1]
    assert [result.reason for result in await work.results(run_id) if result.state == "set_aside"] == [
        "run: Its plan is unknown."
    ]


@pytest.mark.parametrize(("error", "wait"), [(AWAY, 60), (SPENT, 3600)], ids=["the model", "the budget"])
async def test_what_stops_everybody_pauses_the_run_until_it_may_be_back(
    work: Bench, error: Exception, wait: int
) -> None:
    await work.customers(300)
    before = work.kit.ports.clock()

    async def refuse(_asked: RecommendationAsked) -> None:
        if len(work.agents.asked) > 1:
            raise error

    work.agents.before = refuse
    run_id = await work.start(control_share=0)
    run = await work.reaches(run_id, "paused")
    assert run.reason == str(error)
    assert run.resume_at is not None
    assert run.resume_at - before >= timedelta(seconds=wait)
    work.agents.before = None
    assert await sweep(work) == 0
    async with work.db.operator_transaction() as session:
        await session.execute(update(Run).values(resume_at=before))
    assert await sweep(work) == 1
    await work.reaches(run_id, "done")
    assert await once_each(work, run_id, 300) == {"proposed": 300}


async def test_a_run_stops_near_its_own_cap_and_needs_a_higher_one(work: Bench) -> None:
    await work.customers(1000)
    work.agents.cost_micros = 100_000
    run_id = await work.start(control_share=0, max_cost_usd=0.5)
    run = await work.reaches(run_id, "paused")
    assert run.cost_micros == 500_000
    assert run.finished == 500
    with pytest.raises(Conflict, match="higher max_cost_usd"):
        await steer(work, "resume", run_id, ResumeIn())
    await steer(work, "resume", run_id, ResumeIn(max_cost_usd=5))
    await work.reaches(run_id, "done")
    await once_each(work, run_id, 1000)


async def test_a_kill_switch_pauses_and_the_sweep_goes_on_once_it_is_off(work: Bench) -> None:
    await work.customers(50)
    work.killed.add("treatments")
    run_id = await work.start()
    run = await work.reaches(run_id, "paused")
    assert run.reason == "A kill switch stops treatments."
    work.killed.clear()
    async with work.db.operator_transaction() as session:
        await session.execute(update(Run).values(resume_at=run.created_at))
    await sweep(work)
    await work.reaches(run_id, "done")
    await once_each(work, run_id, 50)


async def test_a_kill_switch_stops_the_allocation_too(work: Bench) -> None:
    await work.customers(50)
    work.agents.switched_off = True
    run_id = await work.start()
    run = await work.reaches(run_id, "paused")
    assert (run.reason, run.finished, work.agents.allocated) == ("A kill switch stops treatments.", 50, [])
    work.agents.switched_off = False
    async with work.db.operator_transaction() as session:
        await session.execute(update(Run).values(resume_at=run.created_at))
    await sweep(work)
    await work.reaches(run_id, "done")
    assert work.agents.allocated == [run_id]


async def test_no_priority_of_one_tenant_goes_before_another_tenants_first_run(work: Bench) -> None:
    placed: list[tuple[str, int]] = []
    enqueue = work.jobs.enqueue

    async def noted(session: AsyncSession, name: str, payload: dict[str, str], *, job_id: str, priority: int) -> None:
        placed.append((payload["run_id"], priority))
        await enqueue(session, name, payload, job_id=job_id, priority=priority)

    work.jobs.enqueue = noted  # type: ignore[method-assign, assignment]
    await work.customers(1000)
    gate = Gate(work, after=0)
    first = await work.start(priority=0)
    await until(lambda: gate.waiting == work.lanes.number, "every lane has a chunk")
    second, urgent = await work.start(), await work.start(priority=9)
    async with work.db.operator_transaction() as session:
        other = Run(id="run_x", tenant_id="rival", priority=0, chunks_open=0)
        await work.lanes.enqueue(session, other, "treatments.start", "j", {})
    gate.open()
    places = dict(reversed(placed))
    assert places[first] == places[urgent] == places["run_x"] == 1
    assert places[second] == 1 + work.lanes.number


async def test_a_worker_that_stops_does_not_try_again_what_it_was_at(work: Bench) -> None:
    await work.customers(10)
    gate = Gate(work, after=0)
    run_id = await work.start(control_share=0)
    await until(lambda: gate.waiting == 1, "the chunk is under way")
    await work.jobs.stop(0)
    assert gate.waiting == 1
    assert (await work.run(run_id)).chunks_open == 1


async def test_only_so_many_runs_are_under_way(work: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MOST_UNDER_WAY", 2)
    await work.customers(1)
    held = [await work.start(), await work.start()]
    for run_id in held:
        await steer(work, "pause", run_id)
    with pytest.raises(Conflict, match="2 runs have not ended yet"):
        await work.start()
    await steer(work, "cancel", held[0])
    await work.start()


async def test_the_sweep_looks_at_all_runs_also_where_one_cannot_be_looked_at(
    work: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "AT_ONCE", 2)
    await work.customers(1)
    work.killed.add("treatments")
    started = [await work.start() for _ in range(5)]
    for run_id in started:
        run = await work.reaches(run_id, "paused")
    work.killed.clear()
    async with work.db.operator_transaction() as session:
        await session.execute(update(Run).values(resume_at=run.created_at))
        await session.execute(update(Run).where(Run.id == started[1]).values(resume_at=None))
        await session.execute(update(Run).where(Run.id == started[2]).values(state="no such state"))
        await session.execute(update(Run).where(Run.id == started[0]).values(window="broken"))
    assert await sweep(work) == 3
    for run_id in started[3:]:
        await work.reaches(run_id, "done")
    assert (await work.run(started[1])).state == "paused"


async def test_of_each_tenant_the_newest_runs_are_evaluated(work: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "MOST_EVALUATED", 2)
    await work.customers(1)
    ended = [await work.start(allocate=False) for _ in range(3)]
    for run_id in ended:
        await work.reaches(run_id, "done")
    async with work.db.operator_transaction() as session:
        await session.execute(update(Run).where(Run.id == ended[0]).values(tenant_id="rival"))
    found = await Sweep(work.kit, work.lanes).lately_done()
    assert [run.id for run in found] == [ended[2], ended[1], ended[0]]
    async with work.db.operator_transaction() as session:
        await session.execute(update(Run).values(tenant_id=TENANT))
    assert [run.id for run in await Sweep(work.kit, work.lanes).lately_done()] == [ended[2], ended[1]]


async def test_the_rate_leaves_out_the_time_for_which_it_stood_still(work: Bench) -> None:
    await work.customers(300)
    run_id = await work.start()
    await work.reaches(run_id, "done")
    now = work.kit.ports.clock()
    async with work.db.operator_transaction() as session:
        run = await session.get_one(Run, run_id)
        run.active_since = now - timedelta(seconds=5)
        chunks = (await session.scalars(select(RunChunk).order_by(RunChunk.number))).all()
        for chunk, ago in zip(chunks, (timedelta(hours=16), timedelta(seconds=3), timedelta(seconds=1)), strict=True):
            chunk.updated_at = now - ago
        await session.flush()
        assert await ChunkRepository(session, TENANT).rate(run) == 50


async def test_a_repeated_step_adds_nothing(work: Bench) -> None:
    await work.customers(150)
    run_id = await work.start(control_share=0)
    await work.reaches(run_id, "done")
    async with work.db.operator_reading() as session:
        chunks = (await session.scalars(select(RunChunk))).all()
    assert [await work.chunks.work(TENANT, run_id, chunk.id) for chunk in chunks] == ["repeated"] * 2
    await once_each(work, run_id, 150)


async def test_two_that_work_on_one_chunk_at_a_time_write_it_once(work: Bench) -> None:
    await work.customers(100)
    gate = Gate(work, after=0)
    run_id = await work.start(control_share=0)
    await until(lambda: gate.waiting == 1, "the chunk is under way")
    async with work.db.operator_reading() as session:
        chunk = (await session.scalars(select(RunChunk))).one()
    second = asyncio.create_task(work.chunks.work(TENANT, run_id, chunk.id))
    await until(lambda: gate.waiting == 2, "both are under way")
    gate.open()
    await work.reaches(run_id, "done")
    assert await second in ("done", "repeated")
    await once_each(work, run_id, 100)


async def test_a_chunk_whose_job_is_gone_gets_another_one(work: Bench) -> None:
    await work.customers(200)
    gate = Gate(work, after=0)
    run_id = await work.start(control_share=0)
    await until(lambda: gate.waiting == 2, "both chunks are under way")
    async with work.db.operator_reading() as session:
        chunks = (await session.scalars(select(RunChunk))).all()
    for chunk in chunks:
        await work.jobs.cancel(f"treatments.chunk:{chunk.id}:1")
    assert await sweep(work) == 1
    gate.open()
    await work.reaches(run_id, "done")
    await once_each(work, run_id, 200)


async def test_a_customer_over_whom_the_process_dies_twice_is_set_aside(work: Bench) -> None:
    await work.customers(3)
    gate = Gate(work, after=0)
    run_id = await work.start(control_share=0)
    await until(lambda: gate.waiting == 1, "the chunk is under way")
    async with work.db.operator_transaction() as session:
        [one, *_] = (await session.scalars(select(Customer.id).order_by(Customer.id))).all()
        await session.execute(update(RunChunk).values(alone=True, trying=one, deaths=1))
        chunk_id = (await session.scalars(select(RunChunk.id))).one()
    again = asyncio.create_task(work.chunks.work(TENANT, run_id, chunk_id))
    await until(lambda: gate.waiting == 2, "the others are tried alone")
    gate.open()
    await work.reaches(run_id, "done")
    assert await again in ("done", "repeated")
    assert await once_each(work, run_id, 3) == {"proposed": 2, "set_aside": 1}
    aside = [result for result in await work.results(run_id) if result.state == "set_aside"]
    assert [(result.customer_id, result.reason) for result in aside] == [(one, f"run: {DIED}")]


async def test_customers_erased_meanwhile_are_left_out(work: Bench) -> None:
    await work.customers(100)
    gate = Gate(work, after=0)
    run_id = await work.start(control_share=0)
    await until(lambda: gate.waiting == 1, "the chunk is under way")
    async with work.db.operator_transaction() as session:
        gone = (await session.scalars(select(Customer).where(Customer.external_id == "c42"))).one()
        await session.delete(gone)
    gate.open()
    await work.reaches(run_id, "done")
    await once_each(work, run_id, 99)


async def test_an_allocation_that_fails_fails_the_run_and_resuming_repeats_it_alone(work: Bench) -> None:
    await work.customers(10)
    work.agents.refuse_allocation = True
    run_id = await work.start()
    run = await work.reaches(run_id, "failed")
    assert "no capacity table" in run.reason
    asked = len(work.agents.asked)
    work.agents.refuse_allocation = False
    await steer(work, "resume", run_id, ResumeIn())
    await work.reaches(run_id, "done")
    assert len(work.agents.asked) == asked
    assert work.agents.allocated == [run_id]


async def test_a_run_without_a_catalogue_or_customers_is_refused(db: Database) -> None:
    async with bench(db, f"sqlite+aiosqlite:///{db.writer.url.database}") as work:
        with pytest.raises(InvalidInput, match="no catalogue"):
            await work.start()
        await work.catalogue()
        with pytest.raises(InvalidInput, match="no customers yet"):
            await work.start()
        async with db.operator_reading() as session:
            assert (await session.scalars(select(Run))).all() == []
            assert (await session.scalars(select(Result))).all() == []
