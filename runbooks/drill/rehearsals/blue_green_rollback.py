"""The release that users were brought to stops answering: they are brought back to the colour before."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from runbooks.drill.rehearsal import Rehearsal, Stage
from runbooks.drill.stages.cluster import NEEDS, answer_probes
from runbooks.drill.stages.colours import Colours, colours, only_of


@dataclass(kw_only=True)
class BadRelease(Colours):
    async def break_it(self) -> None:
        """The readiness probe of every pod of green fails, as it does when a part of the release does not answer."""
        await self.switch("green")
        self.begin()
        await asyncio.to_thread(answer_probes, self.cluster.api, self.pods("green"), well=False)

    async def lost(self) -> str:
        seen = self.seen()
        back = next((place for place, names in enumerate(seen) if only_of(names, "blue")), None)
        assert back is not None, "users were never brought back"
        fewest = min(map(len, seen[back:]))
        assert fewest >= self.least, f"after the switch only {fewest} of {self.least} pods answered"
        return f"no data ({min(map(len, seen))} of {self.least} pods answered until the switch)"


def stage(folder: Path) -> AbstractAsyncContextManager[Stage]:
    return colours(folder, BadRelease, tried=True)


REHEARSAL = Rehearsal(
    page="procedures/blue-green-rollback", alert="KubeRolloutStuck", needs=NEEDS, stage=stage, ci=True, wait_s=180
)
