"""Limits by tier for each key, and on failures for each address."""

from types import SimpleNamespace

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from app.errors import ConfigError
from app.http.rates import COUNTERS, REDIS_PAUSE_S, RateLimits, RatePlan, WindowCounters, client_network
from app.principal import Principal, Role, Tier
from tests.support.http_app import Container, build, client_of, key_for

PLAN = RatePlan({Tier.FREE: 3, Tier.STANDARD: 5, Tier.PRO: 50}, failures_per_minute=4)


@pytest.fixture(autouse=True)
def minute(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The library's time, which stands still at the start of a window."""
    now = SimpleNamespace(at=1_800_000_000.0)
    fake = SimpleNamespace(time=lambda: now.at)
    for module in ("limits.aio.storage.memory", "limits.aio.strategies", "app.http.rates"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(time=fake.time, monotonic=fake.time))
    return now


@pytest.fixture
def container(db, clock):
    return Container(db, clock, plan=PLAN)


async def test_a_key_may_ask_as_often_as_its_tier_says(app, db, clock, container):
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    async with client_of(app, secret) as client:
        answers = [await client.get("/v1/items/who") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    refused = answers[-1]
    assert refused.json()["type"] == "urn:trellis:problem:rate-limited"
    assert "3 requests a minute (tier 'free')" in refused.json()["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert container.metrics.registry.get_sample_value("trellis_rate_limited_total", {"tier": "free"}) == 2


async def test_the_headers_count_down(app, db, clock):
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    async with client_of(app, secret) as client:
        answers = [await client.get("/v1/items/who") for _ in range(4)]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"free";q=3;w=60'}
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert all(1 <= int(answer.headers["ratelimit"].split("t=")[1]) <= 60 for answer in answers)


async def test_the_allowance_comes_back(app, db, clock, minute):
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    async with client_of(app, secret) as client:
        for _ in range(3):
            await client.get("/v1/items/who")
        minute.at += 45
        assert (await client.get("/v1/items/who")).status_code == 429
        minute.at += 76
        assert (await client.get("/v1/items/who")).status_code == 200


async def test_waiting_as_long_as_the_answer_says_is_enough(app, db, clock, minute):
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    async with client_of(app, secret) as client:
        for _ in range(12):
            answer = await client.get("/v1/items/who")
            if answer.status_code == 429:
                minute.at += int(answer.headers["retry-after"]) + 1
                assert (await client.get("/v1/items/who")).status_code == 200


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.integers(1, 6), waits=st.lists(st.floats(0, 70), max_size=25))
async def test_a_hit_in_one_step_is_the_librarys_hit_and_its_state(minute, limit, waits):
    item, at = RateLimitItemPerMinute(limit), minute.at
    ours, theirs = WindowCounters(), WindowCounters()
    strategy = SlidingWindowCounterRateLimiter(theirs)
    for wait in waits:
        minute.at += wait
        allowed, left, wait_s = ours.spend(item.key_for("acme"), limit, 60)
        assert allowed == await strategy.hit(item, "acme")
        state = await strategy.get_window_stats(item, "acme")
        assert left == state.remaining
        # The library reckons in seconds since 1970, of which a float keeps seven digits behind the point.
        assert wait_s == pytest.approx(state.reset_time - minute.at, abs=1e-4) or (allowed and wait_s == 0)
    minute.at = at


async def test_each_key_has_its_own_allowance(app, db, clock):
    for tenant in ("acme", "globex"):
        async with client_of(app, await key_for(db, clock, tenant, tier=Tier.FREE)) as client:
            assert [(await client.get("/v1/items/who")).status_code for _ in range(4)] == [200, 200, 200, 429]


async def test_a_request_is_counted_once_however_many_parts_ask_for_the_principal(app, db, clock):
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    async with client_of(app, secret) as client:
        answer = await client.post("/v1/items", json={"name": "a"})
    assert answer.headers["ratelimit"].split(";")[1] == "r=2"


async def test_too_many_wrong_keys_from_an_address_are_refused(app, secret, db, clock, container):
    wrong = {"X-API-Key": "trl_" + "x" * 40}
    async with client_of(app, address="10.0.0.9") as client:
        statuses = [(await client.get("/v1/items/who", headers=wrong)).status_code for _ in range(6)]
        assert statuses == [401, 401, 401, 401, 429, 429]
        fresh = await client.get("/v1/items/who", headers={"X-API-Key": secret})
        assert fresh.status_code == 429, "even a valid key is not looked up for a blocked address"
    async with client_of(app, secret, address="10.0.0.8") as other:
        assert (await other.get("/v1/items/who")).status_code == 200
    async with client_of(app, secret, address="10.0.0.9") as neighbour:
        assert (await neighbour.get("/v1/items/who")).status_code == 200, "a key seen a moment ago passes"
    assert container.metrics.registry.get_sample_value("trellis_rate_limited_total", {"tier": "anonymous"}) == 3


async def test_a_request_without_any_key_counts_as_no_failure(app, secret):
    async with client_of(app, address="10.0.0.9") as client:
        for _ in range(10):
            assert (await client.get("/v1/items/who")).status_code == 401
        assert (await client.get("/v1/items/who", headers={"X-API-Key": secret})).status_code == 200


async def test_health_needs_no_key_and_costs_no_allowance(app):
    async with client_of(app) as client:
        for _ in range(10):
            answer = await client.get("/healthz")
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_an_ipv6_client_is_its_network(address, network):
    assert client_network(address) == network


async def test_the_counters_of_this_process_are_bounded():
    counters = WindowCounters()
    for number in range(COUNTERS + 10):
        await counters.incr(f"k{number}", 60)
    assert await counters.get("k0") == 0
    assert await counters.get(f"k{COUNTERS + 9}") == 1
    assert len(counters._counts) == COUNTERS


@pytest.mark.parametrize("url", ["http://x", "redis:/x", "memory://", "localhost:6379"])
def test_an_address_that_is_not_redis_is_named(container, url):
    with pytest.raises(ConfigError, match="TRELLIS_REDIS_URL must start with one of redis://"):
        RateLimits(container.metrics, redis_url=url)


async def test_while_redis_is_away_this_process_counts_and_asks_it_again_only_now_and_then(container, minute):
    rates = RateLimits(container.metrics, redis_url="redis://127.0.0.1:1/0", plan=PLAN)
    principal = Principal("acme", "key_1", Role.AGENT, Tier.FREE)
    with structlog.testing.capture_logs() as logs:
        assert [(await rates.spend(principal))[0] for _ in range(4)] == [True, True, True, False]
        await rates.check_failures("10.0.0.1")
        await rates.failed("10.0.0.1")
        assert len(logs) == 1
        minute.at += REDIS_PAUSE_S
        await rates.check_failures("10.0.0.1")
    assert [line["log_level"] for line in logs] == ["warning", "warning"]
    assert "redis does not answer" in logs[0]["event"]
    await rates.close()


async def test_build_keeps_limiters_apart(db, clock):
    first, second = build(Container(db, clock, plan=PLAN)), build(Container(db, clock, plan=PLAN))
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    for app in (first, second):
        async with client_of(app, secret) as client:
            assert [(await client.get("/v1/items/who")).status_code for _ in range(3)] == [200, 200, 200]
