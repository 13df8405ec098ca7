"""Treatments from the catalogue to the queue, over HTTP with jobs at work, the same embedded and on servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.governance.audit import verify
from tests.support.servers import Backends
from tests.support.service import WAIT_S, Service, running

PATH = "/v1/treatments"
CUSTOMERS = 130
CATALOGUE: dict[str, Any] = {
    "treatments": [
        {"name": "call_back", "title": "Call back", "cost_usd": 2, "base_chance": 0.2, "capacity_per_day": 3},
        {"name": "mail", "title": "A letter", "cost_usd": 0.5, "base_chance": 0.1},
    ],
    "budget_usd_per_day": 100,
    "control_share": 0.2,
}


@pytest.fixture
async def service(tmp_path: Path, backends: Backends) -> AsyncIterator[Service]:
    async with running(tmp_path, knowledge=False, **backends) as found:
        yield found


async def put(service: Service, path: str, body: Any) -> dict[str, Any]:
    answer = await service.client.put(f"{PATH}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def get(service: Service, path: str, **params: Any) -> dict[str, Any]:
    answer = await service.client.get(f"{PATH}/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_customers_are_decided_allocated_and_held_within_the_limits(service: Service) -> None:
    await put(service, "catalogue", CATALOGUE)
    await put(service, "customers", [{"external_id": f"c{n}", "worth_usd": 100 + n} for n in range(CUSTOMERS)])
    run = await ended(service, {"all": True, "seed": 7})
    assert (run["state"], run["total"], run["finished"]) == ("done", CUSTOMERS, CUSTOMERS)
    results = await every_result_once(service, run["id"])
    treated = CUSTOMERS - sum(one["state"] == "control" for one in results)
    [allocation] = (await get(service, f"runs/{run['id']}/allocations"))["items"]
    assert allocation["usage"] == {"call_back": 3, "mail": treated - 3}
    assert (allocation["spent_usd"], allocation["optimal"]) == (6 + (treated - 3) * 0.5, True)
    assert allocation["queued"] + allocation["none"] + allocation["allocated"] == treated
    await a_reservation_takes_capacity_once(service)
    outcome = {"key": "o-1", "customer": "c1", "treatment": "mail", "success": True, "at": "2026-03-01T00:00:00Z"}
    for new in (1, 0):
        told = await service.client.post(f"{PATH}/outcomes", json=[outcome])
        assert told.json()["new"] == new, told.text
    async with service.container.db.operator_reading() as session:
        assert (await verify(session)).ok


async def ended(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    started = await service.client.post(f"{PATH}/runs", json=body)
    assert started.status_code == 201, started.text
    async with asyncio.timeout(WAIT_S):
        while True:
            run = await get(service, f"runs/{started.json()['id']}")
            if run["state"] in ("done", "failed", "cancelled"):
                return run
            await asyncio.sleep(0.05)


async def every_result_once(service: Service, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(service, f"runs/{run_id}/results", limit=60, **cursor)
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len({one["external_id"] for one in found}) == len(found) == CUSTOMERS
    return found


async def a_reservation_takes_capacity_once(service: Service) -> None:
    day = f"{service.container.clock() + timedelta(days=30):%Y-%m-%d}"
    body = {"treatment": "call_back", "day": day}
    held = [
        await service.client.post(
            f"{PATH}/reservations", json=body | {"customer": f"c{n}"}, headers={"Idempotency-Key": f"hold-{n}"}
        )
        for n in (1, 1, 2, 3, 4)
    ]
    assert [answer.status_code for answer in held] == [201, 201, 201, 201, 409], [answer.text for answer in held]
    assert held[0].json() == held[1].json()
