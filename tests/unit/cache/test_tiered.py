"""What rooms are given: counted, switched, shared, and deaf to what was dropped while it was made."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from app.cache.base import Entry
from app.cache.caches import SWITCHES, Caches
from app.cache.lru import LruCache
from app.cache.tiered import _REMEMBERED, Made, TieredCache
from app.telemetry.metrics import Metrics
from tests.conftest import StillClock


class Counted:
    """A cache of one tier and its metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.off: set[str | None] = set()
        metrics = Metrics(self.registry)
        self.cache = TieredCache("answers", LruCache(), None, metrics, lambda tenant: tenant not in self.off)

    def seen(self, result: str, tier: str = "none") -> float:
        labels = {"cache": "answers", "tier": tier, "result": result}
        return self.registry.get_sample_value("trellis_cache_requests_total", labels) or 0

    def sample(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"trellis_{name}", {"cache": "answers"})


@pytest.fixture
def counted() -> Counted:
    return Counted()


async def test_look_ups_size_and_savings_are_counted(counted: Counted) -> None:
    cache = counted.cache
    assert await cache.get("k") is None
    await cache.set("k", b"v" * 100, 60)
    assert await cache.get("k") == cache.peek("k") == b"v" * 100
    assert cache.peek("other") is None
    assert await cache.get_many(["k", "a", "b"]) == {"k": b"v" * 100}
    cache.saved(2_500_000)
    assert (counted.seen("hit", "l1"), counted.seen("miss")) == (3, 3)
    assert (counted.sample("cache_entries"), counted.sample("cache_saved_usd_total")) == (1, 2.5)
    assert 100 < (counted.sample("cache_bytes") or 0) < 1000


async def test_a_cache_that_is_off_for_a_tenant_gives_and_keeps_nothing_for_it(counted: Counted) -> None:
    cache, calls = counted.cache, []

    async def make() -> Made:
        calls.append(1)
        return Made(b"new")

    await cache.set("k", b"v", 60)
    counted.off.add("acme")
    assert (cache.peek("k", "acme"), await cache.get("k", "acme")) == (None, None)
    assert await cache.get_many(["k"], "acme") == {}
    assert [await cache.get_or_make("k", 60, make, "acme") for _ in range(2)] == [b"new"] * 2
    assert (len(calls), counted.seen("off"), counted.seen("miss")) == (2, 4, 0)
    await cache.set("k2", b"v", 60, tenant_id="acme")
    assert await cache.get("k2", "rival") is None
    assert await cache.get("k", "rival") == b"v"


async def test_a_hundred_misses_at_once_make_one_call(counted: Counted) -> None:
    calls = 0

    async def make() -> Made:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return Made(b"v")

    made = await asyncio.gather(*(counted.cache.get_or_make("k", 60, make) for _ in range(100)))
    assert (set(made), calls) == ({b"v"}, 1)
    assert (counted.seen("miss"), counted.seen("shared")) == (1, 99)
    assert await counted.cache.get_or_make("k", 60, make) == b"v"
    assert (calls, counted.seen("hit", "l1")) == (1, 1)


async def test_what_is_not_to_be_kept_or_fails_is_made_again(counted: Counted) -> None:
    answers = iter([Made(b"once", keep=False), ValueError("down"), Made(b"kept")])

    async def make() -> Made:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await counted.cache.get_or_make("k", 60, make) == b"once"
    with pytest.raises(ValueError, match="down"):
        await counted.cache.get_or_make("k", 60, make)
    assert await counted.cache.get_or_make("k", 60, make) == b"kept"
    assert await counted.cache.get("k") == b"kept"


async def test_what_was_made_from_something_that_was_dropped_meanwhile_is_not_kept(counted: Counted) -> None:
    cache = counted.cache

    async def make() -> Made:
        await cache.drop("t")
        return Made(b"old", ("t",))

    assert await cache.get_or_make("k", 60, make) == b"old"
    assert cache.peek("k") is None
    began = cache.mark()
    await cache.drop("t")
    await cache.set("k", b"old", 60, ["t"], since=began)
    await cache.set("other", b"other", 60, ["u"], since=began)
    assert (cache.peek("k"), cache.peek("other")) == (None, b"other")
    await cache.set("k", b"new", 60, ["t"], since=cache.mark())
    assert cache.peek("k") == b"new"


async def test_of_drops_that_it_no_longer_knows_it_assumes_the_worst(counted: Counted) -> None:
    cache = counted.cache
    began = cache.mark()
    await cache.drop("first")
    for number in range(_REMEMBERED):
        await cache.drop(f"t{number}")
    await cache.set("k", b"old", 60, ["first"], since=began)
    await cache.set("plain", b"v", 60, since=began)
    assert (cache.peek("k"), cache.peek("plain")) == (None, b"v")


async def test_every_cache_has_its_own_switch_and_entries(clock: StillClock) -> None:
    registry = CollectorRegistry()
    off = {"cache.models"}
    caches = Caches(Metrics(registry), lambda name, _tenant: name not in off, None, clock, max_bytes=8000)
    for cache in caches.all:
        await cache.set("k", b"v" * 500, 60, ["t"])
        await cache.set_many({f"{number}": Entry(b"v" * 500, 60) for number in range(3)})
    assert [cache.on() for cache in caches.all] == [False, True, True, True]
    assert {f"cache.{name}" for name in ("models", "answers", "semantic", "embeddings", "retrieval")} == set(SWITCHES)
    sizes = [registry.get_sample_value("trellis_cache_bytes", {"cache": name}) for name in ("models", "answers")]
    assert sizes == [0, 1001]
    await caches.answers.set("k", b"v", 60, ["t"])
    await caches.retrieval.set("k", b"v", 60, ["t"])
    assert await caches.drop("t") == 2
