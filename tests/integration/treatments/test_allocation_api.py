"""`/v1/treatments` for allocations, queues and reservations: over HTTP, with the jobs at work."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert

from app.packs.treatments.models import Customer, Result, Run, RunState
from app.packs.treatments.stages import ALLOCATION, RunAsked
from app.principal import Role
from tests.support.allocations import a_result, a_run, some_customers
from tests.support.service import TENANT, Service, running

WAIT_S = 30
CATALOGUE = {
    "treatments": [
        {"name": "call_back", "title": "Call", "cost_usd": 1, "capacity_per_day": 1},
        {"name": "email", "title": "E-mail", "cost_usd": 0.01},
    ],
    "budget_usd_per_day": 10,
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("allocation"), knowledge=False) as found:
        answer = await found.client.put("/v1/treatments/catalogue", json=CATALOGUE)
        assert answer.status_code < 300, answer.text
        yield found


async def allocated(service: Service, nets: list[float]) -> tuple[str, list[str]]:
    """A done run with an allocation; the customers' ids, a call being worth `nets` to each."""
    people = some_customers(len(nets), service.container.clock(), tenant_id=TENANT)
    now = service.container.clock()
    run = a_run(RunState.ALLOCATING, now)
    async with service.container.db.operator_transaction() as session:
        await session.execute(insert(Customer), people)
        session.add(run)
        await session.flush()
        rows = [a_result(run.id, who["id"], {"call_back": net}, "", now) for who, net in zip(people, nets, strict=True)]
        await session.execute(insert(Result), rows)
    asked = RunAsked(TENANT, run.id, "worker")
    await service.container.kit.messenger.ask(ALLOCATION, asked, key=run.id, timeout_s=WAIT_S)
    async with service.container.db.operator_transaction() as session:
        row = await session.get_one(Run, run.id)
        row.state, row.finished_at = RunState.DONE, now
    return run.id, [who["id"] for who in people]


async def get(service: Service, path: str, **params: Any) -> Any:
    answer = await service.client.get(f"/v1/treatments/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_is_freed_goes_to_the_queue_and_a_change_of_limits_is_carried_out(service):
    run_id, (small, middle, best) = await allocated(service, [1, 2, 3])
    assert [one["customer_id"] for one in (await get(service, f"runs/{run_id}/queue"))["items"]] == [middle, small]
    [held] = (await get(service, "reservations", run_id=run_id, state="held"))["items"]
    assert held["customer_id"] == best
    day = await get(service, "capacity")
    assert (day["treatments"][0]["used"], day["treatments"][0]["left"], day["left_usd"]) == (1, 0, 9.0)
    full = await service.client.post("/v1/treatments/reservations", json={"treatment": "call_back"})
    assert (full.status_code, full.json()["detail"][:49]) == (409, "This cannot be held: call_back has 1 of 1 units t")
    assert (await service.client.post(f"/v1/treatments/reservations/{held['id']}/release")).status_code == 200
    await until_held(service, run_id, {middle})
    more = {**CATALOGUE, "treatments": [{**CATALOGUE["treatments"][0], "capacity_per_day": 2}]}
    assert (await service.client.put("/v1/treatments/catalogue", json=more)).status_code < 300
    again = await service.client.post(f"/v1/treatments/runs/{run_id}/allocations")
    assert (again.status_code, again.json()["state"]) == (202, "asked")
    await until_held(service, run_id, {middle, small})
    newest = (await get(service, f"runs/{run_id}/allocations"))["items"][0]
    assert (newest["number"], newest["method"], newest["gap"], newest["usage"]) == (2, "exact", 0, {"call_back": 2})
    assert newest["constraints"]["per_day"] == {"call_back": 2}
    assert "plan" not in newest
    async with asyncio.timeout(WAIT_S):
        while not (await get(service, f"runs/{run_id}"))["reason"].startswith("Allocated 2,"):
            await asyncio.sleep(0.05)
    worth = await get(service, f"runs/{run_id}/evaluation")
    assert {arm["name"]: arm["customers"] for arm in worth["arms"]} == {"decided": 3, "control": 0, "call_back": 2}
    told = await get(service, "forecast", horizon=3)
    assert [(one["treatment"], len(one["points"])) for one in told["treatments"]] == [("call_back", 3)]


async def until_held(service: Service, run_id: str, customers: set[str]) -> None:
    """Until the run holds a unit for just these, and its newest allocation is done."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found = (await get(service, "reservations", run_id=run_id, state="held"))["items"]
            newest = (await get(service, f"runs/{run_id}/allocations"))["items"][0]
            if {one["customer_id"] for one in found} == customers and newest["state"] == "done":
                return
            await asyncio.sleep(0.05)


async def test_a_reservation_is_made_confirmed_and_let_go_by_an_agent_alone(service):
    day = (service.container.clock() + timedelta(days=30)).date().isoformat()
    body = {"treatment": "call_back", "key": "lunch", "note": "by phone"}
    viewer = {"Authorization": f"Bearer {await service.key_with(Role.VIEWER)}"}
    assert (await service.client.post("/v1/treatments/reservations", json=body, headers=viewer)).status_code == 403
    wrong = await service.client.post("/v1/treatments/reservations", json={**body, "day": "2001-01-01"})
    assert (wrong.status_code, "'day' is from today" in wrong.json()["detail"]) == (422, True)
    made = await service.client.post("/v1/treatments/reservations", json={**body, "day": day})
    same = await service.client.post("/v1/treatments/reservations", json={**body, "day": day})
    assert (made.status_code, made.json()) == (201, same.json())
    path = f"/v1/treatments/reservations/{made.json()['id']}"
    assert (await service.client.post(f"{path}/confirm")).json()["state"] == "confirmed"
    assert (await service.client.post(f"{path}/release")).json()["state"] == "released"
    assert (await service.client.post(f"{path}/confirm")).status_code == 409
    rival = {"Authorization": f"Bearer {await service.other_tenant()}"}
    assert (await service.client.post(f"{path}/release", headers=rival)).status_code == 404
    actions = [row["action"] for row in await service.rows("audit_entries") if row["subject"] == made.json()["id"]]
    assert actions == [f"treatments.reservation_{state}" for state in ("held", "confirmed", "released")]
