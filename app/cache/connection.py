"""A connection to Redis that may fail without anybody's request failing with it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import structlog
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands import AsyncCoreCommands
from redis.exceptions import ClusterDownError, ConnectionError, RedisClusterException, RedisError

from app.errors import ConfigError

_log = structlog.get_logger(__name__)

TIMEOUT_S: Final = 0.25
# Of a whole trip, with finding out which node has a key and a second try.
TRIP_S: Final = 0.5
PAUSE_S: Final = 5.0
# Between two looks at who has which keys, while a node of a cluster is left alone.
LOOK_S: Final = 0.5
# Each takes a connection, and a pool that is empty counts as a server that is down.
AT_ONCE: Final = 32
SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster", "redis+sentinel")
# A cluster that cannot be reached is no RedisError to redis-py; and where a node dies, it closes connections that
# others are about to write on, who then find no writer (an AttributeError) or a closed one (uvloop's RuntimeError).
FAILURES: Final = (RedisError, RedisClusterException, OSError, TimeoutError, AttributeError, RuntimeError)
# What is asked of the one server, and of a cluster whose nodes are not known.
WHOLE: Final = ""

Client = Redis | RedisCluster
_Command = tuple[tuple[Any, ...], dict[str, Any]]
"""Its words, and how redis-py is to read the answer."""
Told = Callable[[str], None]
"""Is told, by its name, of a use that had to do without Redis."""


class RedisAway(Exception):
    """Redis does not answer, or did not a moment ago."""


class Commands(AsyncCoreCommands):
    """Takes commands as a pipeline of redis-py does, for `RedisLink.run`."""

    # Which the mixin wants of a client.
    _event_dispatcher: Any = None

    def __init__(self) -> None:
        self.kept: list[_Command] = []

    def execute_command(self, *args: Any, **options: Any) -> None:
        self.kept.append((args, options))

    def key(self, number: int) -> Any:
        """The key of a command; each of ours has one, or several with one hash tag."""
        args = self.kept[number][0]
        return args[3] if args[0] == "EVAL" else args[1]


Fill = Callable[[Any], object]
"""Says to `Commands` what is to be carried out."""


class RedisLink:
    """A client, asked only while it is worth asking.

    After an error a node is not asked for five seconds: one that hangs costs one short wait and not one for each
    request. Of a cluster only that node is left alone; while it is, the link looks twice a second whether another one
    took over. One warning is logged in five seconds.
    """

    def __init__(
        self, client: Client, monotonic: Callable[[], float] = time.monotonic, *, told: Told = lambda _use: None
    ) -> None:
        self.client = client
        self._monotonic = monotonic
        self._told = told
        self._use = "redis"
        self._again: dict[str, float] = {}
        self._warn_again: dict[str, float] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._looking: set[asyncio.Task[None]] = set()

    def use(self, name: str) -> "RedisLink":
        """The same connections and pauses, for a use of that name."""
        link = copy(self)
        link._use = name
        return link

    @property
    def paused(self) -> bool:
        """Whether nothing at all is asked at the moment."""
        return self._resting(WHOLE)

    @property
    def away(self) -> int:
        """How many nodes are left alone at the moment."""
        return sum(map(self._resting, self._again))

    async def run(self, fill: Fill) -> list[Any]:
        """The answers to the commands, in one trip to each node.

        Those of one hash tag are carried out in their order, others' commands in between. There are no transactions:
        redis-py's on a cluster run each command in a thread and an event loop of its own.

        Raises RedisAway where a node did not answer; the others have carried theirs out.
        """
        answers, whole = await self._ask(fill)
        if not whole:
            self._told(self._use)
            raise RedisAway
        return answers

    async def each(self, fill: Fill) -> list[Any]:
        """Like `run`, with None for the answers of a node that is away."""
        answers, whole = await self._ask(fill)
        if not whole:
            self._told(self._use)
        return answers

    async def close(self) -> None:
        for task in tuple(self._looking):
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
        await self.client.aclose()

    async def _ask(self, fill: Fill) -> tuple[list[Any], bool]:
        """The answers, and whether they are all there."""
        commands = Commands()
        fill(commands)
        async with self._room:
            try:
                places = await self._places(commands)
            except RedisAway:
                return [None] * len(commands.kept), False
            trips = [self._trip(node, [commands.kept[number] for number in own]) for node, own in places.items()]
            found = [await trips[0]] if len(trips) == 1 else await asyncio.gather(*trips)
        answers: list[Any] = [None] * len(commands.kept)
        for own, part in zip(places.values(), found, strict=True):
            for number, answer in zip(own, part or (), strict=part is not None):
                answers[number] = answer
        return answers, None not in found

    async def _places(self, commands: Commands) -> dict[str, list[int]]:
        """The commands' numbers by the node that has their keys. Raises RedisAway."""
        numbers = range(len(commands.kept))
        if not isinstance(self.client, RedisCluster):
            return {WHOLE: list(numbers)} if commands.kept else {}
        if self._resting(WHOLE):
            raise RedisAway
        places: dict[str, list[int]] = {}
        try:
            async with asyncio.timeout(TRIP_S):
                await self.client.initialize()
            for number in numbers:
                node: Any = self.client.get_node_from_key(commands.key(number))
                places.setdefault(node.name, []).append(number)
        except FAILURES as error:
            self._pause(WHOLE, error)
            raise RedisAway from error
        return places

    async def _trip(self, node: str, commands: Sequence[_Command]) -> list[Any] | None:
        """The node's answers; None where it has none."""
        if self._resting(node):
            return None
        try:
            async with asyncio.timeout(TRIP_S):
                try:
                    return await self._send(commands)
                except (ConnectionError, AttributeError, RuntimeError):
                    if not isinstance(self.client, RedisCluster):
                        raise
                    return await self._send(commands)
        except FAILURES as error:
            self._pause(node, error)
            return None

    async def _send(self, commands: Sequence[_Command]) -> list[Any]:
        if len(commands) == 1:
            # Costs half of what a pipeline of one does.
            args, options = commands[0]
            return [await self.client.execute_command(*args, **options)]
        pipeline: Any = self.client.pipeline(transaction=False)
        for args, options in commands:
            pipeline.execute_command(*args, **options)
        answers: list[Any] = await pipeline.execute()
        return answers

    def _resting(self, node: str) -> bool:
        return self._monotonic() < self._again.get(node, 0.0)

    def _pause(self, node: str, error: Exception) -> None:
        now = self._monotonic()
        # A node that refuses because another one's keys have nobody does so at once, and only until somebody took over.
        pause_s = LOOK_S if isinstance(error, ClusterDownError) else PAUSE_S
        self._again[node] = now + pause_s
        if now >= self._warn_again.get(node, 0.0):
            self._warn_again[node] = now + PAUSE_S
            _log.warning("redis.away", node=node or "all", pause_s=pause_s, error=repr(error))
        if isinstance(self.client, RedisCluster) and not self._looking:
            task = asyncio.create_task(self._look(self.client), name="redis cluster")
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)

    async def _look(self, cluster: RedisCluster) -> None:
        """Learns who took over, until every node that has keys is asked again."""
        while any(self._resting(node.name) for node in cluster.get_primaries()):
            try:
                await cluster.nodes_manager.initialize()
            except FAILURES as error:
                _log.debug("redis.no_topology", error=repr(error))
            await asyncio.sleep(LOOK_S)


def connect(url: str, *, told: Told = lambda _use: None) -> RedisLink:
    """A link that connects when it is first asked.

    Args:
        told: see `Told`.
        url: `redis://` or `rediss://[user:password@]host:port/db`, `redis+cluster://host:port,host:port` (also
            `rediss+cluster://`), `redis+sentinel://host:port,host:port/service`.

    Raises ConfigError for any other address.
    """
    try:
        return RedisLink(_client(url), told=told)
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
        # A second try is the link's own: theirs closes every connection to every node and waits for a quarter second.
        options["retry"] = Retry(NoBackoff(), 0)
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
