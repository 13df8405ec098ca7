"""A stage's fleet of processes, and what stands for `kubectl` before it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runbooks.drill.fleet_kubectl import NotStoodForError, stand_for
from runbooks.drill.stages.fleet import Deployment, Fleet, fronted, running_fleet


class Process:
    """In the place of a server: keeps what it was started with, and how many served as it ended."""

    started: list["Process"]
    fleet: Fleet

    def __init__(self, home: Path, port: int, **settings: str) -> None:
        self.home, self.port, self.settings = home, port, settings
        self.address = f"http://127.0.0.1:{port}"
        self.beside = -1
        self.started.append(self)

    def wait_ready(self) -> None:
        assert self.home.is_dir()

    def terminate(self) -> None:
        self.beside = len(self.fleet.deployments["api"].serving)

    def __exit__(self, *_: object) -> None:
        """It holds nothing."""


class House:
    def __init__(self, fleet: Fleet, kubectl: list[str], secrets: dict[str, str]) -> None:
        self.fleet, self.secrets = fleet, secrets
        self._address = kubectl[-1]

    async def kubectl(self, *words: str) -> str:
        return await asyncio.to_thread(stand_for, self._address, ["-n", "trellis", *words])

    @property
    def ports(self) -> list[int]:
        return [server.port for server in self.fleet.deployments["api"].serving]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    secrets = {"TRELLIS_SESSION_SECRET": "old"}
    kind: Any = type("OfThisTest", (Process,), {"started": []})
    api = Deployment(kind, tmp_path / "api", lambda: dict(secrets), (1, 2, 3), 2)
    async with running_fleet({"api": api}) as (fleet, kubectl):
        kind.fleet = fleet
        yield House(fleet, list(kubectl), secrets)


async def test_it_is_as_large_as_asked_and_as_it_was_when_nobody_asks_any_more(house: House) -> None:
    assert house.ports == [1, 2]
    await house.kubectl("scale", "deploy/api", "--replicas=3")
    assert house.ports == [1, 2, 3]
    await house.kubectl("annotate", "scaledobject", "api", "autoscaling.keda.sh/paused-replicas=1", "--overwrite")
    assert len(house.ports) == 1
    await house.kubectl("annotate", "scaledobject", "api", "autoscaling.keda.sh/paused-replicas-")
    assert len(house.ports) == 2
    shown = await house.kubectl("get", "deploy", "api", "-o", "jsonpath={.status.readyReplicas} of {.spec.replicas}")
    assert shown == "2 of 2"


async def test_more_than_there_is_room_for_is_refused_with_the_reason(house: House) -> None:
    with pytest.raises(NotStoodForError, match="room for 3 processes of api, not for 4"):
        await house.kubectl("scale", "deploy/api", "--replicas=4")
    assert len(house.ports) == 2


async def test_a_restart_leaves_as_many_serving_and_the_new_ones_read_their_settings_anew(house: House) -> None:
    before = list(house.fleet.deployments["api"].serving)
    house.secrets["TRELLIS_SESSION_SECRET"] = "new"
    await house.kubectl("rollout", "restart", "deploy/api")
    after: list[Any] = house.fleet.deployments["api"].serving
    assert [server.settings["TRELLIS_SESSION_SECRET"] for server in after] == ["new", "new"]
    ended: list[Any] = [server for server in before if server not in after]
    assert [server.beside for server in ended] == [2, 2]
    assert "successfully rolled out" in await house.kubectl("rollout", "status", "deploy/api")


async def test_requests_are_shared_among_those_that_serve(house: House) -> None:
    assert {house.fleet.address("api") for _ in range(4)} == {"http://127.0.0.1:1", "http://127.0.0.1:2"}


async def test_one_address_leads_to_the_process_whose_turn_it_is(house: House) -> None:
    async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        for process in house.fleet.deployments["api"].serving:
            process.port = port
        async with fronted(house.fleet, "api") as front:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(front.rpartition(":")[2]))
            assert await reader.read() == b"hello"
            writer.close()


@pytest.mark.parametrize(
    "words", [("delete", "pod", "x"), ("exec", "deploy/api", "--"), ("scale", "pod/../x", "--replicas=1")]
)
async def test_what_needs_a_cluster_is_refused(house: House, words: tuple[str, ...]) -> None:
    with pytest.raises(NotStoodForError):
        await house.kubectl(*words)


async def test_the_log_is_that_of_all_its_processes(house: House) -> None:
    for server in house.fleet.deployments["api"].serving:
        (server.home / "server.log").write_text(f"of {server.port}\n")
    assert await house.kubectl("logs", "deploy/api", "--since=10m") == "of 1\nof 2\n"
