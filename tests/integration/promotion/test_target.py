"""What is looked at on the new side before anything is copied, against real servers that are at fault on purpose."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from app.clock import system_clock
from app.errors import ConfigError
from app.promotion.look import Look
from app.promotion.postgres_side import PostgresSide
from app.promotion.tables import moved_tables
from app.promotion.target import look_at_target, refuse
from app.settings import Settings, load_settings
from app.storage.db import Database
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.redis import RedisServer, running
from tests.support.servers import Backends

Target = Callable[..., Settings]
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def target(server_settings: Backends, tmp_path: Path) -> AsyncIterator[Target]:
    """Settings of a new side that will do, and of ones that differ."""
    async with FakeQdrant() as qdrant:

        def settings(**other: object) -> Settings:
            given = {
                "phase": "small",
                "database_pool_size": 5,
                "home": tmp_path,
                "vectors_url": qdrant.url,
                "vectors_key": KEY,
            }
            return load_settings({}, **(given | server_settings | other))

        yield settings


@asynccontextmanager
async def side_of(settings: Settings) -> AsyncIterator[PostgresSide]:
    side = PostgresSide(settings.owner_database_url, moved_tables())
    try:
        yield side
    finally:
        await side.close()


async def looks_at(target: Settings, source: Settings | None = None, phase: str | None = None) -> dict[str, Look]:
    chosen = target if phase is None else target.model_copy(update={"phase": phase})
    async with side_of(target) as side:
        found = await look_at_target(source or target, chosen, side, moved_tables())
    return {look.name: look for look in found}


def faults(looks: dict[str, Look]) -> Sequence[str]:
    return [name for name, look in looks.items() if look.ok is False]


async def test_servers_that_will_do_are_found_ready(target: Target) -> None:
    looks = await looks_at(target())
    assert faults(looks) == []
    refuse(list(looks.values()))
    assert looks["PostgreSQL"].why.startswith("PostgreSQL 15")
    assert looks["pooler and replicas"].why.endswith("is a standby.")
    assert "3 masters" in looks["Redis"].why
    assert all(look.todo for look in looks.values() if not look.ok)


async def test_what_is_missing_is_named_all_at_once(target: Target) -> None:
    nothing = dict.fromkeys(("database_url", "database_reader_url", "database_direct_url", "database_owner_url"))
    looks = await looks_at_nothing(target(**nothing, redis_url=None, vectors_url=None, vectors_key=None))
    assert faults(looks) == ["PostgreSQL", "Redis", "Qdrant"]
    with pytest.raises(ConfigError, match=r"TRELLIS_DATABASE_URL.*TRELLIS_REDIS_URL.*TRELLIS_VECTORS_URL"):
        refuse(list(looks.values()))


async def looks_at_nothing(target: Settings) -> dict[str, Look]:
    side = PostgresSide("postgresql+asyncpg://nobody@127.0.0.1:1/none", moved_tables())
    return {look.name: look for look in await look_at_target(target, target, side, moved_tables())}


async def test_servers_that_are_away_are_named_without_their_passwords(target: Target) -> None:
    gone = "postgresql+asyncpg://owner:hidden@127.0.0.1:1/none"
    looks = await looks_at_nothing(
        target(database_owner_url=gone, redis_url="redis://:hidden@127.0.0.1:1/0", vectors_url="http://127.0.0.1:1")
    )
    assert faults(looks) == ["PostgreSQL", "Redis", "Qdrant"]
    assert "hidden" not in str(looks)


async def test_a_database_with_rows_is_refused_and_one_of_this_promotion_is_gone_on_with(target: Target) -> None:
    settings = target()
    await change(settings, "INSERT INTO tenants (id, name, created_at) VALUES ('acme', 'Acme', now())")
    found = (await looks_at(settings))["rows"]
    assert (found.ok, "tenants" in found.why) == (False, True)
    async with side_of(settings) as side:
        await side.install(closed=True)
    assert (await looks_at(settings))["rows"].ok


async def test_policies_that_are_not_forced_and_a_login_that_they_do_not_hold_are_refused(target: Target) -> None:
    settings = target()
    await change(settings, "ALTER TABLE leads NO FORCE ROW LEVEL SECURITY")
    found = (await looks_at(settings))["row policies"]
    assert (found.ok, "leads" in found.why) == (False, True)
    owner = settings.database_owner_url
    found = (await looks_at(settings.model_copy(update={"database_direct_url": owner})))["logins"]
    assert (found.ok, "owns the tables" in found.why) == (False, True)


async def test_an_older_schema_is_to_be_migrated(target: Target) -> None:
    settings = target()
    await change(settings, "UPDATE alembic_version SET version_num = '0003'")
    found = (await looks_at(settings))["schema"]
    assert (found.ok, "trellis migrate" in found.todo) == (False, True)


async def test_connections_are_counted_for_all_processes_of_the_phase(target: Target) -> None:
    looks = [await looks_at(target(database_pool_size=size)) for size in (5, 20)]
    assert [found["connections"].ok for found in looks] == [True, False]
    assert "of 200 connections" in looks[1]["connections"].why


async def test_a_redis_that_throws_anything_away_is_no_cluster_or_has_too_few_masters(
    target: Target, redis_server: RedisServer, tmp_path: Path
) -> None:
    alone = target(redis_url=redis_server.url)
    assert (await looks_at(alone))["Redis"].ok
    assert "no cluster" in (await looks_at(alone, phase="medium"))["Redis"].why
    with running(tmp_path / "redis", "--maxmemory-policy", "allkeys-lru") as greedy:
        found = (await looks_at(target(redis_url=greedy.url)))["Redis"]
    assert (found.ok, "volatile" in found.todo) == (False, True)


async def test_a_qdrant_that_is_too_old_or_refuses_the_key_is_named(target: Target) -> None:
    async with FakeQdrant(version="1.16.1") as old:
        assert "1.16.1" in (await looks_at(target(vectors_url=old.url)))["Qdrant"].why
    assert "TRELLIS_VECTORS_KEY" in (await looks_at(target(vectors_key="wrong")))["Qdrant"].why


async def test_another_signing_key_is_a_persons_decision(target: Target, tmp_path: Path) -> None:
    source = load_settings({}, home=tmp_path / "poc")
    found = (await looks_at(target(session_secret="s" * 40), source))["signing key"]
    assert (found.ok, str(tmp_path / "poc") in found.todo) == (None, True)


async def test_a_clock_that_goes_wrong_is_noticed(target: Target) -> None:
    settings = target()
    async with side_of(settings) as side:
        looks = await look_at_target(
            settings, settings, side, moved_tables(), clock=lambda: system_clock().replace(year=2031)
        )
    (found,) = [look for look in looks if look.name == "clock"]
    assert found.ok is False


async def change(settings: Settings, statement: str) -> None:
    db = Database(settings.owner_database_url)
    async with db.operator_transaction() as session:
        await session.execute(text(statement))
    await db.close()
