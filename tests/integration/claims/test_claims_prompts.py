"""Which version of the prompt answers: the region's, or the experiment's arm."""

from app.governance.experiments import Arm
from app.principal import Principal, Role
from tests.support.claims import ask, signed_in
from tests.support.service import TENANT, running

ADMIN = Principal(TENANT, "test", Role.ADMIN)


async def test_a_region_has_its_own_version(tmp_path):
    async with running(tmp_path, knowledge=False, region="eu-central-1") as service:
        answer = await ask(service, await signed_in(service, "m-1001"), "hello")
    assert (answer["prompt"], answer["prompt_version"]) == ("claims_answer", 3)


async def test_an_experiment_gives_each_member_an_arm_and_says_so(tmp_path):
    async with running(tmp_path, knowledge=False) as service:
        experiments = service.container.kit.experiments
        arms = [Arm(arm="now", weight=1), Arm(arm="short", weight=1, prompt_version=2)]
        async with service.container.db.operator_transaction() as session:
            row = await experiments.create(session, ADMIN, "short-answers", "claims", arms)
            await experiments.start(session, ADMIN, row.id)
        versions = set()
        for number in range(12):
            who = await signed_in(service, f"m-{number}")
            answers = [await ask(service, who, question) for question in ("hello", "thanks")]
            assert len({answer["prompt_version"] for answer in answers}) == 1, "a member keeps their arm"
            versions.add(answers[0]["prompt_version"])
        stored = {(row["experiment"], row["arm"], row["prompt_version"]) for row in await service.rows("decisions")}
    assert versions == {1, 2}
    assert stored == {("short-answers", "now", 1), ("short-answers", "short", 2)}
