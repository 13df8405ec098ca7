"""End users at the edge: admitted by name only, each with a limit of their own."""

from types import SimpleNamespace

import pytest

from app.cache.limits import LocalLimits
from app.governance.keys import KeyRing
from app.http.rates import RateLimits
from app.principal import Role, Tier
from tests.support.http_app import Container, client_of, key_for


@pytest.fixture
def minute() -> SimpleNamespace:
    """The limits' time in seconds, which stands still."""
    return SimpleNamespace(at=1_000.0)


@pytest.fixture
def container(db, clock, minute):
    container = Container(db, clock)
    container.rates = RateLimits(container.metrics, local=LocalLimits(lambda: round(minute.at * 1e6)))
    return container


async def token_for(container, user_id: str, tenant: str = "acme") -> str:
    keys = KeyRing(container.db, container.clock)
    secret = await key_for(container.db, container.clock, tenant, tier=Tier.PRO)
    issuer = await keys.authenticate(secret)
    return (await container.users.issue(issuer, user_id)).token


@pytest.fixture
async def token(container) -> str:
    return await token_for(container, "u-1")


async def test_a_user_reaches_what_is_made_for_users(app, token):
    async with client_of(app, token) as client:
        answer = await client.get("/v1/items/mine")
    assert answer.json() == {"tenant": "acme", "user": "u-1"}


async def test_an_api_key_may_do_what_a_user_may(api):
    assert (await api.get("/v1/items/mine")).json()["tenant"] == "acme"


async def test_a_user_is_refused_wherever_users_are_not_asked_for(app, token):
    async with client_of(app, token) as client:
        answers = [
            await client.get("/v1/items/who"),
            await client.get("/console/who"),
            await client.delete("/v1/items/all"),
            await client.post("/v1/items", json={"name": "a"}),
        ]
    assert [answer.status_code for answer in answers] == [403] * 4
    assert "not for end users" in answers[0].json()["detail"]


async def test_a_token_that_is_over_says_to_sign_in_again(app, token, clock):
    clock.advance(hours=1)
    async with client_of(app, token) as client:
        answer = await client.get("/v1/items/mine")
    assert answer.status_code == 401
    assert "sign in again" in answer.json()["detail"]
    assert token not in answer.text


async def test_wrong_tokens_count_as_failures_of_their_address(app):
    async with client_of(app, "eyJhbGciOiJIUzI1NiJ9.e30.AAAA", address="10.0.0.9") as client:
        statuses = [(await client.get("/v1/items/mine")).status_code for _ in range(22)]
    assert statuses == [401] * 20 + [429] * 2


async def test_each_user_has_a_limit_of_their_own_in_any_sixty_seconds(app, container, minute):
    ada, bob = await token_for(container, "ada"), await token_for(container, "bob", "globex")
    async with client_of(app, ada) as client:
        answers = []
        for _ in range(4):
            answers.append(await client.get("/v1/items/mine"))
            minute.at += 10
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["ratelimit"] for answer in answers[:3]] == [
            '"mine";r=2;t=60',
            '"mine";r=1;t=50',
            '"mine";r=0;t=40',
        ]
        refused = answers[3]
        assert refused.headers["ratelimit-policy"] == '"mine";q=3;w=60'
        assert refused.headers["retry-after"] == "30"
        assert "wait 30 s" in refused.json()["detail"]
        async with client_of(app, bob) as other:
            assert (await other.get("/v1/items/mine")).status_code == 200
        minute.at += 19
        assert (await client.get("/v1/items/mine")).status_code == 429
        minute.at += 2
        assert (await client.get("/v1/items/mine")).status_code == 200
        assert (await client.get("/v1/items/mine")).status_code == 429, "one came back, not three"


async def test_limits_of_two_names_are_apart(container, token):
    user = await container.users.authenticate(token)
    assert (await container.rates.spend_user(user, "one", 1))[0]
    assert not (await container.rates.spend_user(user, "one", 1))[0]
    assert (await container.rates.spend_user(user, "two", 1))[0]


async def test_a_users_token_cannot_be_spent_at_a_role(container, token):
    user = await container.users.authenticate(token)
    assert not any(user.has(role) for role in (Role.VIEWER, Role.AGENT, Role.ADMIN))
