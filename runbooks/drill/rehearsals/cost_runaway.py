"""A client of one tenant asks long questions in a loop: the pack is switched off for it, its day's budget lowered."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from runbooks.drill.rehearsal import Rehearsal, Rollback
from runbooks.drill.stages.house import HouseStage, house_stage
from tests.chaos.load import Load, Try
from tests.support.observed import BOT, KNOWN, Rates

RATE = 6.0
"""Questions of the loop, a second."""
LONG = "The guard said that the room was cold, and wrote it down. " * 60
USUAL = Rates(leads=0.3, whole=0.5, streamed=0.3, known=0.5, claims=0.0, documents=0.0)


@dataclass(kw_only=True)
class CostRunaway(HouseStage):
    stack: AsyncExitStack
    """Ends the loop."""

    async def break_it(self) -> None:
        await self.stack.enter_async_context(Load(self.ask, RATE))

    async def ask(self, number: int) -> Try:
        body = {"message": f"{KNOWN} Case {number}. {LONG}", "history": []}
        return await self.house.client.post(f"/v1/bots/{BOT}/chat", body)

    async def mend(self) -> None:
        await self.stack.aclose()

    async def lost(self) -> str:
        return f"{await self.leads_kept()} ({self.unanswered()})"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[CostRunaway]:
    stack, words = AsyncExitStack(), {"PACK": "chat"}
    async with house_stage(folder, CostRunaway, USUAL, words, {"stack": stack}) as ready:
        ready.house.model.counting = True
        # Before the house, so that nothing asks what is being ended.
        async with stack:
            yield ready


REHEARSAL = Rehearsal(
    page="procedures/cost-runaway",
    alert="CostBurnsFast",
    needs=("prometheus", "alertmanager"),
    stage=stage,
    rollback=Rollback.AFTER,
)
