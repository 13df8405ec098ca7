"""A connection to Redis that may fail without anybody's request failing with it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import structlog
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.errors import ConfigError

_log = structlog.get_logger(__name__)

TIMEOUT_S: Final = 0.25
PAUSE_S: Final = 5.0
# Each takes a connection, and a pool that is empty counts as a server that is down.
AT_ONCE: Final = 32
SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel")

Client = Redis | RedisCluster
Fill = Callable[[Any], None]
"""Puts commands on a redis-py pipeline."""


class RedisAway(Exception):
    """Redis does not answer, or did not a moment ago."""


class RedisLink:
    """A client, asked only while it is worth asking.

    After an error nothing is asked for five seconds: a server that hangs costs one short wait and not one for each
    request. One warning is logged for each pause.
    """

    def __init__(self, client: Client, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._monotonic = monotonic
        self._again = 0.0
        self._room = asyncio.Semaphore(AT_ONCE)

    @property
    def paused(self) -> bool:
        return self._monotonic() < self._again

    async def run(self, fill: Fill) -> list[Any]:
        """The answers to the commands that `fill` puts on a pipeline, in one trip to each node.

        Those of one hash tag are carried out in their order, others' commands in between. There are no transactions:
        redis-py's on a cluster run each command in a thread and an event loop of its own.

        Raises RedisAway.
        """
        async with self._room:
            if self.paused:
                raise RedisAway
            try:
                pipeline = self.client.pipeline(transaction=False)
                fill(pipeline)
                answers: list[Any] = await pipeline.execute()
            except (RedisError, OSError, TimeoutError) as error:
                self._pause(error)
                raise RedisAway from error
            return answers

    async def close(self) -> None:
        await self.client.aclose()

    def _pause(self, error: Exception) -> None:
        if not self.paused:
            _log.warning("redis.away", pause_s=PAUSE_S, error=repr(error))
        self._again = self._monotonic() + PAUSE_S


def connect(url: str) -> RedisLink:
    """A link that connects when it is first asked.

    Args:
        url: `redis://` or `rediss://[user:password@]host:port/db`, `redis+cluster://host:port,host:port` (also
            `rediss+cluster://`), `redis+sentinel://host:port,host:port/service`.

    Raises ConfigError for any other address.
    """
    try:
        return RedisLink(_client(url))
    except ValueError as error:
        raise ConfigError(f"TRELLIS_REDIS_URL cannot be read: {error}.") from None


def _client(url: str) -> Client:
    parts = urlsplit(url)
    # One more try at once: after a restart of the server every pooled connection is a dead one.
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 1),
    }
    if parts.scheme in ("redis", "rediss"):
        return Redis.from_url(url, **options)
    options |= _credentials(parts)
    if parts.scheme in ("redis+cluster", "rediss+cluster"):
        nodes = [ClusterNode(host, port) for host, port in _hosts(parts)]
        return RedisCluster(startup_nodes=nodes, ssl=parts.scheme.startswith("rediss"), **options)
    if parts.scheme == "redis+sentinel":
        service = parts.path.strip("/")
        if not service:
            raise ValueError("a sentinel's address ends in /<service>")
        sentinel = Sentinel(_hosts(parts), **options)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(service)
        return master
    raise ValueError(f"it must start with one of {', '.join(f'{name}://' for name in SCHEMES)}")


def _credentials(parts: SplitResult) -> dict[str, str]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    found = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in found.items() if value}


def _hosts(parts: SplitResult) -> list[tuple[str, int]]:
    hosts = []
    for place in parts.netloc.rpartition("@")[2].split(","):
        host, _, port = place.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"'{place}' is not host:port")
        hosts.append((host, int(port)))
    return hosts
