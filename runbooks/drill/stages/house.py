"""The service as it is watched (`tests.support.observed`) as a stage: it serves a load, its rules are ours, faster."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from runbooks.drill.rehearsal import Standing
from runbooks.drill.stages.service import Service, controlled
from tests.chaos.load import Load, Try
from tests.support.observed import SETTINGS, Observed, Rates, observed
from tests.support.server import Server

LOGS: Mapping[str, Any] = {"TRELLIS_LOG_LEVEL": "INFO", "TRELLIS_LOG_JSON": "true"}
"""As pods write them: pages look for what stands there."""
PACE = 30.0
"""Windows of five minutes pass in ten seconds: enough scrapes are in them, also where the machine is busy."""
TENANT = "local"
"""Whose sample it is."""
LIGHT = Rates(leads=0.5, whole=1.0, streamed=1.0, known=0.5, claims=0.0, documents=0.0)
"""Enough of each kind for the rules' least counts."""


@dataclass(kw_only=True)
class HouseStage(Standing):
    """`loads`: what became of the requests so far, by kind."""

    house: Observed
    service: Service
    loads: Mapping[str, Load] = field(default_factory=dict)

    def tries(self, *kinds: str) -> list[Try]:
        return [each for kind in kinds for each in self.loads[kind].tries]

    async def leads_kept(self) -> str:
        """Leads that were answered with success and are not stored, of all such. Raises AssertionError where any is."""
        told = [each.body["lead"]["id"] for each in self.tries("leads") if each.ok]
        missing = [lead for lead in told if not (await self.house.client.get(f"/v1/leads/{lead}")).ok]
        assert not missing, f"{len(missing)} of {len(told)} leads that were taken are not stored: {missing[:3]}"
        return f"nothing of {len(told)} leads"

    def unanswered(self) -> str:
        """Questions without an answer, of all, and of them those that found no process: steps replace the only one."""
        asked = self.tries("whole", "streamed", "known")
        missed = [each for each in asked if not each.ok]
        away = sum(not each.status for each in missed)
        while_away = f", {away} of them while the only process was replaced" if away else ""
        return f"{len(missed)} of {len(asked)} questions unanswered{while_away}"


S = TypeVar("S", bound=HouseStage)


@asynccontextmanager
async def house_stage(
    folder: Path,
    kind: type[S],
    rates: Rates = LIGHT,
    words: Mapping[str, str] = {},
    more: Mapping[str, Any] = {},
    **settings: Any,
) -> AsyncIterator[S]:
    """The service of phase poc with the sample's data and a load on it.

    Args:
        words: what the page writes in capitals, beside TENANT.
        more: what the kind of stage has beside this one's.
        settings: of the app, as variables.
    """
    async with observed(folder, furnished=False, pace=PACE, **{**LOGS, **settings}) as house:
        urls = {"TRELLIS_MODEL_URL": house.model.url, "TRELLIS_MODEL_FALLBACK_URL": house.model.url}
        home, port = house.server.home, house.server.port

        def again(chosen: Mapping[str, str]) -> Server:
            house.server = Server(home, port, **chosen)
            return house.server

        service = Service(house.server, {**SETTINGS, **LOGS, **urls, **settings}, again)
        async with controlled(service) as kubectl, house.load(rates) as loads:
            yield kind(
                house=house,
                service=service,
                loads=loads,
                environment={**service.settings, **beside(house.server), "TENANT": TENANT, **words},
                programs={"kubectl": kubectl},
                prometheus=house.prometheus,
                pace=PACE,
                **more,
            )


def beside(server: Server) -> Mapping[str, str]:
    """What the command line needs to work on a server's data."""
    return {"TRELLIS_HOME": str(server.home), "TRELLIS_PORT": str(server.port), "TRELLIS_MONITORING": "false"}
