"""A key that leaked is used by a program of somebody's: it is found in the log, and ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbooks.drill.rehearsal import Rehearsal, Rollback
from runbooks.drill.stages.house import LIGHT, TENANT, HouseStage, house_stage
from tests.chaos.load import Client, Load
from tests.support.server import trellis

RATE = 6.0
"""Requests of the abuser a second; a key of tier free may send one, and 60 at once."""
LABEL = "the newsletter's form"


@dataclass(kw_only=True)
class KeyAbuse(HouseStage):
    leaked: Client
    stack: AsyncExitStack
    """Ends the abuse."""

    async def break_it(self) -> None:
        await self.stack.enter_async_context(Load(lambda _number: self.leaked.get("/v1/leads/counts"), RATE))

    async def mend(self) -> None:
        await self.stack.aclose()

    async def lost(self) -> str:
        """Also sees that the key is at its end: after the recovery nobody may use it."""
        tried = await self.leaked.get("/v1/leads/counts")
        assert tried.status in (401, 429), f"the key that was ended is answered with {tried.status}"
        return f"{await self.leads_kept()} ({self.unanswered()})"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[KeyAbuse]:
    stack, words = AsyncExitStack(), {"LABEL": LABEL}
    more = {"stack": stack, "leaked": None}
    async with house_stage(folder, KeyAbuse, LIGHT, words, more) as ready:
        ready.leaked = Client(ready.house.web, ready.house.server.address, await _new_key(ready))
        async with stack:
            yield ready


async def _new_key(ready: KeyAbuse) -> str:
    server = ready.house.server
    settings: dict[str, Any] = dict(ready.service.settings)
    options = ("--tier", "free", "--label", LABEL, "--tenant", TENANT)
    made = await asyncio.to_thread(trellis, server.home, server.port, "keys", "create", *options, **settings)
    return made.stdout.split()[1]


REHEARSAL = Rehearsal(
    page="procedures/key-abuse",
    alert=None,
    needs=("prometheus", "alertmanager"),
    stage=stage,
    rollback=Rollback.AFTER,
)
