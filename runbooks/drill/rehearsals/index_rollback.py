"""An index of another embedder, whose provider then refuses the questions' own: the former one is put back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbooks.drill.rehearsal import Rehearsal, Rollback
from runbooks.drill.stages.embedder import DIMENSION, NAME, Embedder, embedding
from runbooks.drill.stages.house import HouseStage, house_stage
from tests.support.observed import BOT, Rates, until

DECIDED_S = 180.0
INDEX = f"/v1/bots/{BOT}/index"
OURS, THEIRS = "wordllama-256", f"{NAME}-{DIMENSION}"
QUESTIONS = Rates(leads=0.0, whole=1.0, streamed=1.0, known=0.5, claims=0.0, documents=0.0)
"""Leads look into a bot of their own, whose index is the provider's and is not rolled back."""
_SMALL = {"largest": 800, "smallest": 80, "overlap": 80}


@dataclass(kw_only=True)
class IndexRollback(HouseStage):
    embedder: Embedder

    async def break_it(self) -> None:
        """A candidate that looked well answers, and what makes its vectors is gone."""
        await self.switch_to(THEIRS)
        self.embedder.failing = True

    async def mend(self) -> None:
        self.embedder.failing = False

    async def lost(self) -> str:
        found = await self.house.client.get(f"/v1/bots/{BOT}/documents?limit=100")
        documents = found.body["items"]
        away = [each["slug"] for each in documents if each["status"] != "ready"]
        assert not away, f"{len(away)} of {len(documents)} documents are not ready: {away[:3]}"
        return f"nothing of {len(documents)} documents ({self.unanswered()})"

    async def switch_to(self, embedder: str) -> None:
        """A new generation of the bot's index, built and switched to."""
        built = await self._post("/generations", {"embedder": embedder, "bounds": _SMALL})
        wanted = {"generation": built["generation"], "force": True}

        async def switched() -> bool:
            return (await self.house.client.post(f"{INDEX}/switch", wanted)).ok

        await until(switched, f"the index with {embedder} is built and answers")

    async def idle(self) -> bool:
        """Whether no lead waits for its decision."""
        found = (await self.house.client.get("/v1/leads/counts")).body
        return bool(found and found["total"] and not found["by_status"]["new"])

    async def _post(self, path: str, body: Any) -> Any:
        found = await self.house.client.post(INDEX + path, body)
        assert found.ok, f"{path} was answered with {found.status} {found.body}"
        return found.body


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[IndexRollback]:
    """The settings name a provider's embedder; the index that answers is the embedded one's."""
    async with embedding() as embedder:
        settings: dict[str, Any] = embedder.settings
        async with house_stage(
            folder, IndexRollback, QUESTIONS, words={"BOT": BOT}, more={"embedder": embedder}, **settings
        ) as ready:
            await until(ready.idle, "every sample lead is decided", DECIDED_S)
            await ready.switch_to(OURS)
            yield ready


REHEARSAL = Rehearsal(
    page="procedures/index-rollback",
    alert="RetrievalFailing",
    needs=("prometheus", "alertmanager"),
    stage=stage,
    ci=True,
    rollback=Rollback.AFTER,
)
