"""Clients and their health, the same embedded and on servers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.agent.tools import ToolContext
from app.packs.teams.client_tools import build_client_tools
from app.packs.teams.sentiment import SentimentLexicon
from app.principal import Principal, Role
from tests.support.servers import Backends
from tests.support.service import TENANT, Service, running

PATH = "/v1/teams/clients"
ADMIN = Principal(TENANT, "test", Role.ADMIN)


@pytest.fixture
async def service(tmp_path: Path, backends: Backends) -> AsyncIterator[Service]:
    async with running(tmp_path, knowledge=False, **backends) as found:
        yield found


async def test_clients_come_in_once_are_scored_and_go_whole(service: Service) -> None:
    load = service.container.runtimes["teams"].load_sample
    assert load is not None
    assert (await load(ADMIN), await load(ADMIN)) == (263, 0)
    listed = (await service.client.get(f"{PATH}?state=at_risk")).json()["items"]
    assert {one["external_id"] for one in listed} == {"borealis-foods", "cumbre-fresca"}
    used = next(one for one in build_client_tools(service.container.kit.ports, SentimentLexicon()))
    rows = (await used.run(ToolContext(ADMIN, "k", "s"), used.args()))["clients"]
    assert [one["id"] for one in rows][:2] == ["borealis-foods", "cumbre-fresca"]
    score = (await service.client.post(f"{PATH}/borealis-foods/score")).json()
    assert sum(one["points"] for one in score["factors"]) == pytest.approx(score["score"], abs=0.02)
    assert "Open tickets: 4 " in score["factors"][1]["sentence"]
    assert score["trend"]["direction"] == "down"
    assert (await service.client.delete("/v1/people/j.lind@borealisfoods.example")).json()["erased"]["clients"] > 5
    assert (await service.client.delete(f"{PATH}/borealis-foods")).status_code == 204
    assert (await service.client.get(f"{PATH}/borealis-foods")).status_code == 404


async def test_two_imports_at_once_come_in_whole_and_are_counted_once(service: Service) -> None:
    names = [f"c{number:02}" for number in range(20)]
    signal = {"kind": "message", "at": "2026-03-01T00:00:00Z", "text": "Thanks."}
    clients = [
        {"external_id": name, "name": name, "signals": [{"key": f"k{n}", **signal} for n in range(5)]} for name in names
    ]
    backwards = [{**one, "signals": one["signals"][::-1]} for one in reversed(clients)]
    answers = await asyncio.gather(*(service.client.put(PATH, json=body) for body in (clients, backwards)))
    assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
    reports = [answer.json() for answer in answers]
    assert sum(report["clients"]["new"] for report in reports) == 20
    assert sum(report["new_signals"] for report in reports) == 100
