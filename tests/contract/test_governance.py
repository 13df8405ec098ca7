"""The records of governance hold embedded and on servers, with writers at work at the same moment."""

import asyncio

from sqlalchemy import update

from app.errors import Conflict
from app.governance.audit import Audit, verify
from app.governance.decisions import DecisionRepository, explain, trigger_key
from app.governance.experiments import Arm, Experiments
from app.governance.flags import Flags, FlagSpec
from app.governance.models import AuditEntry, Decision
from app.governance.policies import Policies, PolicyRepository
from app.principal import Principal, Role
from app.storage.db import Database
from tests.conftest import StillClock

ADMIN = Principal("acme", "key_1", Role.ADMIN)
OPERATOR = Principal("*", "cli", Role.ADMIN)
ARMS = (Arm(arm="control", weight=1), Arm(arm="short", weight=1.5, prompt_version=2))
WRITERS = 8


async def test_writers_at_the_same_moment_make_one_chain_for_each_tenant(database: Database, clock: StillClock) -> None:
    audit = Audit(clock)

    async def write(number: int) -> None:
        principal = Principal(f"tenant-{number % 2}", f"key_{number}", Role.AGENT)
        async with database.operator_transaction() as session:
            for step in range(3):
                await audit.record(session, principal, "lead.decided", f"lead_{step}", {"share": 0.1, "step": step})

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    async with database.operator_reading() as session:
        report = await verify(session)
    assert report.ok
    assert report.entries == 3 * WRITERS


async def test_a_chain_is_whole_to_those_who_read_while_others_write(database: Database, clock: StillClock) -> None:
    audit = Audit(clock)
    done = asyncio.Event()

    async def write() -> None:
        for step in range(60):
            async with database.operator_transaction() as session:
                await audit.record(session, ADMIN, "lead.decided", f"lead_{step}", {})
        done.set()

    async def read() -> int:
        readings = 0
        while not done.is_set():
            async with database.operator_reading() as session:
                assert (await verify(session)).ok
            readings += 1
        return readings

    _, readings = await asyncio.gather(write(), read())
    assert readings > 1


async def test_a_change_in_the_database_is_found(database: Database, clock: StillClock) -> None:
    async with database.operator_transaction() as session:
        for step in range(3):
            await Audit(clock).record(session, ADMIN, "lead.decided", f"lead_{step}", {"step": step})
    async with database.operator_transaction() as session:
        await session.execute(update(AuditEntry).where(AuditEntry.seq == 2).values(subject="lead_x"))
    async with database.operator_reading() as session:
        report = await verify(session)
    assert [found.seq for found in report.broken] == [2]


async def test_flags_of_every_type_travel_between_processes(database: Database, clock: StillClock) -> None:
    specs = (FlagSpec("a.text", "x", "."), FlagSpec("a.number", 0.5, "."), FlagSpec("a.switch", False, "."))
    here, there = Flags(database, clock), Flags(database, clock)
    for flags in (here, there):
        flags.declare(*specs)
    async with database.operator_transaction() as session:
        await here.set(session, OPERATOR, "a.text", "é'\"")
        await here.set(session, OPERATOR, "a.number", 2)
        await here.set(session, OPERATOR, "a.switch", False)
        await here.set(session, OPERATOR, "a.switch", True)
    await there.refresh()
    assert there.text("a.text", "acme") == "é'\""
    assert there.number("a.number", "acme") == 2.0
    assert there.bool("a.switch", "acme") is True


async def test_proposals_at_the_same_moment_get_versions_of_their_own(database: Database, clock: StillClock) -> None:
    policies = Policies(clock, Audit(clock))

    async def propose() -> int | None:
        try:
            async with database.operator_transaction() as session:
                return (await policies.propose(session, ADMIN, "leads", {"pursue": 0.4}, {"n": 1})).version
        except Conflict:
            return None

    versions = [version for version in await asyncio.gather(*(propose() for _ in range(WRITERS))) if version]
    assert sorted(versions) == list(range(1, len(versions) + 1))
    async with database.operator_reading() as session:
        assert (await verify(session)).entries == len(versions)


async def test_one_version_is_active_whatever_is_activated_at_the_same_moment(
    database: Database, clock: StillClock
) -> None:
    policies = Policies(clock, Audit(clock))
    async with database.operator_transaction() as session:
        for _ in range(WRITERS):
            await policies.propose(session, ADMIN, "leads", {"pursue": 0.4}, {"n": 1})

    async def activate(version: int) -> None:
        async with database.operator_transaction() as session:
            await policies.activate(session, ADMIN, "leads", version)

    results = await asyncio.gather(*(activate(n + 1) for n in range(WRITERS)), return_exceptions=True)
    assert all(result is None or isinstance(result, Conflict) for result in results)
    assert None in results
    async with database.operator_reading() as session:
        states = [policy.state for policy in await PolicyRepository(session, "acme").versions("leads")]
    assert states.count("active") == 1
    assert states.count("retired") == results.count(None) - 1


async def test_a_pack_runs_one_experiment_whatever_is_started_at_the_same_moment(
    database: Database, clock: StillClock
) -> None:
    experiments = Experiments(clock, Flags(database, clock), Audit(clock))
    async with database.operator_transaction() as session:
        drafts = [(await experiments.create(session, ADMIN, f"x{n}", "leads", ARMS)).id for n in range(WRITERS)]

    async def start(experiment: str) -> None:
        async with database.operator_transaction() as session:
            await experiments.start(session, ADMIN, experiment)

    results = await asyncio.gather(*(start(draft) for draft in drafts), return_exceptions=True)
    assert results.count(None) == 1
    assert sum(isinstance(result, Conflict) for result in results) == WRITERS - 1
    async with database.operator_reading() as session:
        found = await experiments.active(session, "acme", "leads")
    assert found is not None
    assert found.arms == ARMS


async def test_a_decision_comes_back_as_it_was_stored(database: Database, clock: StillClock) -> None:
    evidence = {"chunk_id": "c", "document_id": "d", "title": "Preise", "score": 0.7123, "quote": "ab 49 € „netto“"}
    row = Decision(
        id="dec_1",
        created_at=clock.now,
        pack="leads",
        subject_id="lead_1",
        trigger_id="msg_1",
        trigger_key=trigger_key("acme", "leads", "msg_1"),
        action="respond",
        confidence=0.1 + 0.2,
        reason="asks",
        evidence=[evidence],
        inputs={"nested": [1, 2.5, None, {"k": "v"}]},
        cost_micros=5_000_000_000,
    )
    async with database.operator_transaction() as session:
        DecisionRepository(session, "acme").add(row)
    async with database.operator_reading() as session:
        found = await DecisionRepository(session, "acme").get("dec_1")
    explained = explain(found)
    assert explained.confidence == 0.1 + 0.2
    assert explained.decided_at == clock.now
    assert explained.evidence[0].model_dump() == evidence
    assert explained.inputs == {"nested": [1, 2.5, None, {"k": "v"}]}
    assert explained.cost.cost_usd == 5000.0
