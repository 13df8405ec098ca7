"""A pack whose prompt the model refuses: it is switched off, leads go on, it is switched on again when it is mended."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.stub.checks import Fault, error
from runbooks.drill.rehearsal import Rehearsal, Rollback
from runbooks.drill.stages.house import HouseStage, house_stage

CHAT = "You answer questions from the documents of one company."


def too_long(body: Mapping[str, Any]) -> Fault | None:
    """What a provider says to a prompt that has outgrown it; other packs' prompts are answered."""
    if CHAT in str(body["messages"][0].get("content")):
        return error(400, "This model's maximum context length is 8192 tokens.", code="context_length_exceeded")
    return None


@dataclass(kw_only=True)
class Flags(HouseStage):
    async def break_it(self) -> None:
        self.house.model.refusing = too_long

    async def mend(self) -> None:
        self.house.model.refusing = None

    async def lost(self) -> str:
        return f"{await self.leads_kept()} ({self.unanswered()})"


def stage(folder: Path) -> AbstractAsyncContextManager[Flags]:
    return house_stage(folder, Flags, words={"PACK": "chat"})


REHEARSAL = Rehearsal(
    page="procedures/flags",
    alert="AnswersFailing",
    needs=("prometheus", "alertmanager"),
    stage=stage,
    ci=True,
    rollback=Rollback.AFTER,
)
