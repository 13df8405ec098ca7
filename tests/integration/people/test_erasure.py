"""A person who left something in every store: given out whole, erased whole, and nobody else with them."""

import asyncio
from pathlib import Path

import pytest

from app.errors import NotFound, Unavailable
from app.jobs.port import JobState, JobStatus
from app.memory import Turn
from app.principal import Role
from tests.support.claims import a_member
from tests.support.people import ADMIN, Planted, erased_for_good, path_of
from tests.support.service import TENANT, WAIT_S, Service, lead, running

PERSON = Planted()
pytestmark = pytest.mark.timeout(180)


async def test_work_under_way_ends_cleanly_and_what_it_left_goes_too(tmp_path: Path) -> None:
    async with running(made(tmp_path), knowledge=False, erase_again_s=0) as service:
        kit = service.container.kit
        async with service.container.db.operator_transaction() as session:
            await kit.flags.set(session, ADMIN, "kill.leads", True)
        await kit.flags.refresh()
        body = {"name": PERSON.name, "email": PERSON.email, "message": "Call me", "external_id": "crm-1"}
        sent = (await service.client.post("/v1/leads", json=body)).json()
        lead_id, payload = sent["lead"]["id"], {"tenant_id": TENANT, "lead_id": sent["lead"]["id"]}
        assert (await service.client.delete(path_of(PERSON.email))).json()["erased"]["leads"] == 3
        # The erasure's own job would take a job that names the lead with it.
        await erased_for_good(service)
        async with service.container.db.operator_transaction() as session:
            await kit.flags.set(session, ADMIN, "kill.leads", False)
        await kit.flags.refresh()
        async with service.container.db.operator_transaction() as session:
            await kit.jobs.enqueue(
                session, "leads.decide", {**payload, "message_id": sent["message_id"]}, job_id="late"
            )
        assert (await finished(service, "late")).result == {"decision_id": None, "state": "erased"}
        assert (await service.client.get(f"/v1/leads/{lead_id}")).status_code == 404
        message = {"body": "still there?"}
        assert (await service.client.post(f"/v1/leads/{lead_id}/messages", json=message)).status_code == 404
        assert (await service.client.get("/v1/leads/counts")).json()["by_status"]["erased"] == 1
        anew = (await service.client.post("/v1/leads", json=body)).json()["lead"]["id"]
        await service.decided([anew])


async def finished(service: Service, job_id: str) -> JobStatus:
    async with asyncio.timeout(WAIT_S):
        while True:
            status = await service.container.kit.jobs.status(job_id)
            assert status is not None
            if status.state not in (JobState.QUEUED, JobState.RUNNING):
                return status
            await asyncio.sleep(0.05)


async def test_an_erased_decision_stays_as_a_figure_and_cannot_be_replayed(tmp_path: Path) -> None:
    async with running(made(tmp_path)) as service:
        sent = (await service.client.post("/v1/leads", json=lead(email=PERSON.email))).json()
        [decided] = await service.decided([sent["lead"]["id"]])
        decision_id = decided["decisions"][0]
        before, figures = await service.explain(decision_id), await service.client.get("/v1/metrics/business")
        await service.client.delete(path_of(PERSON.email))
        after = await service.explain(decision_id)
        assert (after["inputs"], after["evidence"], after["reason"]) == ({"erased": True}, [], "")
        for name in ("action", "confidence", "score", "cost", "versions"):
            assert after[name] == before[name]
        after_figures = (await service.client.get("/v1/metrics/business")).json()
        assert after_figures["total"] == figures.json()["total"]
        with pytest.raises(NotFound, match="was erased"):
            await service.container.replay(ADMIN, decision_id)


async def test_a_store_that_fails_is_named_and_made_good_by_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(made(tmp_path), knowledge=False, erase_again_s=0) as service:
        memory, failures = service.container.kit.memory, [Unavailable("away", retry_after=1)] * 2
        forget = memory.forget

        async def fails(*args: str) -> None:
            if failures:
                raise failures.pop()
            await forget(*args)

        monkeypatch.setattr(memory, "forget", fails)
        now = service.container.clock()
        await memory.add(TENANT, "docs", PERSON.user_id, Turn("user", PERSON.words[0], now))
        answer = await service.client.delete(path_of(PERSON.user_id))
        assert (answer.status_code, answer.json()["pending"]) == (202, ["memory"])
        assert await memory.recent(TENANT, "docs", PERSON.user_id)
        await erased_for_good(service)
        assert not await memory.recent(TENANT, "docs", PERSON.user_id)


async def test_another_tenant_and_the_rest_of_a_family_keep_what_is_theirs(tmp_path: Path) -> None:
    async with running(made(tmp_path), knowledge=False) as service:
        family = "family@kiesgrube.example"
        members = [a_member(f"u-{n}", 11_111 * n, email=family) for n in (1, 2, 3)]
        rival = {"Authorization": f"Bearer {await service.other_tenant()}"}
        for headers in (None, rival):
            put = await service.client.put("/v1/claims/members", json={"members": members}, headers=headers)
            assert put.status_code == 200, put.text
        alone = (await service.client.delete(path_of("u-1"))).json()["erased"]
        assert alone["claims"] == 4
        named = (await service.client.get(path_of(family))).json()["aliases"]
        assert [alias["value"] for alias in named if alias["kind"] == "user"] == ["u-2", "u-3"]
        assert (await service.client.delete(path_of(family))).json()["erased"]["claims"] == 8
        others = (await service.client.get(path_of(family), headers=rival)).json()["stores"]["claims"]
        assert len(others) == 12


@pytest.mark.parametrize("role", [Role.VIEWER, Role.AGENT])
async def test_only_an_admin_may_look_or_erase(tmp_path: Path, role: Role) -> None:
    async with running(made(tmp_path), knowledge=False) as service:
        headers = {"Authorization": f"Bearer {await service.key_with(role)}"}
        for method in ("GET", "DELETE"):
            assert (await service.client.request(method, path_of("u-1"), headers=headers)).status_code == 403
            refused = await service.client.request(method, path_of("no id!"))
            assert refused.status_code == 422
            assert "user's id" in refused.json()["detail"]


def made(folder: Path) -> Path:
    home = folder / "home"
    home.mkdir()
    return home
