"""A release beside what serves: users are brought to it with no gap, and back."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from runbooks.drill.rehearsal import Rehearsal, Rollback, Stage
from runbooks.drill.stages.cluster import NEEDS
from runbooks.drill.stages.colours import Colours, colours, only_of


@dataclass(kw_only=True)
class Deploy(Colours):
    async def break_it(self) -> None:
        """Nothing breaks: the release is there, and the page's first query says that it waits to be switched to."""
        self.begin()
        await self.release()
        await self.cluster.settle()

    async def lost(self) -> str:
        seen = self.seen()
        assert any(only_of(names, "green") for names in seen), "users were never brought to the release"
        assert only_of(seen[-1], "blue"), "users were not brought back"
        fewest = min(map(len, seen))
        assert fewest >= self.least, f"at one moment only {fewest} of {self.least} pods answered"
        return f"nothing (never fewer than {fewest} pods answered)"


def stage(folder: Path) -> AbstractAsyncContextManager[Stage]:
    return colours(folder, Deploy, tried=False)


REHEARSAL = Rehearsal(
    page="procedures/deploy", alert=None, needs=NEEDS, stage=stage, rollback=Rollback.AFTER, wait_s=180
)
