"""An end user's token: whom it stands for, how long, and that nobody but the tenant's key can make one."""

import hashlib
import hmac
from datetime import timedelta
from typing import Any

import jwt
import pytest

from app.errors import Forbidden, InvalidInput
from app.governance.keys import CACHE_S, KeyRing, create_key, create_tenant, revoke_key
from app.governance.user_tokens import AUDIENCE, ISSUER, MAX_TTL_S, UserTokens
from app.principal import Principal, Role, Tier, worker
from app.storage.db import Database

SECRET = b"a secret of tests"


@pytest.fixture
def keys(db: Database, clock) -> KeyRing:
    return KeyRing(db, clock)


@pytest.fixture
def tokens(keys: KeyRing, clock) -> UserTokens:
    return UserTokens(SECRET, keys, clock)


async def holder(db: Database, clock, tenant: str = "acme", **more: Any) -> Principal:
    """A new tenant's new key."""
    role = more.pop("role", Role.AGENT)
    async with db.operator_transaction() as session:
        await create_tenant(session, tenant, tenant.title(), clock())
        key = await create_key(session, tenant, role, Tier.PRO, "test", clock(), **more)
    return Principal(tenant, key.id, role, Tier.PRO)


def forge(clock, key_id: str, *, secret: bytes = SECRET, tenant: str = "acme", algorithm: str = "HS256", **claims: Any):
    now = int(clock().timestamp())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "tenant": tenant, "iat": now, "exp": now + 60, "jti": "t"}
    kept = {name: value for name, value in (said | claims).items() if value is not None}
    key = hmac.digest(secret, f"user-token\0{tenant}".encode(), hashlib.sha256)
    return jwt.encode(kept, key if algorithm != "none" else None, algorithm=algorithm, headers={"kid": key_id})


async def test_a_token_stands_for_one_user_of_the_keys_tenant(tokens, db, clock):
    issuer = await holder(db, clock)
    issued = await tokens.issue(issuer, "u-1")
    assert issued.expires_at == clock() + timedelta(seconds=900)
    assert await tokens.authenticate(issued.token) == Principal("acme", "user:u-1", Role.USER, Tier.PRO, "u-1")


async def test_a_token_seen_a_moment_ago_asks_no_database(tokens, db, clock):
    issued = await tokens.issue(await holder(db, clock), "u-1")
    assert tokens.known(issued.token) is None
    principal = await tokens.authenticate(issued.token)
    assert principal is not None
    await db.close()
    assert tokens.known(issued.token) == principal


async def test_a_token_ends_to_the_second(tokens, db, clock):
    issued = await tokens.issue(await holder(db, clock), "u-1", 60)
    clock.advance(seconds=59)
    assert await tokens.authenticate(issued.token)
    clock.advance(seconds=1)
    assert tokens.known(issued.token) is None
    assert await tokens.authenticate(issued.token) is None


async def test_a_revoked_key_ends_its_tokens_within_five_seconds(tokens, db, clock):
    issuer = await holder(db, clock)
    issued = await tokens.issue(issuer, "u-1")
    assert await tokens.authenticate(issued.token)
    async with db.operator_transaction() as session:
        await revoke_key(session, "acme", issuer.actor, clock())
    clock.advance(seconds=CACHE_S)
    assert tokens.known(issued.token) is None
    assert await tokens.authenticate(issued.token) is None


async def test_a_token_does_not_outlive_its_key(tokens, db, clock):
    issuer = await holder(db, clock, expires_at=clock() + timedelta(seconds=30))
    issued = await tokens.issue(issuer, "u-1", 600)
    assert await tokens.authenticate(issued.token)
    clock.advance(seconds=30)
    assert tokens.known(issued.token) is None
    assert await tokens.authenticate(issued.token) is None


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_forged_token_is_nobody(tokens, db, clock):
    key_id = (await holder(db, clock)).actor
    other = await holder(db, clock, "globex")
    assert await tokens.authenticate(forge(clock, key_id)), "the forge itself makes good ones"
    past = int(clock().timestamp()) - 10
    wrong = [
        forge(clock, key_id, secret=b"another"),
        forge(clock, key_id, aud="trellis:keys"),
        forge(clock, key_id, iss="somebody"),
        forge(clock, key_id, algorithm="HS512"),
        forge(clock, key_id, algorithm="none"),
        forge(clock, key_id, exp=past),
        forge(clock, key_id, iat=past + 3600, exp=past + 7200),
        forge(clock, "key_unknown"),
        forge(clock, other.actor),
        *(forge(clock, key_id, **{claim: None}) for claim in ("sub", "exp", "iat", "aud", "iss", "jti")),
        forge(clock, key_id)[:-4],
        "eyJ",
        "eyJ.eyJ.eyJ",
        "eyJ\udcff",
        "eyJ" + "a" * 10_000,
    ]
    assert [await tokens.authenticate(token) for token in wrong] == [None] * len(wrong)


async def test_one_tenants_signature_is_not_anothers(tokens, db, clock):
    acme, globex = await holder(db, clock), await holder(db, clock, "globex")
    token = (await tokens.issue(acme, "u-1")).token
    said = jwt.decode(token, options={"verify_signature": False})
    acme_key = hmac.digest(SECRET, b"user-token\0acme", hashlib.sha256)
    moved = jwt.encode(said | {"tenant": "globex"}, acme_key, algorithm="HS256", headers={"kid": globex.actor})
    assert await tokens.authenticate(moved) is None


async def test_another_installations_token_is_nobody(tokens, keys, db, clock):
    issuer = await holder(db, clock)
    elsewhere = UserTokens(b"another secret", keys, clock)
    assert await tokens.authenticate((await elsewhere.issue(issuer, "u-1")).token) is None


async def test_only_a_key_that_acts_issues_tokens(tokens, db, clock):
    viewer = await holder(db, clock, role=Role.VIEWER)
    with pytest.raises(Forbidden, match="role 'agent'"):
        await tokens.issue(viewer, "u-1")
    with pytest.raises(Forbidden, match="issued by an API key"):
        await tokens.issue(Principal("acme", "anonymous", Role.ADMIN), "u-1")
    with pytest.raises(Forbidden, match="role 'agent'"):
        await tokens.issue(Principal("acme", "user:u-1", Role.USER, user_id="u-1"), "u-2")


@pytest.mark.parametrize("user_id", ["", "a@b.example", "-a", "a b", "a/b", "a\n", "a" * 101, "ä"])
async def test_an_id_that_logs_cannot_take_is_refused(tokens, db, clock, user_id):
    issuer = await holder(db, clock)
    with pytest.raises(InvalidInput, match="opaque id"):
        await tokens.issue(issuer, user_id)


async def test_no_user_is_named_like_whoever_else_has_conversations(tokens, db, clock):
    issuer = await holder(db, clock)
    for actor in (issuer.actor, "key_other", "cli:root", worker("acme").actor, "anonymous"):
        with pytest.raises(InvalidInput, match="name of a key"):
            await tokens.issue(issuer, actor)
    for user_id in ("workers", "a.key_1", "cli", "keyholder"):
        assert (await tokens.issue(issuer, user_id)).user_id == user_id


@pytest.mark.parametrize("ttl_s", [0, -1, MAX_TTL_S + 1])
async def test_a_token_lives_an_hour_at_most(tokens, db, clock, ttl_s):
    issuer = await holder(db, clock)
    with pytest.raises(InvalidInput, match="between 1 and 3600"):
        await tokens.issue(issuer, "u-1", ttl_s)
