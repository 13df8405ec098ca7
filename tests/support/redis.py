"""Redis servers of a test run's own: in a temporary folder, on loopback, without persistence, ended by their process.

As fixtures: `redis_server` (one for the session) and `redis_cluster` (three masters with a replica each, for the
session).
"""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support import guard
from tests.support.components import require
from tests.support.postgres import free_port

START_TIMEOUT_S = 180.0
# Long enough for a machine that is busy with other tests to answer in.
TIMEOUT_S, TRIP_S = 1.0, 2.0
NODE_TIMEOUT_MS = 1_000
PATIENT_NODE_TIMEOUT_MS = 20_000
SLOTS = 16_384
COUNTERS = "trellis:limits:"
"""Of rate limits: they go by themselves in minutes."""
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

    def kill(self) -> None:
        """SIGKILL: it says goodbye to nobody."""
        guard.end(self.process)


@contextmanager
def running(folder: Path, *options: str, port: int | None = None) -> Iterator[RedisServer]:
    """A server that answers; `options` are those of its command line."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    command = [require("redis"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, *options]
    server = RedisServer(port, guard.start(command, folder, stdout=subprocess.DEVNULL))
    try:
        _until(lambda: server.client().ping(), "redis does not answer")
        yield server
    finally:
        server.kill()


@dataclass(frozen=True)
class RunningCluster:
    """Masters with a share of the slots each; the replica of a master has its place in `replicas`."""

    masters: Sequence[RedisServer]
    replicas: Sequence[RedisServer]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in (*self.masters, *self.replicas))

    def kill(self, master: int) -> None:
        """SIGKILL; its replica takes over after the cluster's node timeout of a second."""
        self.masters[master].kill()

    def failover(self, master: int) -> None:
        """Kills a master and returns when the cluster is whole again, with its replica in its place."""
        self.kill(master)
        heir = self.replicas[master].client()
        _until(lambda: heir.info("replication")["role"] == "master", "the replica does not take over")
        _until(lambda: heir.cluster("info")["cluster_state"] == "ok", "the cluster is not whole again")

    def empty(self) -> None:
        """Forgets every key, in the place of a new cluster for a test."""
        for master in self.masters:
            master.client().flushall()


@contextmanager
def running_cluster(
    folder: Path, replicas: int = 0, node_timeout_ms: int = NODE_TIMEOUT_MS
) -> Iterator[RunningCluster]:
    """Three masters with a third of the slots each, with that many replicas (0 or 1) each."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(running_node(folder / str(place), node_timeout_ms)) for place in range(3 + 3 * replicas)
        ]
        cluster = RunningCluster(nodes[:3], nodes[3:])
        _form(cluster.masters, nodes)
        _follow(cluster)
        yield cluster


def running_node(folder: Path, node_timeout_ms: int = NODE_TIMEOUT_MS) -> AbstractContextManager[RedisServer]:
    """A node without slots that no cluster knows yet."""
    timeout = ("--cluster-node-timeout", str(node_timeout_ms))
    return running(folder, "--cluster-enabled", "yes", *timeout, "--repl-diskless-sync-delay", "0", port=_node_port())


def _node_port() -> int:
    while (port := free_port()) > HIGHEST_PORT:
        pass
    return port


def _form(masters: Sequence[RedisServer], nodes: Sequence[RedisServer]) -> None:
    edges = [SLOTS * part // len(masters) for part in range(len(masters) + 1)]
    for epoch, node in enumerate(nodes, 1):
        node.client().execute_command("CLUSTER SET-CONFIG-EPOCH", epoch)
    for master, first, end in zip(masters, edges, edges[1:], strict=False):
        master.client().execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
    for node in nodes:
        for other in nodes:
            node.client().execute_command("CLUSTER MEET", "127.0.0.1", other.port)
    for node in nodes:
        _until(partial(_knows, node, len(nodes)), "the cluster does not form")


def _knows(node: RedisServer, others: int) -> bool:
    info = node.client().cluster("info")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == others


def _follow(cluster: RunningCluster) -> None:
    for replica, master in zip(cluster.replicas, cluster.masters, strict=False):
        replica.client().execute_command("CLUSTER REPLICATE", master.client().execute_command("CLUSTER MYID"))
    for replica in cluster.replicas:
        _until(partial(_linked, replica), "a replica does not follow its master")


def _linked(replica: RedisServer) -> bool:
    return bool(replica.client().info("replication").get("master_link_status") == "up")


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


def entries(server: RedisServer) -> list[tuple[str, Any]]:
    """Every key with what it holds, but for counters of rate limits."""
    client = server.client()
    read: dict[str, Callable[[str], Any]] = {
        "string": client.get,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "zset": lambda key: client.zrange(key, 0, -1),
        "hash": client.hgetall,
        "stream": client.xrange,
    }
    return [(key, read[client.type(key)](key)) for key in client.scan_iter() if COUNTERS not in key]


@pytest.fixture(scope="session", autouse=True)
def patient_links() -> Iterator[None]:
    """A quarter of a second without an answer is Redis being away to the app, and nothing on two shared cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.cache.connection.TIMEOUT_S", TIMEOUT_S)
        patch.setattr("app.cache.connection.TRIP_S", TRIP_S)
        yield


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def whole_redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """The session's cluster, of three masters and three replicas. A test that kills a node makes one of its own."""
    # A node of it that a busy machine keeps waiting is not to be replaced.
    folder = tmp_path_factory.mktemp("redis-cluster")
    with running_cluster(folder, replicas=1, node_timeout_ms=PATIENT_NODE_TIMEOUT_MS) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def redis_cluster(whole_redis_cluster: RunningCluster) -> str:
    return whole_redis_cluster.url
