"""Redis Cluster of three masters and three replicas: a master is killed, all nodes fall silent."""

import asyncio
import re
import signal
import time
from typing import Any

from app.principal import Tier
from tests.chaos.fault import Promise, Seen, Stage
from tests.chaos.house import furnish, serving
from tests.chaos.leads import Senders
from tests.chaos.load import Client, Load, Try, codes, failed, percentile_ms, session
from tests.support.redis import RunningCluster, running_cluster

QUESTION = "How long is the warranty on a sensor, and what does it cover?"
CHAT_RATE, WRITE_RATE = 20.0, 5.0
STRUCK_S = 10.0
RECOVERY_S = 20.0
QUIET_S = 2.0
BURST = 150
FREE_A_MINUTE = 60
_FALLBACKS = re.compile(r"^trellis_redis_fallbacks_total\{.*\} (\S+)$", re.MULTILINE)


class _Redis:
    """Chat and leads over the cluster: caches, limits and conversations are in it."""

    needs = ("redis",)

    async def strike(self, cluster: RunningCluster) -> None:
        raise NotImplementedError

    async def heal(self, cluster: RunningCluster) -> None:
        raise NotImplementedError

    async def run(self, stage: Stage) -> Seen:
        cluster = stage.stack.enter_context(running_cluster(stage.folder / "redis", replicas=1))
        settings = {"redis_url": cluster.url}
        house = await furnish(
            stage.folder / "home", settings, tenants=("acme", "small"), bots=("docs",), tiers={"small": Tier.FREE}
        )
        http = await stage.stack.enter_async_context(session())
        server = await stage.stack.enter_async_context(serving(house))
        client, small = (Client(http, server.address, key) for key in house.keys.values())
        senders = Senders(client)

        async def chat(number: int) -> Try:
            # Every other one with a memory of its own making: that one asks Redis for more than an answer.
            history: dict[str, Any] = {} if number % 2 else {"history": []}
            return await client.post("/v1/bots/docs/chat", {"message": QUESTION} | history)

        stage.tell("chat and leads, Redis well")
        async with Load(chat, CHAT_RATE) as chats, Load(senders.send, WRITE_RATE):
            await asyncio.sleep(3)
            before = len(chats.tries)
            stage.tell("the same, Redis struck")
            struck = time.monotonic()
            await self.strike(cluster)
            admitted = await self._burst(small)
            await asyncio.sleep(max(0.0, struck + STRUCK_S - time.monotonic()))
            during = chats.tries[before:]
            healed = time.monotonic()
            await self.heal(cluster)
            recovery_s = await self._recovery(client, struck, healed)
        return Seen(
            tried=len(chats.tries) + len(senders.tries) + BURST,
            failed=failed(chats.tries) + failed(senders.tries),
            recovery_s=recovery_s,
            kinds=codes([*chats.tries, *senders.tries]),
            figures={
                "chat_p99_ms_well": percentile_ms(chats.tries[:before], 99),
                "chat_p99_ms": percentile_ms(during, 99),
                "free_key_admitted": admitted,
            },
        )

    async def _burst(self, client: Client) -> int:
        """How many of a burst are let through for a key that may send sixty a minute. Raises RuntimeError for an answer
        that is neither."""
        tries = await asyncio.gather(*(client.get("/v1/leads?limit=1") for _ in range(BURST)))
        odd = [each for each in tries if not each.ok and each.code != "rate-limited"]
        if odd:
            raise RuntimeError(f"a limited key was answered {odd[0]}")
        return sum(each.ok for each in tries)

    def since(self, struck: float, healed: float) -> float:
        """From when recovery counts."""
        return healed

    async def _recovery(self, client: Client, struck: float, healed: float) -> float | None:
        """Seconds until the service last did something without Redis, and then no more for two seconds."""
        known, last = -1.0, time.monotonic()
        while time.monotonic() - healed < RECOVERY_S:
            count = sum(float(value) for value in _FALLBACKS.findall(await client.text("/metrics")))
            if count != known:
                known, last = count, time.monotonic()
            elif time.monotonic() - last > QUIET_S:
                return max(0.0, last - self.since(struck, healed))
            await asyncio.sleep(0.1)
        return None


class RedisMasterKilled(_Redis):
    name = "redis-master"
    title = "A master of the Redis Cluster is killed, its replica takes over"
    promise = Promise(
        "no request fails; limits hold (a free key's 60 a minute, as many again by each process alone); Redis "
        "is used again by itself",
        failed=0,
        recovery_s=20,
        figures={"free_key_admitted": 2 * FREE_A_MINUTE + 6},
    )

    def since(self, struck: float, healed: float) -> float:
        return struck

    async def strike(self, cluster: RunningCluster) -> None:
        await asyncio.to_thread(cluster.kill, 0)

    async def heal(self, cluster: RunningCluster) -> None:
        """Nobody does: the replica is in its place."""


class RedisSilent(_Redis):
    name = "redis-away"
    title = "Every Redis node hangs: connections stay open, nothing answers"
    promise = Promise(
        "no request fails; each process keeps the limits by itself; caches miss; Redis is used again by itself",
        failed=0,
        recovery_s=10,
        figures={"free_key_admitted": FREE_A_MINUTE + 6},
    )

    async def strike(self, cluster: RunningCluster) -> None:
        for node in (*cluster.masters, *cluster.replicas):
            node.process.send_signal(signal.SIGSTOP)

    async def heal(self, cluster: RunningCluster) -> None:
        for node in (*cluster.masters, *cluster.replicas):
            node.process.send_signal(signal.SIGCONT)
