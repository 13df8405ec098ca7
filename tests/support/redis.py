"""Redis servers of a test run's own: in a temporary folder, on loopback, without persistence, ended by their process.

As fixtures: `redis_server` (one for the session) and `redis_cluster` (three masters, for the session).
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.support.components import require
from tests.support.postgres import free_port

START_TIMEOUT_S = 20.0
SLOTS = 16_384
# A node also listens on its port plus 10,000.
HIGHEST_PORT = 55_535


@dataclass(frozen=True)
class RedisServer:
    """A running server."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, decode_responses=True)


@contextmanager
def running(folder: Path, *options: str, port: int | None = None) -> Iterator[RedisServer]:
    """A server that answers; `options` are those of its command line."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [require("redis"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    server = RedisServer(port, process)
    try:
        _until(lambda: server.client().ping(), "redis does not answer")
        yield server
    finally:
        process.kill()
        process.wait(timeout=10)


@contextmanager
def running_cluster(folder: Path) -> Iterator[str]:
    """Three masters with a third of the slots each; the cluster's address."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    ports = [_node_port() for _ in range(3)]
    with (
        running(folder / "0", *options, port=ports[0]) as first,
        running(folder / "1", *options, port=ports[1]) as second,
        running(folder / "2", *options, port=ports[2]) as third,
    ):
        _form([first, second, third])
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)


def _node_port() -> int:
    while (port := free_port()) > HIGHEST_PORT:
        pass
    return port


def _form(servers: Sequence[RedisServer]) -> None:
    edges = [SLOTS * part // len(servers) for part in range(len(servers) + 1)]
    for epoch, server in enumerate(servers, 1):
        server.client().execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
        server.client().execute_command("CLUSTER ADDSLOTSRANGE", edges[epoch - 1], edges[epoch] - 1)
    for server in servers:
        for other in servers:
            server.client().execute_command("CLUSTER MEET", "127.0.0.1", other.port)
    for server in servers:
        _until(lambda: server.client().cluster("info")["cluster_state"] == "ok", "the cluster does not form")  # noqa: B023


def _until(holds: Callable[[], object], reason: str) -> None:
    limit = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            pass
        if time.monotonic() > limit:
            raise RuntimeError(reason)
        time.sleep(0.02)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_cluster(tmp_path_factory.mktemp("redis-cluster")) as url:
        yield url
