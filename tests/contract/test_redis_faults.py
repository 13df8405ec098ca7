"""Every use of Redis under every fault: what docs/decisions/0031-redis-away.md promises, and no error."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from app.cache.connection import PAUSE_S, RedisLink, connect
from app.cache.limits import LocalLimits, Rate, RedisLimits, redis_key
from app.cache.marks import RedisMarks
from app.cache.redis import RedisCache
from app.clock import Clock
from app.errors import Unavailable
from app.memory import RedisMemory, Turn
from app.storage.marks import MarksAway, Unknown
from tests.support.redis import SLOTS, RedisServer, RunningCluster, running_cluster
from tests.support.wire import Wire

KEY, RATE = ("key", "acme", "key_1"), Rate(3)
WHO = ("acme", "bot", "ann")
RECOVERY_S = 60


async def begin(marks: RedisMarks, position: int) -> None:
    unknown = await marks.needed("anybody")
    assert isinstance(unknown, Unknown)
    assert await marks.start(position, unknown) == position


@dataclass
class Uses:
    """All of them over one link, whose pauses end when the test says so."""

    link: RedisLink
    clock: Clock
    told: Counter[str]
    now: list[float]

    def __post_init__(self) -> None:
        self.cache = RedisCache(self.link, "test", clock=self.clock)
        self.limits = RedisLimits(self.link.use("limiter"), LocalLimits())
        self.memory = RedisMemory(self.link, self.clock)
        self.marks = RedisMarks(self.link)

    def turn(self, text: str) -> Turn:
        return Turn("user", text, self.clock())

    async def begin(self) -> None:
        await self.cache.set("dropped", b"v", 600, ["t"])
        await self.cache.set("kept", b"v", 600, ["u"])
        assert (await self.limits.spend(KEY, RATE)).remaining == 2
        await self.memory.add(*WHO, self.turn("before"))
        await begin(self.marks, 5)
        await self.marks.note("acme", 7)
        assert not self.told

    async def recall(self) -> list[str]:
        return [turn.text for turn in await self.memory.recent(*WHO)]

    def wait(self) -> None:
        self.now[0] += PAUSE_S


@pytest.fixture
def wire(redis_server: RedisServer) -> Iterator[Wire]:
    with Wire(redis_server.port) as wire:
        yield wire


@pytest.fixture
async def uses(wire: Wire, redis_server: RedisServer, clock: Clock) -> AsyncIterator[Uses]:
    redis_server.client().flushall()
    now, told = [100.0], Counter[str]()
    client = connect(f"redis://127.0.0.1:{wire.port}/0").client
    made = Uses(RedisLink(client, lambda: now[0], told=lambda use: told.update([use])), clock, told, now)
    await made.begin()
    yield made
    await made.link.close()


@pytest.mark.parametrize("fault", [Wire.cut, Wire.stall], ids=["refused", "hanging"])
async def test_while_redis_is_away_each_use_does_without_and_afterwards_with_it(
    fault: Callable[[Wire], None], wire: Wire, uses: Uses
) -> None:
    fault(wire)
    assert await uses.cache.get("kept") is None
    assert uses.link.away == 1
    assert await uses.cache.drop("t") == 0
    assert [(await uses.limits.spend(KEY, RATE)).allowed for _ in range(4)] == [True] * 3 + [False]
    assert await uses.recall() == []
    assert await uses.memory.add(*WHO, uses.turn("lost")) == []
    with pytest.raises(Unavailable, match="try again"):
        await uses.memory.forget("acme", "ann")
    with pytest.raises(MarksAway):
        await uses.marks.needed("acme")
    await uses.marks.note("acme", 9)
    assert set(uses.told) == {"cache", "limiter", "memory", "marks"}
    wire.heal()
    uses.wait()
    assert await uses.cache.get("kept") == b"v"
    assert await uses.cache.get("dropped") is None, "the drop was owed"
    assert (await uses.limits.spend(KEY, RATE)).remaining == 1, "Redis goes on where it was"
    assert await uses.recall() == ["before"]
    assert await uses.marks.needed("acme") == 9, "what could not be told was told first"
    assert uses.link.away == 0


async def test_a_connection_that_is_reset_in_the_middle_fails_nothing(wire: Wire, uses: Uses) -> None:
    wire.delay(0.05)
    work = asyncio.gather(
        *(uses.cache.get("kept") for _ in range(5)),
        *(uses.limits.spend(KEY, Rate(100)) for _ in range(5)),
        *(uses.memory.add(*WHO, uses.turn(f"{number}")) for number in range(5)),
        *(uses.marks.note("acme", 10 + number) for number in range(5)),
    )
    await asyncio.sleep(0.02)
    await asyncio.to_thread(wire.cut)
    await work
    wire.heal()
    uses.wait()
    assert await uses.cache.get("kept") == b"v"
    assert await uses.marks.needed("acme") == 14
    assert uses.link.away == 0


async def test_a_server_that_comes_back_empty_is_begun_anew(uses: Uses, redis_server: RedisServer) -> None:
    redis_server.client().flushall()
    redis_server.client().script_flush()
    assert await uses.cache.get("kept") is None
    assert (await uses.limits.spend(KEY, RATE)).remaining == 2
    assert await uses.recall() == []
    assert isinstance(await uses.marks.needed("acme"), Unknown), "the writer is read"
    await begin(uses.marks, 20)
    assert await uses.marks.needed("acme") == 20
    assert not uses.told


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    with running_cluster(tmp_path, replicas=1) as cluster:
        yield cluster


def shard(key: str) -> int:
    return key_slot(key.encode()) * 3 // SLOTS


async def test_of_a_cluster_that_loses_a_master_the_others_keys_are_served_and_its_own_when_another_took_over(
    cluster: RunningCluster, clock: Clock
) -> None:
    told = Counter[str]()
    link = connect(cluster.url, told=lambda use: told.update([use]))
    cache, limits = RedisCache(link, "test", clock=clock), RedisLimits(link.use("limiter"), LocalLimits())
    memory, marks = RedisMemory(link, clock), RedisMarks(link)
    keys = {shard(f"test:entry:k{number}"): f"k{number}" for number in range(40)}
    payers = {shard(redis_key(("key", str(number)))): ("key", str(number)) for number in range(40)}
    assert set(keys) == set(payers) == {0, 1, 2}
    for key in keys.values():
        await cache.set(key, b"v", 600)
    await begin(marks, 5)
    assert isinstance(link.client, RedisCluster)

    async def once() -> list[object]:
        for number in range(9):
            await memory.add("acme", "bot", f"u{number}", Turn("user", "hello", clock()))
            await marks.note(f"t{number}", 6)
        for payer in payers.values():
            assert (await limits.spend(payer, Rate(1_000_000))).allowed
        return [entry is not None for entry in await cache.entries([keys[0], keys[1], keys[2]])]

    assert await once() == [True, True, True]
    assert not told
    cluster.kill(0)
    first = await once()
    assert first[0] is False
    assert told["cache"]
    assert told["limiter"]
    async with asyncio.timeout(RECOVERY_S):
        while link.away or not all(await once()):
            await cache.set(keys[0], b"v", 600)
            await asyncio.sleep(0.1)
    told.clear()
    assert await once() == [True, True, True]
    assert not told
    assert await cache.dropped_elsewhere() == []
    await link.close()


async def test_of_a_cluster_that_is_away_as_a_whole_nothing_fails_whether_it_was_ever_there_or_not(
    cluster: RunningCluster, clock: Clock
) -> None:
    known, stranger = connect(cluster.url), connect(cluster.url)
    assert await RedisCache(known, "test", clock=clock).get("k") is None
    assert known.away == 0
    for node in (*cluster.masters, *cluster.replicas):
        node.kill()
    for link in (known, stranger):
        cache, limits = RedisCache(link, "test", clock=clock), RedisLimits(link, LocalLimits())
        for number in range(6):
            await cache.set(f"k{number}", b"v", 60, ["t"])
            assert await cache.get(f"k{number}") is None
            assert (await limits.spend(("key", str(number)), RATE)).allowed
        assert await cache.drop("t") == 0
        assert link.away
        await link.close()
