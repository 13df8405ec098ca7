"""Index versions, asked often and read seldom."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.knowledge.base import Namespace
from app.knowledge.repository import IndexRepository, IndexState
from app.knowledge.versions import IndexVersions
from app.storage.db import Database
from tests.conftest import StillClock

ACME = Namespace("acme", "leads")


@pytest.fixture
def versions(db: Database, clock: StillClock) -> IndexVersions:
    return IndexVersions(db, clock)


async def bump(versions: IndexVersions, db: Database, namespace: Namespace = ACME) -> int:
    async with db.operator_transaction() as session:
        return (await versions.bump(session, namespace)).version


async def test_versions_count_up_from_nought_by_tenant_and_bot(versions: IndexVersions, db: Database) -> None:
    assert await versions.current(ACME) == 0
    assert [await bump(versions, db) for _ in range(3)] == [1, 2, 3]
    assert await bump(versions, db, Namespace("acme", "other")) == 1
    assert await bump(versions, db, Namespace("other", "leads")) == 1


async def test_a_version_is_read_once_a_second(versions: IndexVersions, db: Database, clock: StillClock) -> None:
    assert await versions.current(ACME) == 0
    await bump(versions, db)
    assert await versions.current(ACME) == 0
    clock.advance(seconds=1.1)
    assert await versions.current(ACME) == 1


async def test_a_rolled_back_change_has_no_version(versions: IndexVersions, db: Database, clock: StillClock) -> None:
    async with db.writer.connect() as connection, AsyncSession(connection) as session:
        assert (await versions.bump(session, ACME)).version == 1
        await session.rollback()
    assert await versions.current(ACME) == 0


async def test_a_change_during_the_read_is_not_overwritten_by_what_was_read(
    versions: IndexVersions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read_slowly(_repository: IndexRepository, _bot: str) -> IndexState:
        versions.moved(ACME, IndexState(5, "gen_b", ""))
        return IndexState(4)

    monkeypatch.setattr(IndexRepository, "state", read_slowly)
    assert await versions.current(ACME) == 5
    assert await versions.current(ACME) == 5
    assert (await versions.state(ACME)).active == "gen_b"
