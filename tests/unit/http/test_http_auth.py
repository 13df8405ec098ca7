"""Who gets in: a key by either header, a role, nobody by default."""

import pytest
from fastapi import FastAPI

from app.principal import Principal, Role, Tier
from tests.support.http_app import Container, build, client_of, key_for


@pytest.mark.parametrize(
    "headers",
    [
        lambda secret: {"Authorization": f"Bearer {secret}"},
        lambda secret: {"Authorization": f"bearer  {secret} "},
        lambda secret: {"X-API-Key": secret},
        lambda secret: {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": secret},
    ],
)
async def test_a_key_is_taken_from_either_header(stranger, secret, headers):
    answer = await stranger.get("/v1/items/who", headers=headers(secret))
    assert answer.status_code == 200
    assert answer.json()["tenant"] == "acme"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer trl_" + "a" * 40},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"X-API-Key": ""},
        {"X-API-Key": "trl_é".encode("latin-1")},
    ],
)
async def test_without_a_valid_key_there_is_a_401_that_says_how(stranger, secret, headers):
    answer = await stranger.get("/v1/items/who", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "urn:trellis:problem:unauthenticated"
    assert "Authorization: Bearer" in answer.json()["detail"]


async def test_an_endpoint_that_forgets_to_ask_is_closed_all_the_same(stranger, api):
    assert (await stranger.get("/v1/items/forgot/1")).status_code == 401
    assert (await stranger.get("/v1/does-not-exist")).status_code == 401
    assert (await api.get("/v1/items/forgot/1")).status_code == 200
    assert (await api.get("/v1/does-not-exist")).status_code == 404


async def test_a_path_under_a_root_path_is_closed_too(app, secret):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/behind/v1/items/forgot/1",
        "root_path": "/behind",
        "query_string": b"",
        "headers": [],
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 401


async def test_without_a_key_the_body_is_not_read(app):
    async def receive():
        raise AssertionError("the body was asked for")

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/items", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    assert sent[0]["status"] == 401


async def test_an_open_path_admits_by_its_endpoint(stranger, api):
    assert (await stranger.get("/console/who")).status_code == 401
    assert (await api.get("/console/who")).json() == {"tenant": "acme"}


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.AGENT, 403), (Role.ADMIN, 200)])
async def test_a_role_is_required(app, db, clock, role, status):
    async with client_of(app, await key_for(db, clock, "globex", role=role)) as client:
        answer = await client.delete("/v1/items/all")
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["type"] == "urn:trellis:problem:forbidden"
        assert f"the key has '{role}'" in answer.json()["detail"]


async def test_with_authentication_off_a_request_without_a_key_acts_for_the_named_principal(db, clock):
    open_as = Principal("demo", "anybody", Role.ADMIN, Tier.PRO)
    app: FastAPI = build(Container(db, clock, open_as=open_as))
    secret = await key_for(db, clock, "acme")
    async with client_of(app) as client:
        assert (await client.get("/v1/items/who")).json()["tenant"] == "demo"
        with_key = {"X-API-Key": secret}
        assert (await client.get("/v1/items/who", headers=with_key)).json()["tenant"] == "acme"
        wrong = {"X-API-Key": "trl_" + "x" * 40}
        assert (await client.get("/v1/items/who", headers=wrong)).status_code == 401


async def test_tenants_do_not_see_each_other(app, db, clock):
    for tenant in ("acme", "globex"):
        async with client_of(app, await key_for(db, clock, tenant)) as client:
            assert (await client.get("/v1/items/who")).json()["tenant"] == tenant
