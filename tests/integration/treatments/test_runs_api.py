"""Runs over the API, on one service with its real agents and the offline model."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pyarrow.parquet
import pytest
import pytest_asyncio

from app.principal import Role
from tests.support.service import Service, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
WAIT_S = 60.0
CATALOGUE: dict[str, Any] = {
    "treatments": [
        {"name": "call_back", "title": "Call back", "cost_usd": 2, "base_chance": 0.2, "capacity_per_day": 3},
        {"name": "mail", "title": "A letter", "cost_usd": 0.5, "base_chance": 0.1},
    ],
    "control_share": 0.2,
}
CUSTOMERS = 130
RUNS = "/v1/treatments/runs"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with running(tmp_path_factory.mktemp("runs"), knowledge=False) as opened:
        assert (await opened.client.put("/v1/treatments/catalogue", json=CATALOGUE)).status_code == 200
        customers = [
            {"external_id": f"c{n}", "worth_usd": 100 + n, "segment": "new" if n < 20 else "old", "events": []}
            for n in range(CUSTOMERS)
        ]
        assert (await opened.client.put("/v1/treatments/customers", json=customers)).status_code == 200
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def done(service: Service) -> dict[str, Any]:
    """A run over everybody that has ended, not allocated."""
    return await ended(service, {"all": True, "seed": 7, "allocate": False})


async def ended(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    answer = await service.client.post(RUNS, json=body)
    assert answer.status_code == 201, answer.text
    return await settled(service, answer.json()["id"])


async def settled(service: Service, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(WAIT_S):
        while True:
            run: dict[str, Any] = (await service.client.get(f"{RUNS}/{run_id}")).json()
            if run["state"] in ("done", "failed", "cancelled"):
                return run
            await asyncio.sleep(0.05)


async def test_a_run_says_how_far_it_is_and_what_it_took(done: dict[str, Any]) -> None:
    assert (done["state"], done["total"], done["finished"], done["chunks"]) == ("done", CUSTOMERS, CUSTOMERS, 2)
    assert done["set_aside"] == 0
    assert 0 < done["model_calls"] < CUSTOMERS
    assert done["rate"] > 0
    assert done["seconds_left"] is None
    assert done["catalogue_version"] == 1


async def test_results_are_paged_and_filtered_and_each_has_its_reason(service: Service, done: dict[str, Any]) -> None:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await service.client.get(f"{RUNS}/{done['id']}/results", params={"limit": 60, **cursor})).json()
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len({one["external_id"] for one in found}) == len(found) == CUSTOMERS
    assert all(one["reason"] for one in found)
    held = (await service.client.get(f"{RUNS}/{done['id']}/results", params={"state": "control", "limit": 200})).json()
    assert {one["external_id"] for one in held["items"]} == {
        one["external_id"] for one in found if one["state"] == "control"
    }
    assert held["items"]


async def test_one_result_shows_what_it_rests_on(service: Service, done: dict[str, Any]) -> None:
    page = (await service.client.get(f"{RUNS}/{done['id']}/results", params={"state": "proposed"})).json()
    one = (await service.client.get(f"{RUNS}/{done['id']}/results/{page['items'][0]['external_id']}")).json()
    assert one["options"][0]["treatment"] in ("call_back", "mail")
    assert one["seen"]["features"]
    assert one["answer_id"]
    missing = await service.client.get(f"{RUNS}/{done['id']}/results/nobody")
    assert missing.status_code == 404


async def test_files_hold_every_result(service: Service, done: dict[str, Any]) -> None:
    as_csv = await service.client.get(f"{RUNS}/{done['id']}/results.csv")
    assert as_csv.headers["content-type"].startswith("text/csv")
    lines = as_csv.text.split("\r\n")
    assert len(lines) == CUSTOMERS + 2
    assert lines[0].startswith("external_id,state,treatment,net_usd")
    as_parquet = await service.client.get(f"{RUNS}/{done['id']}/results.parquet")
    table = pyarrow.parquet.read_table(io.BytesIO(as_parquet.content))
    assert set(table.column("external_id").to_pylist()) == {line.partition(",")[0] for line in lines[1:-1]}
    assert (await service.client.get(f"{RUNS}/run_none/results.csv")).status_code == 404


async def test_a_customers_story_has_each_runs_decision(service: Service, done: dict[str, Any]) -> None:
    again = await ended(service, {"customers": ["c5"], "control_share": 0, "allocate": False})
    story = (await service.client.get("/v1/treatments/customers/c5/story")).json()
    told = {decision["run"]["id"]: decision for decision in story["decisions"]}
    assert {done["id"], again["id"]} <= told.keys()
    decision = told[again["id"]]
    assert decision["result"]["seen"]["features"]
    assert decision["answer"]["model"]
    assert decision["answer"]["prompt_version"] == 1
    assert story["decisions_total"] == len(told)


async def test_a_run_over_a_file_is_over_its_customers_once_each(service: Service) -> None:
    body = "external_id,name\nc1,A\nc2,B\nc1,A again\n"
    answer = await service.client.post(
        RUNS, params={"allocate": "false", "priority": 3}, content=body, headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 201, answer.text
    run = await settled(service, answer.json()["id"])
    assert (run["finished"], run["priority"]) == (2, 3)
    lines = b'{"external_id": "c3"}\n\n{"external_id": "c4"}\n'
    answer = await service.client.post(
        RUNS, params={"allocate": "false"}, content=lines, headers={"Content-Type": "application/x-ndjson"}
    )
    assert (await settled(service, answer.json()["id"]))["finished"] == 2


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("external_id\nc1\nnobody\nnone\n", "text/csv", "'nobody', 'none'. Import them first"),
        ("id\nc1\n", "text/csv", "no column 'external_id'"),
        ("external_id\n", "text/csv", "names no customer"),
        ('{"external_id": "c1"}\n{"id": 3}\n', "application/x-ndjson", "Line 2 has no 'external_id'"),
        ("external_id\n\xff", "text/csv; charset=latin-1", "not UTF-8"),
    ],
)
async def test_a_file_that_is_wrong_starts_nothing(service: Service, body: str, kind: str, said: str) -> None:
    before = await service.rows("treatment_runs")
    answer = await service.client.post(RUNS, content=body.encode("latin-1"), headers={"Content-Type": kind})
    assert answer.status_code in (400, 422)
    assert said in answer.json()["detail"]
    assert await service.rows("treatment_runs") == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "exactly one of"),
        ({"all": True, "segment": "new"}, "exactly one of"),
        ({"segment": "nowhere"}, "no customer in the segment 'nowhere'"),
        ({"customers": ["c1", "ghost"]}, "'ghost'"),
        ({"all": True, "window": "8-9"}, "HH:MM-HH:MM"),
        ({"all": True, "colour": "red"}, "colour"),
    ],
)
async def test_a_run_over_nobody_or_without_sense_is_refused(service: Service, body: dict[str, Any], said: str) -> None:
    answer = await service.client.post(RUNS, json=body)
    assert answer.status_code == 422
    assert said in answer.text


async def test_the_same_key_starts_one_run(service: Service) -> None:
    body = {"customers": ["c1"], "allocate": False}
    answers = [await service.client.post(RUNS, json=body, headers={"Idempotency-Key": "run-1"}) for _ in range(2)]
    assert answers[0].json()["id"] == answers[1].json()["id"]


async def test_what_a_state_does_not_allow_is_a_conflict_with_a_sentence(
    service: Service, done: dict[str, Any]
) -> None:
    for verb in ("pause", "cancel", "resume"):
        answer = await service.client.post(f"{RUNS}/{done['id']}/{verb}")
        assert answer.status_code == 409
        assert "is done" in answer.json()["detail"]
        assert (await service.client.post(f"{RUNS}/run_none/{verb}")).status_code == 404


async def test_a_run_outside_its_window_waits_and_can_be_cancelled_and_resumed(service: Service) -> None:
    now = service.container.clock()
    window = f"{(now.hour + 2) % 24:02d}:00-{(now.hour + 3) % 24:02d}:00"
    run_id = (await service.client.post(RUNS, json={"segment": "new", "window": window, "allocate": False})).json()[
        "id"
    ]
    async with asyncio.timeout(WAIT_S):
        while (run := (await service.client.get(f"{RUNS}/{run_id}")).json())["state"] != "paused":
            await asyncio.sleep(0.05)
    assert window in run["reason"]
    assert run["resume_at"][11:16] == window[:5]
    assert (await service.client.post(f"{RUNS}/{run_id}/cancel")).json()["state"] == "cancelled"
    assert (await service.client.post(f"{RUNS}/{run_id}/resume", json={"window": ""})).json()["state"] == "queued"
    assert (await settled(service, run_id))["finished"] == 20


async def test_another_tenant_sees_nothing_of_it(service: Service, done: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {await service.other_tenant()}"}
    for path in ("", "/results", "/results/c1", "/results.csv", "/results.parquet"):
        assert (await service.client.get(f"{RUNS}/{done['id']}{path}", headers=headers)).status_code == 404
    assert (await service.client.get("/v1/treatments/customers/c5/story", headers=headers)).status_code == 404
    assert (await service.client.get(RUNS, headers=headers)).json()["items"] == []
    assert (await service.client.post(f"{RUNS}/{done['id']}/cancel", headers=headers)).status_code == 404


async def test_a_viewer_may_look_but_not_steer(service: Service, done: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {await service.key_with(Role.VIEWER)}"}
    assert (await service.client.get(f"{RUNS}/{done['id']}", headers=headers)).status_code == 200
    assert (await service.client.post(RUNS, json={"all": True}, headers=headers)).status_code == 403
    assert (await service.client.post(f"{RUNS}/{done['id']}/resume", headers=headers)).status_code == 403
