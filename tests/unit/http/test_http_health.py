"""Alive, ready, measured."""

import asyncio

import pytest

from app.errors import Unavailable
from app.http.health import Readiness
from tests.support.http_app import Container, build, client_of


async def fine() -> None:
    await asyncio.sleep(0)


async def refuses() -> None:
    raise ConnectionRefusedError("postgres://trellis:hunter2@db.internal")


async def explains() -> None:
    raise Unavailable("The jobs are stopping.", retry_after=1)


async def hangs() -> None:
    await asyncio.sleep(60)


async def test_alive_and_metrics_need_no_key(stranger):
    assert (await stranger.get("/healthz")).json() == {"alive": True}
    metrics = await stranger.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'trellis_http_requests_total{method="GET",route="/healthz",status_class="2xx"} 1.0' in metrics.text


async def test_metrics_speak_openmetrics_when_asked(stranger):
    answer = await stranger.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["text/plain; version=abc", "application/openmetrics-text; version=", ";;;", "*/*"])
async def test_metrics_survive_any_accept_header(stranger, accept):
    assert (await stranger.get("/metrics", headers={"Accept": accept})).status_code == 200


async def test_ready_when_every_part_is(db, clock):
    async with client_of(build(Container(db, clock, checks={"database": fine, "jobs": fine}))) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["ready"] is True
    assert [(check["name"], check["ok"], check["cause"]) for check in answer.json()["checks"]] == [
        ("database", True, None),
        ("jobs", True, None),
    ]
    assert all(check["ms"] >= 0 for check in answer.json()["checks"])


async def test_not_ready_names_the_part_and_the_cause_but_no_secret(db, clock):
    async with client_of(build(Container(db, clock, checks={"a": fine, "b": refuses, "c": explains}))) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert {check["name"]: check["cause"] for check in answer.json()["checks"]} == {
        "a": None,
        "b": "ConnectionRefusedError: see the log",
        "c": "The jobs are stopping.",
    }
    assert "hunter2" not in answer.text


async def test_a_check_that_hangs_is_cut_off_and_the_others_answer():
    state = await Readiness({"slow": hangs, "fine": fine}, timeout_s=0.05).run()
    assert [(check.name, check.ok) for check in state.checks] == [("slow", False), ("fine", True)]
    assert state.checks[0].cause == "no answer within 0.05 s"


async def test_many_who_ask_at_once_run_each_check_once():
    runs = []

    async def count() -> None:
        runs.append(1)
        await asyncio.sleep(0.01)

    readiness = Readiness({"part": count})
    await asyncio.gather(*(readiness.run() for _ in range(50)))
    assert len(runs) == 1


async def test_a_result_does_not_stand_for_long(monkeypatch):
    ok = [True]

    async def flips() -> None:
        if not ok[0]:
            raise Unavailable("Gone.", retry_after=1)

    readiness = Readiness({"part": flips})
    assert (await readiness.run()).ready
    ok[0] = False
    monkeypatch.setattr("app.http.health.REMEMBER_S", 0)
    assert not (await readiness.run()).ready


async def test_what_a_process_does_without_only_degrades_it():
    heard: dict[str, bool] = {}
    state = await Readiness({"database": fine}, {"redis": explains}, told=heard.__setitem__).run()
    assert (state.ready, state.degraded) == (True, True)
    assert [(check.name, check.required, check.cause) for check in state.checks] == [
        ("database", True, None),
        ("redis", False, "The jobs are stopping."),
    ]
    assert heard == {"database": True, "redis": False}


async def test_a_process_that_ends_is_not_ready_at_once_and_lets_its_clients_go(db, clock):
    container = Container(db, clock, checks={"part": hangs})
    async with client_of(build(container)) as client:
        assert "connection" not in (await client.get("/healthz")).headers
        container.readiness.end()
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["checks"][0]["name"]) == (503, "process")
        alive = await client.get("/healthz")
        assert (alive.status_code, alive.headers["connection"]) == (200, "close")


async def test_a_process_has_started_once_and_is_not_asked_again(db, clock):
    looks = []

    async def late() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise Unavailable("The weights are being read.", retry_after=1)

    container = Container(db, clock)
    container.readiness = Readiness({}, startup={"embedder": late})
    async with client_of(build(container)) as client:
        answer = await client.get("/startupz")
        assert (answer.status_code, answer.json()["started"]) == (503, False)
        assert answer.json()["checks"][0]["cause"] == "The weights are being read."
        for _ in range(2):
            answer = await client.get("/startupz")
            assert (answer.status_code, answer.json()["started"]) == (200, True)
    assert len(looks) == 2
