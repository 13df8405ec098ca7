"""Limits by tier for each key, and on failures for each address."""

from types import SimpleNamespace

import pytest

from app.cache.limits import LocalLimits
from app.http.rates import RateLimits, RatePlan, client_network
from app.principal import Tier
from tests.support.http_app import Container, build, client_of, key_for

PLAN = RatePlan({Tier.FREE: 3, Tier.STANDARD: 5, Tier.PRO: 50}, failures_per_minute=4)


@pytest.fixture
def minute() -> SimpleNamespace:
    """The limiter's time in seconds, which stands still."""
    return SimpleNamespace(at=1_000.0)


@pytest.fixture
def container(db, clock, minute):
    container = Container(db, clock, plan=PLAN)
    local = LocalLimits(lambda: round(minute.at * 1e6))
    container.rates = RateLimits(container.metrics, plan=PLAN, local=local)
    return container


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


async def test_the_allowance_comes_back_one_by_one(app, db, clock, minute):
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    async with client_of(app, secret) as client:
        for _ in range(3):
            await client.get("/v1/items/who")
        minute.at += 19
        assert (await client.get("/v1/items/who")).status_code == 429
        minute.at += 1
        assert [(await client.get("/v1/items/who")).status_code for _ in range(2)] == [200, 429]


async def test_waiting_as_long_as_the_answer_says_is_enough(app, db, clock, minute):
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    refused = 0
    async with client_of(app, secret) as client:
        for _ in range(12):
            minute.at += 0.7
            answer = await client.get("/v1/items/who")
            if answer.status_code == 429:
                refused += 1
                assert answer.headers["ratelimit"].endswith(f";t={answer.headers['retry-after']}")
                minute.at += int(answer.headers["retry-after"])
                assert (await client.get("/v1/items/who")).status_code == 200
    assert refused


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


async def test_build_keeps_limiters_apart(db, clock):
    first, second = build(Container(db, clock, plan=PLAN)), build(Container(db, clock, plan=PLAN))
    secret = await key_for(db, clock, "acme", tier=Tier.FREE)
    for app in (first, second):
        async with client_of(app, secret) as client:
            assert [(await client.get("/v1/items/who")).status_code for _ in range(3)] == [200, 200, 200]
