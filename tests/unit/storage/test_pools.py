"""How long connections are waited for, and how many there are."""

import asyncio
from pathlib import Path

from sqlalchemy import text

from app.storage.db import Database
from app.storage.pools import idle, in_use


async def test_who_waits_for_the_writer_is_timed_and_the_pool_is_counted(tmp_path: Path) -> None:
    waits: list[float] = []
    db = Database(f"sqlite+aiosqlite:///{tmp_path / 'pools.db'}", waited=waits.append)
    release = asyncio.Event()

    async def write(until: asyncio.Event | None) -> None:
        async with db.transaction("acme") as session:
            await session.execute(text("SELECT 1"))
            if until is not None:
                held.set()
                await until.wait()

    held = asyncio.Event()
    first = asyncio.create_task(write(release))
    await held.wait()
    assert (in_use(db.writer), idle(db.writer), in_use(db.reader)) == (1, 0, 0)
    second = asyncio.create_task(write(None))
    await asyncio.sleep(0.05)
    release.set()
    await asyncio.gather(first, second)
    assert (in_use(db.writer), idle(db.writer)) == (0, 1)
    assert len(waits) == 2
    assert max(waits) >= 0.04
    await db.close()


def test_a_pool_logs_under_sqlalchemys_name(tmp_path: Path) -> None:
    db = Database(f"sqlite+aiosqlite:///{tmp_path / 'pools.db'}")
    assert db.writer.pool.logger.name.startswith("sqlalchemy.")
