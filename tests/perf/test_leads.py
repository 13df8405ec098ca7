"""What one lead costs: decided and carried out, end to end, and one decision without its model.

The sample's messages, each under a name and a number of its own so that no answer comes from a cache, on the
embedded default in this process. Times of the CPU are of the whole process, its threads included.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import uvloop
from sqlalchemy import func, select

from app.governance.models import Decision, DecisionState
from app.integrations.models import OutboxMail
from app.knowledge.language import LanguageGuess
from app.packs.leads.act import Actor
from app.packs.leads.decide import Decider
from app.packs.leads.enrich import Enricher
from app.packs.leads.gather import Gatherer
from app.packs.leads.intake import json_lines, validated
from app.packs.leads.lexicon import Lexicon
from app.packs.leads.models import LeadMessage
from app.packs.leads.sample_data import SAMPLE, SampleData
from app.packs.leads.schemas import LeadIn
from app.packs.leads.scores import Scorer
from app.packs.leads.scoring.rules import lead_rules
from app.packs.leads.service import LeadService
from app.principal import Principal, Role, worker
from app.provision import provision_tenant
from tests.perf.figures import record, spread
from tests.support.service import Service, running

LEADS = 400
ROUNDS = 2
ALONE = 3 * LEADS
TARGET_MS = 100.0
POLL_S = 0.1
WAIT_S = 180.0


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all of a benchmark, of the kind that the server uses."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as made:
        yield made


def leads(count: int, series: str) -> list[LeadIn]:
    """The sample's leads over and over, no two the same."""
    sample = validated(json_lines((SAMPLE / "leads.jsonl").read_text("utf-8"))).leads
    return [_variant(sample[number % len(sample)], f"{series}{number}") for number in range(count)]


def _variant(lead: LeadIn, mark: str) -> LeadIn:
    own = {"external_id": mark, "email": f"{mark}.{lead.email}", "name": f"{lead.name} {mark}"}
    return lead.model_copy(update={**own, "message": f"{lead.message}\n(ref {mark})"})


async def new_tenant(service: Service, name: str) -> Principal:
    """A tenant with the sample's knowledge and an empty calendar: a few hundred leads fill a calendar's days."""
    kit, principal = service.container.kit, Principal(name, "bench", Role.ADMIN)
    async with service.container.db.operator_transaction() as session:
        await provision_tenant(service.container, session, name, name)
    await SampleData(kit, LeadService(kit)).load_knowledge(principal)
    return principal


async def store(service: Service, principal: Principal, batch: list[LeadIn]) -> None:
    async with service.container.db.operator_transaction() as session:
        await LeadService(service.container.kit).create_many(session, principal, batch)


async def carried_out(service: Service, count: int) -> None:
    """Returns when that many decisions were made and none is under way."""
    states = select(Decision.state, func.count().label("decisions")).group_by(Decision.state)
    async with asyncio.timeout(WAIT_S):
        while True:
            async with service.container.db.operator_reading() as session:
                found = {row.state: row.decisions for row in await session.execute(states)}
            if found.get(DecisionState.DONE, 0) >= count:
                return
            assert not {DecisionState.FAILED, DecisionState.WAITING_APPROVAL} & set(found), found
            await asyncio.sleep(POLL_S)


async def own_times(service: Service) -> list[float]:
    """Milliseconds of every stored decision without its model."""
    async with service.container.db.operator_reading() as session:
        return list(await session.scalars(select(Decision.duration_ms - Decision.model_ms)))


async def mails(service: Service) -> int:
    async with service.container.db.operator_reading() as session:
        return await session.scalar(select(func.count()).select_from(OutboxMail)) or 0


def target(times: dict[str, float]) -> str:
    return "met" if times["p99_ms"] <= TARGET_MS else "missed"


def test_leads_decided(benchmark: Any, runner: asyncio.Runner, tmp_path: Path) -> None:
    stack = AsyncExitStack()
    service: Service = runner.run(stack.enter_async_context(running(tmp_path, knowledge=False)))
    rounds: list[tuple[float, float]] = []

    def setup() -> tuple[tuple[Principal], dict[str, Any]]:
        return (runner.run(new_tenant(service, f"tenant{len(rounds)}")),), {}

    async def one_batch(principal: Principal) -> None:
        batch = leads(LEADS, principal.tenant_id)
        started, cpu = time.perf_counter(), time.process_time()
        await store(service, principal, batch)
        await carried_out(service, LEADS * (len(rounds) + 1))
        rounds.append((time.perf_counter() - started, time.process_time() - cpu))

    benchmark.pedantic(lambda principal: runner.run(one_batch(principal)), setup=setup, rounds=ROUNDS)
    wall, cpu = map(min, zip(*rounds, strict=True))
    record("leads_decided", leads=LEADS, per_s=LEADS / wall, cpu_ms_per_lead=cpu / LEADS * 1000)
    own = spread(runner.run(own_times(service)))
    record("decision_own_time_under_load", **own, target_ms=TARGET_MS, target=target(own))
    assert runner.run(mails(service)) > 0
    runner.run(stack.aclose())


def test_decision_own_time(benchmark: Any, runner: asyncio.Runner, tmp_path: Path) -> None:
    """One after the other, without the worker: the decision up to its row, and the writes that carry it out."""
    stack = AsyncExitStack()
    service: Service = runner.run(stack.enter_async_context(running(tmp_path, knowledge=False, worker=False)))
    kit = service.container.kit
    enricher = Enricher(Lexicon.load(), LanguageGuess.load(), kit.settings.calendar_time_zone)
    decider, actor = Decider(kit, Gatherer(kit, Scorer(kit, lead_rules()), enricher)), Actor(kit)
    deciding: list[float] = []
    acting: list[float] = []

    async def stored() -> list[tuple[str, str, str]]:
        for series in range(ALONE // LEADS):
            principal = await new_tenant(service, f"tenant{series}")
            await store(service, principal, leads(LEADS, principal.tenant_id))
        columns = (LeadMessage.tenant_id, LeadMessage.lead_id, LeadMessage.id)
        async with service.container.db.operator_reading() as session:
            return [(row[0], row[1], row[2]) for row in await session.execute(select(*columns))]

    async def each(waiting: list[tuple[str, str, str]]) -> None:
        for tenant_id, lead_id, message_id in waiting:
            started = time.perf_counter()
            decision_id = await decider.decide(worker(tenant_id), lead_id, message_id)
            decided = time.perf_counter()
            assert await actor.act(worker(tenant_id), decision_id) is DecisionState.DONE
            deciding.append((decided - started) * 1000)
            acting.append((time.perf_counter() - decided) * 1000)

    waiting = runner.run(stored())
    benchmark.pedantic(lambda: runner.run(each(waiting)), rounds=1)
    own = spread(runner.run(own_times(service)))
    record("decision_own_time", decisions=len(waiting), **own, target_ms=TARGET_MS, target=target(own))
    record("decision_made_and_stored", decisions=len(deciding), **spread(deciding))
    record("decision_carried_out", decisions=len(acting), **spread(acting))
    runner.run(stack.aclose())
