"""Whether the new side's Redis will do."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from app.cache.connection import Client, connect
from app.errors import Unavailable
from app.promotion.look import Look
from app.settings import Settings
from infra.phases import Cache, Phase

OLDEST: Final = (7, 0)
NAME: Final = "Redis"


async def look_at_redis(target: Settings, wanted: Phase) -> Look:
    """Version, what it throws away when it is full, and whether the cluster is whole. Raises Unavailable."""
    if target.redis_url is None:
        return Look(NAME, False, "No Redis is named.", "Set TRELLIS_REDIS_URL.")
    async with _client(target.redis_url) as client:
        nodes = await _nodes(client)
        whole = await _cluster(client)
    sharded = wanted.stores.cache is Cache.REDIS_CLUSTER
    return _old(nodes) or _throws_away(nodes) or _not_whole(whole, sharded=sharded) or _fine(nodes, wanted)


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Client]:
    link = connect(url)
    try:
        yield link.client
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis does not answer ({type(error).__name__}).", retry_after=5) from error
    finally:
        await link.close()


async def _nodes(client: Client) -> Sequence[Mapping[str, Any]]:
    """What each master tells of itself."""
    if not isinstance(client, RedisCluster):
        return [await client.info()]
    told: Any = await client.info(target_nodes=RedisCluster.PRIMARIES)
    return [told] if "redis_version" in told else list(told.values())


async def _cluster(client: Client) -> Mapping[str, str] | None:
    """None where it is no cluster."""
    if not isinstance(client, RedisCluster):
        return None
    told: Mapping[str, str] = await client.execute_command("CLUSTER INFO")
    return told


def _old(nodes: Sequence[Mapping[str, Any]]) -> Look | None:
    version = min(str(node["redis_version"]) for node in nodes)
    if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST:
        return None
    least = ".".join(map(str, OLDEST))
    return Look(NAME, False, f"It is {version}.", f"At least {least} is needed: upgrade it.")


def _throws_away(nodes: Sequence[Mapping[str, Any]]) -> Look | None:
    policies = sorted({str(node["maxmemory_policy"]) for node in nodes})
    if not any(policy.startswith("allkeys-") for policy in policies):
        return None
    return Look(
        NAME,
        False,
        f"When it is full, it throws away any key ({', '.join(policies)}): conversations, limits, the positions that "
        "reads on replicas wait for.",
        "Set maxmemory-policy to volatile-lru (or volatile-ttl): caches, which carry a time, then go first.",
    )


def _not_whole(told: Mapping[str, str] | None, *, sharded: bool) -> Look | None:
    if told is None:
        todo = "Name a cluster: redis+cluster://host:port,..."
        return Look(NAME, False, "It is no cluster, and the phase needs one.", todo) if sharded else None
    if told["cluster_state"] == "ok":
        return None
    return Look(NAME, False, f"The cluster is in state '{told['cluster_state']}'.", "Bring every slot under a master.")


def _fine(nodes: Sequence[Mapping[str, Any]], wanted: Phase) -> Look:
    policies = ", ".join(sorted({str(node["maxmemory_policy"]) for node in nodes}))
    many = f"{len(nodes)} masters" if len(nodes) > 1 else "one master"
    if len(nodes) < wanted.stores.cache_shards:
        todo = f"The phase counts on {wanted.stores.cache_shards} masters: add some."
        return Look(NAME, False, f"It has {many}.", todo)
    return Look(NAME, True, f"{nodes[0]['redis_version']}, {many}, {policies}.")
