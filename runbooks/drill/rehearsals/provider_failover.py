"""The first model provider goes away: calls fall back to the second one, which is then put first, and back again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.stub.server import KEY, Latency
from runbooks.drill.rehearsal import Rehearsal, Rollback
from runbooks.drill.stages.house import HouseStage, house_stage
from tests.support.observed import Model, answer

SECOND = "stub-2"


@dataclass(kw_only=True)
class ProviderFailover(HouseStage):
    second: Model

    async def break_it(self) -> None:
        """Nothing listens at its address any more."""
        await self.house.model.__aexit__()

    async def mend(self) -> None:
        await self.house.model.__aenter__()

    async def lost(self) -> str:
        assert self.second.answered, "the second provider was never asked"
        return f"{await self.leads_kept()} ({self.unanswered()})"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[ProviderFailover]:
    async with Model(answer=answer, keep=False, latency=Latency(0.15, 0.005, spread=0.3)) as second:
        settings: dict[str, Any] = {"TRELLIS_MODEL_FALLBACK_URL": second.url, "TRELLIS_MODEL_FALLBACK_NAME": SECOND}
        words = {"SECOND_URL": second.url, "SECOND_NAME": SECOND, "SECOND_KEY": KEY}
        async with house_stage(folder, ProviderFailover, words=words, more={"second": second}, **settings) as ready:
            yield ready


REHEARSAL = Rehearsal(
    page="procedures/provider-failover",
    alert="ModelFallbacks",
    needs=("prometheus", "alertmanager"),
    stage=stage,
    ci=True,
    rollback=Rollback.AFTER,
)
