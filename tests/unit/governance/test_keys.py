"""API keys: made, found, revoked, expired, and never another tenant's."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.errors import Conflict, InvalidInput, NotFound
from app.governance.keys import KeyRing, create_key, create_tenant, list_keys, revoke_key
from app.governance.models_keys import ApiKey
from app.principal import Role, Tier
from app.storage.base import Base
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.examples import examples


@pytest.fixture
async def tenants(db: Database, clock: StillClock) -> None:
    async with db.operator_transaction() as session:
        await create_tenant(session, "acme", "Acme", clock())
        await create_tenant(session, "globex", "Globex", clock())


async def _new(db: Database, clock: StillClock, tenant: str = "acme", **more):
    async with db.operator_transaction() as session:
        return await create_key(session, tenant, Role.AGENT, Tier.PRO, "laptop", clock(), **more)


async def test_a_new_key_gives_the_principal_of_its_tenant(db, clock, tenants):
    key = await _new(db, clock)
    principal = await KeyRing(db, clock).authenticate(key.secret)
    assert principal is not None
    assert (principal.tenant_id, principal.actor, principal.role, principal.tier) == (
        "acme",
        key.id,
        Role.AGENT,
        Tier.PRO,
    )


async def test_the_secret_itself_is_stored_nowhere(db, clock, tenants):
    key = await _new(db, clock)
    assert len(key.secret) == 44
    async with db.operator_reading() as session:
        row = (await session.scalars(select(ApiKey))).one()
    assert key.secret not in repr(vars(row))
    assert row.hint == key.secret[:8]


@pytest.mark.parametrize(
    "secret", ["", "trl_", "trl_" + "a" * 40, "trl_" + "é" * 40, "\ud800", "x" * 5000, "' or 1=1 --"]
)
async def test_what_is_not_a_key_authenticates_nobody(db, clock, tenants, secret):
    await _new(db, clock)
    assert await KeyRing(db, clock).authenticate(secret) is None


async def test_a_revoked_key_ends_within_the_time_of_the_cache(db, clock, tenants):
    key, ring = await _new(db, clock), KeyRing(db, clock)
    assert await ring.authenticate(key.secret)
    async with db.operator_transaction() as session:
        await revoke_key(session, "acme", key.id, clock())
    assert await ring.authenticate(key.secret), "remembered"
    clock.advance(seconds=5.1)
    assert ring.known(key.secret) is None
    assert await ring.authenticate(key.secret) is None


async def test_an_expired_key_ends_on_time_even_where_it_is_remembered(db, clock, tenants):
    key = await _new(db, clock, expires_at=clock() + timedelta(seconds=3))
    ring = KeyRing(db, clock)
    assert await ring.authenticate(key.secret)
    clock.advance(seconds=3)
    assert await ring.authenticate(key.secret) is None
    assert await KeyRing(db, clock).authenticate(key.secret) is None


async def test_a_remembered_key_asks_no_database(db, clock, tenants):
    key, ring = await _new(db, clock), KeyRing(db, clock)
    principal = await ring.authenticate(key.secret)
    await db.close()
    ring._db = None  # any look-up from here on would fail
    assert ring.known(key.secret) == principal == await ring.authenticate(key.secret)


async def test_no_tenant_sees_or_revokes_the_keys_of_another(db, clock, tenants):
    key = await _new(db, clock)
    async with db.operator_transaction() as session:
        assert list(await list_keys(session, "globex")) == []
        with pytest.raises(NotFound, match=r"There is no API key"):
            await revoke_key(session, "globex", key.id, clock())
    assert await KeyRing(db, clock).authenticate(key.secret)


async def test_revoking_twice_keeps_the_first_time(db, clock, tenants):
    key = await _new(db, clock)
    first = clock()
    for _ in range(2):
        async with db.operator_transaction() as session:
            await revoke_key(session, "acme", key.id, clock())
        clock.advance(hours=1)
    async with db.operator_reading() as session:
        assert [row.revoked_at for row in await list_keys(session, "acme")] == [first]


async def test_a_key_needs_a_tenant_that_exists_a_label_and_a_future(db, clock, tenants):
    async with db.operator_transaction() as session:
        with pytest.raises(NotFound, match=r"no tenant 'nobody': make it with `trellis keys create --tenant nobody"):
            await create_key(session, "nobody", Role.AGENT, Tier.PRO, "x", clock())
        for label in ("", "  ", "x" * 101, "a\0b"):
            with pytest.raises(InvalidInput, match=r"label must have 1 to 100"):
                await create_key(session, "acme", Role.AGENT, Tier.PRO, label, clock())
        with pytest.raises(InvalidInput, match=r"expires_at.* is in the past"):
            await create_key(session, "acme", Role.AGENT, Tier.PRO, "x", clock(), clock())


@pytest.mark.parametrize("tenant_id", ["", "Acme", "a b", "-acme", "a" * 64, "a\0", "acme\n", "ümlaut"])
async def test_a_tenants_id_is_a_short_lower_case_name(db, clock, tenant_id):
    async with db.operator_transaction() as session:
        with pytest.raises(InvalidInput, match=r"cannot be a tenant's id"):
            await create_tenant(session, tenant_id, "Acme", clock())


async def test_a_tenant_is_made_once(db, clock, tenants):
    async with db.operator_transaction() as session:
        with pytest.raises(Conflict, match=r"'acme' exists already"):
            await create_tenant(session, "acme", "Acme again", clock())


TENANTS = st.sampled_from(["acme", "globex", "initech"])
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), TENANTS),
        st.tuples(st.just("revoke"), TENANTS, st.integers(0, 9)),
        st.tuples(st.just("wait"), st.floats(0.1, 10)),
        st.tuples(st.just("ask"), st.integers(0, 9)),
    ),
    max_size=25,
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS)
def test_whatever_happens_a_key_stands_for_its_own_tenant_or_for_nobody(tmp_path_factory, acts):
    asyncio.run(_play(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('keys') / 'k.db'}", acts))


async def _play(url: str, acts) -> None:
    db, clock, keys = Database(url), StillClock(), []
    async with db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with db.operator_transaction() as session:
        for tenant in ("acme", "globex", "initech"):
            await create_tenant(session, tenant, tenant, clock())
    ring = KeyRing(db, clock)
    for act, *args in acts:
        await _ACTS[act](db, clock, ring, keys, *args)
    await db.close()


async def _make(db, clock, _ring, keys, tenant):
    keys.append([tenant, await _new(db, clock, tenant), None])


async def _revoke(db, clock, _ring, keys, tenant, index):
    if not keys:
        return
    entry = keys[index % len(keys)]
    async with db.operator_transaction() as session:
        if entry[0] != tenant:
            with pytest.raises(NotFound):
                await revoke_key(session, tenant, entry[1].id, clock())
            return
        await revoke_key(session, tenant, entry[1].id, clock())
    entry[2] = entry[2] or clock()


async def _wait(_db, clock, _ring, _keys, seconds):
    clock.advance(seconds=seconds)


async def _ask(_db, clock, ring, keys, index):
    if not keys:
        return
    tenant, key, revoked_at = keys[index % len(keys)]
    principal = await ring.authenticate(key.secret)
    assert principal is None or (principal.tenant_id, principal.actor) == (tenant, key.id)
    if revoked_at is None:
        assert principal is not None
    elif clock() - revoked_at > timedelta(seconds=5):
        assert principal is None


_ACTS = {"make": _make, "revoke": _revoke, "wait": _wait, "ask": _ask}
