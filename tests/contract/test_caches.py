"""The same cache in process, in Redis, on a Redis cluster and in two tiers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from app.cache.base import Cache, Entry, bot_tag, document_tag, person_tag, tenant_tag
from app.cache.caches import Caches
from app.cache.connection import Fill, RedisLink, connect
from app.cache.lru import LruCache
from app.cache.redis import RedisCache
from app.cache.tiered import NEAR_TTL_S, SETTLING_S, Made, TieredCache
from app.ids import new_id
from app.telemetry.metrics import Metrics
from tests.conftest import StillClock
from tests.support.redis import RedisServer


def seconds(clock: StillClock) -> Callable[[], float]:
    return lambda: clock().timestamp()


@pytest.fixture(params=["redis", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    return str(request.getfixturevalue("redis_cluster"))


@pytest.fixture(params=["local", "redis", "cluster", "tiered"])
async def cache(request: pytest.FixtureRequest, clock: StillClock) -> AsyncIterator[Cache]:
    near = LruCache(clock=seconds(clock))
    if request.param == "local":
        yield near
        return
    place = request.getfixturevalue("redis_cluster" if request.param == "cluster" else "redis_server")
    link = connect(place if isinstance(place, str) else place.url)
    far = RedisCache(link, new_id("test"), clock=clock)
    yield far if request.param != "tiered" else TieredCache("answers", near, far, Metrics(CollectorRegistry()))
    await link.close()


async def test_a_value_is_given_back_by_its_key_alone(cache: Cache) -> None:
    await cache.set("a", b"one\ntwo\x00", 60)
    await cache.set("b", b"", 60)
    assert [await cache.get(key) for key in ("a", "b", "c", "")] == [b"one\ntwo\x00", b"", None, None]
    await cache.set("a", b"three", 60)
    assert await cache.get("a") == b"three"


async def test_a_value_lives_as_long_as_it_was_set_for_and_a_day_at_most(cache: Cache, clock: StillClock) -> None:
    await cache.set("short", b"1", 5)
    await cache.set("long", b"2", 50)
    await cache.set("never", b"3", 0)
    await cache.set("endless", b"4", 1e9)
    clock.advance(seconds=6)
    assert [await cache.get(key) for key in ("short", "long", "never", "endless")] == [None, b"2", None, b"4"]
    clock.advance(days=1)
    assert await cache.get("endless") is None


async def test_what_carries_a_tag_goes_with_it_and_nothing_else(cache: Cache) -> None:
    acme, rival = tenant_tag("acme"), tenant_tag("rival")
    await cache.set("1", b"1", 60, [acme, document_tag("acme", "d1")])
    await cache.set("2", b"2", 60, [acme, document_tag("acme", "d1"), document_tag("acme", "d2")])
    await cache.set("3", b"3", 60, [acme])
    await cache.set("4", b"4", 60, [rival, document_tag("rival", "d1")])
    assert await cache.drop(document_tag("acme", "d1"), document_tag("acme", "d2")) == 2
    assert [await cache.get(key) for key in "1234"] == [None, None, b"3", b"4"]
    assert await cache.drop(document_tag("acme", "d1")) == 0
    assert await cache.drop(acme) == 1
    assert [await cache.get(key) for key in "1234"] == [None, None, None, b"4"]


async def test_a_value_that_is_set_again_after_a_drop_stays_and_can_be_dropped_again(cache: Cache) -> None:
    for _ in range(2):
        await cache.set("a", b"1", 60, ["t"])
        assert await cache.get("a") == b"1"
        assert await cache.drop("t") == 1
        assert await cache.get("a") is None


async def test_thousands_of_entries_go_with_one_tag(cache: Cache) -> None:
    await asyncio.gather(*(cache.set(f"k{number}", b"v", 60, ["t"]) for number in range(1200)))
    assert await cache.drop("t") == 1200
    assert await cache.get("k0") is None
    assert await cache.get("k1199") is None


@asynccontextmanager
async def processes(url: str, clock: StillClock) -> AsyncIterator[tuple[TieredCache, TieredCache]]:
    """Two processes' caches over one Redis."""
    links, prefix = [connect(url), connect(url)], new_id("test")
    made = [
        TieredCache(
            "answers",
            LruCache(clock=seconds(clock)),
            RedisCache(link, prefix, clock=clock),
            Metrics(CollectorRegistry()),
            monotonic=seconds(clock),
        )
        for link in links
    ]
    yield made[0], made[1]
    for link in links:
        await link.close()


async def test_what_one_process_makes_another_is_given_and_keeps_for_a_minute(url: str, clock: StillClock) -> None:
    async with processes(url, clock) as (first, second):
        await first.set("k", b"v", 3600, ["t"])
        assert second.peek("k") is None
        assert await second.get("k") == b"v"
        assert second.peek("k") == b"v"
        clock.advance(seconds=NEAR_TTL_S)
        assert (first.peek("k"), second.peek("k")) == (None, None)
        assert await second.get("k") == b"v"


async def test_a_drop_reaches_the_other_process_when_it_next_catches_up(url: str, clock: StillClock) -> None:
    async with processes(url, clock) as (first, second):
        await first.set("k", b"v", 3600, ["t"])
        await first.set("other", b"v", 3600, ["u"])
        assert await second.get("k") == await second.get("other") == b"v"
        await first.drop("t")
        assert first.peek("k") is None
        await second.catch_up()
        assert second.peek("k") is None
        assert await second.get("k") is None
        assert second.peek("other") == b"v"
        await second.set("k", b"new", 3600, ["t"])
        await first.catch_up()
        await second.catch_up()
        assert second.peek("k") == b"new", "a drop is heard once"
        clock.advance(seconds=SETTLING_S)
        assert await first.get("k") == b"new"


async def test_what_was_made_from_something_that_another_process_dropped_meanwhile_is_not_kept(
    url: str, clock: StillClock
) -> None:
    async with processes(url, clock) as (first, second):

        async def make() -> Made:
            await second.drop("t")
            await first.catch_up()
            return Made(b"old", ("t",))

        assert await first.get_or_make("k", 60, make) == b"old", "who asked before is answered"
        assert await first.get("k") is None
        assert await second.get("k") is None


async def test_an_entry_on_its_way_to_redis_while_another_process_drops_is_taken_back(
    url: str, clock: StillClock
) -> None:
    async with processes(url, clock) as (first, second):
        await second.drop("t")
        await first.set("k", b"old", 60, ["t"])
        assert first.peek("k") == b"old", "the drop has not been heard of yet"
        assert await second.get("k") is None, "it knows that it has just dropped"
        await first.catch_up()
        clock.advance(seconds=SETTLING_S)
        assert [await cache.get("k") for cache in (first, second)] == [None, None]


async def test_what_was_kept_before_a_drop_is_not_given_where_redis_lost_the_way_to_it(
    url: str, clock: StillClock
) -> None:
    async with processes(url, clock) as (first, second):
        await first.set("k", b"old", 3600, ["t"])
        link = connect(url)
        for key in await link.client.keys("*:tag:t"):
            await link.client.delete(key)
        await link.close()
        clock.advance(seconds=60)
        await first.drop("t")
        await second.catch_up()
        clock.advance(seconds=60)
        assert [await cache.get("k") for cache in (first, second)] == [None, None]
        await first.set("k", b"new", 3600, ["t"])
        assert await second.get("k") == b"new"


async def test_a_hundred_misses_at_once_in_each_process_make_one_call_each(url: str, clock: StillClock) -> None:
    calls = 0

    async def make() -> Made:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return Made(b"v", ("t",))

    async with processes(url, clock) as (first, second):
        assert set(await asyncio.gather(*(first.get_or_make("k", 60, make) for _ in range(100)))) == {b"v"}
        assert calls == 1
        assert set(await asyncio.gather(*(second.get_or_make("k", 60, make) for _ in range(100)))) == {b"v"}
        assert calls == 1


async def test_entries_of_another_revision_are_not_read(url: str, clock: StillClock) -> None:
    link, prefix = connect(url), new_id("test")
    old = RedisCache(link, prefix, clock=clock, revision="1")
    new = RedisCache(link, prefix, clock=clock, revision="2")
    await old.set("k", b"old", 60, ["t"])
    assert await new.get("k") is None
    assert await new.drop("t") == 1, "but they are dropped: erasing does not wait for a rollout"
    assert await old.get("k") is None
    await link.close()


@pytest.mark.parametrize("last", [0, 1])
async def test_whatever_happens_to_a_tag_nothing_stays_in_redis_for_ever(
    redis_server: RedisServer, clock: StillClock, last: int
) -> None:
    links, prefix = [connect(redis_server.url), connect(redis_server.url)], new_id("test")
    caches = first, second = [RedisCache(link, prefix, clock=clock) for link in links]
    for _ in range(2):
        await first.set("a", b"1", 60, ["t"])
        await second.set("b", b"1", 60, ["t"])
        await first.drop("t")
        await second.dropped_elsewhere()
    await caches[last].set("b", b"1", 60, ["t"])
    kept = {key: redis_server.client().ttl(key) for key in redis_server.client().keys(f"{prefix}:*")}
    assert set(kept) == {f"{prefix}:entry:b", f"{prefix}:tag:t", f"{prefix}:drops"}
    assert kept.pop(f"{prefix}:drops") == -1, "the drops are bounded by number"
    assert all(ttl > 0 for ttl in kept.values())
    for link in links:
        await link.close()


class RacedLink(RedisLink):
    """Lets `meanwhile` run before the trip of that number."""

    def __init__(self, url: str, trip: int, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(connect(url).client)
        self._left = trip
        self._meanwhile = meanwhile

    async def run(self, fill: Fill) -> list[Any]:
        self._left -= 1
        if self._left == 0:
            await self._meanwhile()
        return await super().run(fill)


@pytest.mark.parametrize("trip", [1, 2, 3, 4])
async def test_what_is_set_anew_in_the_middle_of_a_drop_goes_with_the_next(
    url: str, clock: StillClock, trip: int
) -> None:
    link, prefix = connect(url), new_id("test")
    setter = RedisCache(link, prefix, clock=clock)
    await setter.set("k", b"old", 60, ["t"])

    async def meanwhile() -> None:
        clock.advance(seconds=1)
        await setter.set("k", b"new", 60, ["t"])

    raced = RacedLink(url, trip, meanwhile)
    await RedisCache(raced, prefix, clock=clock).drop("t")
    assert await setter.get("k") in (None, b"new")
    await setter.drop("t")
    assert await setter.get("k") is None
    for each in (link, raced):
        await each.close()


async def test_an_index_forgets_what_has_long_expired(redis_server: RedisServer, clock: StillClock) -> None:
    link, prefix = connect(redis_server.url), new_id("test")
    cache = RedisCache(link, prefix, clock=clock)
    await cache.set("old", b"1", 60, ["t"])
    clock.advance(hours=2)
    await cache.set("new", b"1", 60, ["t"])
    assert redis_server.client().zrange(f"{prefix}:tag:t", 0, -1) == ["new"]
    await link.close()


async def test_many_entries_come_in_one_trip_in_their_order(url: str, clock: StillClock) -> None:
    link = connect(url)
    cache = RedisCache(link, new_id("test"), clock=clock)
    await cache.set_many({f"k{n}": Entry(str(n).encode(), 60) for n in range(0, 100, 2)})
    found = await cache.entries([f"k{n}" for n in range(100)])
    assert [entry.value if entry else None for entry in found] == [
        None if n % 2 else str(n).encode() for n in range(100)
    ]
    await link.close()


async def test_every_cache_drops_at_once_and_follows_the_other_process(redis_server: RedisServer) -> None:
    clock = StillClock()
    links = [connect(redis_server.url), connect(redis_server.url)]
    first, second = (Caches(Metrics(CollectorRegistry()), lambda _name, _tenant: True, link, clock) for link in links)
    tag = person_tag("acme", new_id("user"))
    for cache in first.all:
        await cache.set("k", b"v", 60, [tag])
    assert [await cache.get("k") for cache in second.all] == [b"v"] * 4
    second.start()
    assert await first.drop(tag) == 4
    async with asyncio.timeout(30):
        while any(cache.peek("k") for cache in second.all):
            await asyncio.sleep(0.05)
    assert [await cache.get("k") for cache in second.all] == [None] * 4
    await second.close()
    for link in links:
        await link.close()


NAMES = ("acme", "rival"), ("a", "b"), ("ann", "bob")
PLACES = tuple(product(*NAMES))
Place = tuple[str, str, str]


def tags_of(place: Place) -> tuple[str, ...]:
    tenant, bot, user = place
    return tenant_tag(tenant), bot_tag(tenant, bot), person_tag(tenant, user)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "get", "drop"]),
        st.integers(0, 1),
        st.sampled_from(PLACES),
        st.integers(0, 2),
        st.binary(max_size=40),
    ),
    max_size=30,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
async def test_nobody_is_given_anothers_entry_and_nothing_outlives_its_tag(
    url: str, steps: list[tuple[str, int, Place, int, bytes]]
) -> None:
    """Two processes against a dictionary; a key that one of them sets anew is told to the other by a drop.

    A get may miss: after a drop a process takes from Redis what it held itself, also where that is new again.
    """
    known: dict[Place, bytes] = {}
    clock = StillClock()
    async with processes(url, clock) as caches:
        for act, process, place, which, value in steps:
            clock.advance(seconds=SETTLING_S)
            key, tags = "/".join(place), tags_of(place)
            if act == "set":
                await caches[process].drop(key)
                await caches[process].set(key, value, 600, (*tags, key))
                known[place] = value
            elif act == "get":
                assert await caches[process].get(key) in (None, known.get(place))
            else:
                await caches[process].drop(tags[which])
                known = {other: kept for other, kept in known.items() if tags[which] not in tags_of(other)}
            for each in caches:
                await each.catch_up()
        clock.advance(seconds=SETTLING_S)
        for place in PLACES:
            assert {await each.get("/".join(place)) for each in caches} <= {None, known.get(place)}
