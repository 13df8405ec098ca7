"""The container's caches and memory: shared by Redis where the settings name one, switched by flags."""

from pathlib import Path
from typing import Any

from app.cache.base import tenant_tag
from app.container import Container, Parts, migrate_database, open_container
from app.memory import LocalMemory, RedisMemory, Turn
from app.principal import Principal, Role
from app.settings import Settings, load_settings
from tests.support.redis import RedisServer

ADMIN = Principal("acme", "key_admin", Role.ADMIN)
TWICE = "tenant-of-two-processes"
"""Whose entries are counted: the tests' Redis is one, and others leave some of acme's in it."""


async def settings_for(home: Path, **others: Any) -> Settings:
    settings = load_settings({}, home=home, **others)
    home.mkdir(parents=True, exist_ok=True)
    await migrate_database(settings)
    return settings


async def switch(container: Container, name: str, *, on: bool) -> None:
    async with container.db.operator_transaction() as session:
        await container.kit.flags.set(session, ADMIN, name, on)
    await container.kit.flags.refresh()


async def test_two_processes_share_what_they_keep_and_remember(tmp_path: Path, redis_server: RedisServer) -> None:
    first_settings = await settings_for(tmp_path / "1", redis_url=redis_server.url)
    second_settings = await settings_for(tmp_path / "2", redis_url=redis_server.url)
    async with (
        open_container(first_settings, Parts.COMMAND) as first,
        open_container(second_settings, Parts.COMMAND) as second,
    ):
        said = Turn("user", "hello", first.clock())
        await first.kit.memory.add(TWICE, "shop", "ann", said)
        await first.kit.caches.answers.set(f"{TWICE}/k", b"v", 60, [tenant_tag(TWICE)])
        assert isinstance(second.kit.memory, RedisMemory)
        assert list(await second.kit.memory.recent(TWICE, "shop", "ann")) == [said]
        assert await second.kit.caches.answers.get(f"{TWICE}/k") == b"v"
        assert await second.kit.caches.drop(tenant_tag(TWICE)) == 1
        await first.kit.caches.catch_up()
        assert await first.kit.caches.answers.get(f"{TWICE}/k") is None


async def test_a_tenant_switches_its_own_cache_off(tmp_path: Path) -> None:
    async with open_container(await settings_for(tmp_path), Parts.COMMAND) as container:
        assert isinstance(container.kit.memory, LocalMemory)
        cache = container.kit.caches.answers
        await cache.set("k", b"v", 60)
        await switch(container, "cache.answers", on=False)
        assert [await cache.get("k", tenant) for tenant in ("acme", "rival")] == [None, b"v"]
        await switch(container, "cache.answers", on=True)
        assert await cache.get("k", "acme") == b"v"
