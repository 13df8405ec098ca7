"""Where the pages are that an alert or a panel leads to: a team that clones Trellis puts its own here."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Links:
    """Base addresses, without a slash at the end. `heartbeat`: who raises the alarm when alerting itself is dead."""

    grafana: str
    runbooks: str
    heartbeat: str

    def runbook(self, alert: str) -> str:
        return f"{self.runbooks}/alerts/{alert}.md"

    def dashboard(self, uid: str) -> str:
        return f"{self.grafana}/d/{uid}"


LINKS: Final = Links(
    grafana="https://grafana.trellis.example",
    runbooks="https://git.trellis.example/trellis/runbooks",
    heartbeat="https://heartbeat.trellis.example/ping",
)
