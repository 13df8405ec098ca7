"""Kill switches that one process throws and another one sees."""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from app.clock import system_clock
from app.governance.flags import KILL, Flags, kill_switch
from app.principal import EVERY_TENANT, Principal, Role
from app.storage.db import Database
from tests.support.flags_child import PACK

OPERATOR = Principal(EVERY_TENANT, "operator", Role.ADMIN)
Throw = Callable[[bool], Awaitable[float]]


async def throw(db: Database, on: bool) -> None:
    flags = Flags(db, system_clock)
    flags.declare(kill_switch(PACK))
    async with db.operator_transaction() as session:
        await flags.set(session, OPERATOR, KILL + PACK, on, EVERY_TENANT)


@asynccontextmanager
async def watched(db: Database, overrides: dict[str, Any]) -> AsyncIterator[Throw]:
    """Throws the switch here; seconds from the commit until a process on those settings says that it saw it."""
    words = [sys.executable, "-m", "tests.support.flags_child", orjson.dumps(overrides).decode()]
    child = await asyncio.create_subprocess_exec(*words, stdout=PIPE)
    stdout: Any = child.stdout

    async def seen(on: bool) -> float:
        await throw(db, on)
        began = time.monotonic()
        assert await stdout.readline() == (b"killed\n" if on else b"running\n")
        return time.monotonic() - began

    try:
        assert await stdout.readline() == b"running\n"
        yield seen
    finally:
        child.kill()
        await child.wait()
