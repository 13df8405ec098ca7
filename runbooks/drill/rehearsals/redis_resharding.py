"""Redis Cluster: one master's memory fills up, half of its slots move to a fourth one while the app is asked."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from redis import RedisCluster

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Rollback, Stage, Standing
from runbooks.drill.stages.aws import Aws, running_aws
from runbooks.drill.stages.watched import redis_exporter, watched
from tests.chaos.house import furnish, serving
from tests.chaos.leads import Senders
from tests.chaos.load import Client, Load, Try, codes, failed, session
from tests.support.redis import RedisServer, RunningCluster, running_cluster, running_node

BOT: Final = "docs"
QUESTION: Final = "How long is the warranty on a sensor, and what does it cover?"
CHATS, LEADS = 8.0, 2.0
LIMIT: Final = 24 << 20
"""Bytes of each node's memory."""
SHARE: Final = 0.94
VALUE: Final = 16 << 10
_BATCH: Final = 50
_OWN_PHASE: Final = PhaseName.MEDIUM
_AWS_CLUSTER: Final = "trellis-medium-cache"


@dataclass(kw_only=True)
class Resharding(Standing):
    """`planted`: keys that fill the first master. `chats`, `leads`: what the app was asked meanwhile."""

    cluster: RunningCluster
    chats: Load
    leads: Load
    planted: Sequence[str] = ()
    survived: int = 0

    async def break_it(self) -> None:
        self.planted = await asyncio.to_thread(fill, self.cluster.masters[0])

    async def mend(self) -> None:
        """Counts the keys in their new places, and takes them away: nothing is too full any more."""
        self.survived = await asyncio.to_thread(count_kept, self.cluster, self.planted)
        await asyncio.to_thread(remove, self.cluster, self.planted)

    async def lost(self) -> str:
        asked = [*self.chats.tries, *self.leads.tries]
        gone = len(self.planted) - self.survived
        assert not gone, f"{gone} of {len(self.planted)} keys are gone"
        refused = [each for each in asked if each.status >= 400]
        assert not refused, f"{len(refused)} of {len(asked)} requests were refused: {codes(refused)}"
        late = f"{failed(asked)} of {len(asked)} requests without an answer in time, none refused"
        return f"nothing of {len(self.planted)} keys ({late})"


def fill(node: RedisServer) -> list[str]:
    """Keys of the node's own slots, until most of its memory is taken; it may not throw any away."""
    client, planted = node.client(), list[str]()
    names = own_names(node)
    while client.info("memory")["used_memory"] < SHARE * LIMIT:
        batch = [next(names) for _ in range(_BATCH)]
        for name in batch:
            client.set(name, name.ljust(VALUE, "."))
        planted += batch
    return planted


def own_names(node: RedisServer) -> Iterator[str]:
    client: Any = node.client()
    mine = client.execute_command("CLUSTER MYID")
    ranges = [
        (first, last)
        for first, last, master, *_ in client.execute_command("CLUSTER SLOTS")
        if _text(master[2]) == _text(mine)
    ]
    for number in count():
        name = f"drill:{number}"
        slot = int(client.execute_command("CLUSTER KEYSLOT", name))
        if any(first <= slot <= last for first, last in ranges):
            yield name


def _text(said: Any) -> str:
    return said.decode() if isinstance(said, bytes) else str(said)


def count_kept(cluster: RunningCluster, names: Sequence[str]) -> int:
    """How many of the keys still have their value, wherever their slot is now."""
    with whole(cluster) as client:
        return sum(client.get(name) == name.ljust(VALUE, ".") for name in names)


def remove(cluster: RunningCluster, names: Sequence[str]) -> None:
    with whole(cluster) as client:
        for name in names:
            client.delete(name)


def whole(cluster: RunningCluster) -> RedisCluster:
    """A client that follows keys to the node that has them."""
    return RedisCluster(host="127.0.0.1", port=cluster.masters[1].port, decode_responses=True)


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_context
        aws = enter(running_aws(folder / "aws"))
        cluster = enter(running_cluster(folder / "redis", replicas=1))
        new, spare = (enter(running_node(folder / name)) for name in ("new", "spare"))
        for node in (*cluster.masters, *cluster.replicas, new, spare):
            node.client().config_set("maxmemory", LIMIT)
        masters = (*cluster.masters, new)
        exporters = [enter(redis_exporter(folder / f"exporter-{place}", node)) for place, node in enumerate(masters)]
        house = await furnish(folder / "home", {"redis_url": cluster.url}, bots=(BOT,))
        server = await stack.enter_async_context(serving(house))
        jobs = {"redis": exporters, "trellis-api": [server.port]}
        prometheus = await stack.enter_async_context(watched(folder, _OWN_PHASE, jobs))
        client = Client(await stack.enter_async_context(session()), server.address, house.key)

        async def chat(_number: int) -> Try:
            return await client.post(f"/v1/bots/{BOT}/chat", {"message": QUESTION})

        chats = await stack.enter_async_context(Load(chat, CHATS))
        leads = await stack.enter_async_context(Load(Senders(client).send, LEADS))
        await asyncio.to_thread(_in_aws, aws)
        names = {"FULL": cluster.masters[0], "NEW": new, "SPARE": spare}
        addresses = {name: f"127.0.0.1:{node.port}" for name, node in names.items()}
        environment = {**aws.environment, **addresses, "PHASE": _OWN_PHASE.value}
        yield Resharding(environment=environment, prometheus=prometheus, cluster=cluster, chats=chats, leads=leads)


def _in_aws(aws: Aws) -> None:
    """The cluster as AWS would list it."""
    shape = ("--num-node-groups", "3", "--replicas-per-node-group", "1", "--automatic-failover-enabled")
    what = ("--replication-group-id", _AWS_CLUSTER, "--replication-group-description", "cache")
    kind = ("--engine", "redis", "--cache-node-type", "cache.r7g.large")
    aws.call("elasticache", "create-replication-group", *what, *kind, *shape)


REHEARSAL = Rehearsal(
    page="procedures/redis-resharding",
    alert="RedisMemory",
    needs=("redis", "redis_exporter", "prometheus", "alertmanager"),
    stage=stage,
    rollback=Rollback.AFTER,
)
