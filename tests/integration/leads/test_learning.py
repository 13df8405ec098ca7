"""Outcomes teach thresholds and scores; a person puts them in force."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.errors import Forbidden, InvalidInput, NotFound
from app.governance.experiments import Arm
from app.governance.models import Decision
from app.ids import new_id
from app.packs.leads.commands import check_arms
from app.packs.leads.facts import Enrichment
from app.packs.leads.gather import policy_in_force
from app.packs.leads.learning import Learning
from app.packs.leads.models import Lead, LeadOutcome
from app.packs.leads.repository import LeadRepository
from app.packs.leads.scores import Scorer
from app.packs.leads.scoring.rules import lead_rules
from app.packs.leads.scoring.thresholds import Economics
from app.packs.leads.scoring.train import train
from app.principal import Principal, Role
from tests.support.service import TENANT, Service, lead, running

ADMIN = Principal(TENANT, "test", Role.ADMIN)
COLUMNS = {"industry": ("dairy", "bakery", "law"), "size": ("s", "m", "l")}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path, knowledge=False) as service:
        yield service


async def remember(service: Service, outcomes: int) -> None:
    """Leads whose chance is their score: the upper half converts more often."""
    now = service.container.clock()
    async with service.container.db.operator_transaction() as session:
        for n in range(outcomes):
            score = n / outcomes
            one = Lead(
                id=new_id("lead"),
                tenant_id=TENANT,
                created_at=now,
                updated_at=now,
                name="A",
                email=f"a{n}@example.org",
                source="import",
                attributes={},
                status="answered",
                score=score,
            )
            session.add(one)
            await session.flush()
            session.add(
                Decision(
                    id=new_id("dec"),
                    tenant_id=TENANT,
                    created_at=now,
                    pack="leads",
                    subject_id=one.id,
                    trigger_id=one.id,
                    trigger_key=one.id,
                    action="respond",
                    confidence=0.9,
                    reason="x",
                    score=score,
                )
            )
            kind = "converted" if score > 0.5 and n % 3 else "lost"
            session.add(LeadOutcome(id=new_id("out"), tenant_id=TENANT, created_at=now, lead_id=one.id, kind=kind))


async def test_too_few_outcomes_are_refused(service: Service) -> None:
    await remember(service, 50)
    with pytest.raises(InvalidInput, match="too few to learn from"):
        await Learning(service.container.kit).propose(ADMIN, 0.1, Economics())


async def test_a_proposal_is_stored_and_changes_nothing_until_it_is_put_in_force(service: Service) -> None:
    await remember(service, 400)
    learning = Learning(service.container.kit)
    found = await learning.propose(ADMIN, 0.1, Economics())
    assert found.outcomes == 400
    assert found.value_after >= found.value_before
    assert found.after["pursue"] > found.before["pursue"]
    async with service.container.db.operator_reading() as session:
        assert (await policy_in_force(session, TENANT))[0] == 0
    with pytest.raises(Forbidden):
        await learning.activate(Principal(TENANT, "agent", Role.AGENT), found.version)
    await learning.activate(ADMIN, found.version)
    async with service.container.db.operator_reading() as session:
        version, thresholds = await policy_in_force(session, TENANT)
    assert (version, thresholds.pursue) == (found.version, found.after["pursue"])


async def test_a_trained_score_is_used_once_it_is_in_force_and_the_rules_again_after(service: Service) -> None:
    rows = [
        {
            "industry": COLUMNS["industry"][n % 3],
            "size": COLUMNS["size"][n // 3 % 3],
            "won": "yes" if n % 3 == 0 and n % 4 else "no",
        }
        for n in range(900)
    ]
    learning = Learning(service.container.kit)
    version = await learning.store(ADMIN, train(rows, "won", floor=lead_rules()))
    made = (await service.client.post("/v1/leads", json=lead(attributes={"industry": "dairy", "size": "s"}))).json()
    [detail] = await service.decided([made["lead"]["id"]])
    first = await service.explain(detail["decisions"][0])
    assert first["versions"]["score_model_version"].startswith("rules")
    await learning.use(ADMIN, version)
    assert (await scored(service)).startswith("score-")
    await learning.use(ADMIN, 0)
    assert (await scored(service)).startswith("rules")
    with pytest.raises(InvalidInput, match="There is no score model 9"):
        await learning.use(ADMIN, 9)


async def scored(service: Service) -> str:
    """The version that a scorer without a memory uses now."""
    kit = service.container.kit
    enrichment = Enrichment(language="en", email_kind="company", domain="example.org", signals=())
    made = (await service.client.get("/v1/leads")).json()["items"][0]
    async with kit.ports.db.operator_reading() as session:
        row = await LeadRepository(session, TENANT).get(made["id"])
    return (await Scorer(kit, lead_rules()).score(TENANT, row, enrichment)).version


async def test_an_experiment_gives_each_arm_its_prompt(service: Service) -> None:
    kit = service.container.kit
    async with service.container.db.operator_transaction() as session:
        arms = [Arm(arm="old", weight=1), Arm(arm="new", weight=1, prompt_version=2)]
        row = await kit.experiments.create(session, ADMIN, "brevity", "leads", arms)
        await kit.experiments.start(session, ADMIN, row.id)
    made = [(await service.client.post("/v1/leads", json=lead(email=f"e{n}@example.org"))).json() for n in range(12)]
    details = await service.decided([one["lead"]["id"] for one in made])
    versions = [(await service.explain(one["decisions"][0]))["versions"] for one in details]
    assert {(one["arm"], one["prompt_version"]) for one in versions} == {("old", 1), ("new", 2)}
    arms_shown = (await service.client.get("/v1/metrics/business")).json()["arms"]
    assert [(one["arm"], one["control"]) for one in arms_shown] == [("old", True), ("new", False)]
    assert sum(one["metrics"]["volume"] for one in arms_shown) == 12


async def test_an_experiment_on_versions_that_do_not_exist_is_refused(service: Service) -> None:
    kit = service.container.kit
    async with service.container.db.operator_reading() as session:
        await check_arms(kit, session, ADMIN, [Arm(arm="old", weight=1), Arm(arm="new", weight=1, prompt_version=2)])
        for arm in (Arm(arm="new", weight=1, prompt_version=99), Arm(arm="new", weight=1, policy_version=99)):
            with pytest.raises(NotFound, match="99"):
                await check_arms(kit, session, ADMIN, [arm])
