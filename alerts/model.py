"""What a rule is, and how it becomes YAML for Prometheus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from infra.links import LINKS, Links
from infra.phases import Phase


class Severity(StrEnum):
    """PAGE wakes a person, TICKET waits for the working day, NONE is for machines."""

    PAGE = "page"
    TICKET = "ticket"
    NONE = "none"


class Team(StrEnum):
    API = "api"
    MODELS = "models"
    DATA = "data"
    PLATFORM = "platform"
    BUSINESS = "business"


@dataclass(frozen=True, slots=True)
class Pace:
    """Turns the durations of rules into Prometheus's, all divided by `divisor`: tests live a month in minutes."""

    divisor: float = 1

    def __call__(self, seconds: float) -> str:
        """A duration literal: whole weeks to seconds, milliseconds below one. 3600 is `1h`."""
        milliseconds = round(seconds * 1000 / self.divisor)
        for size, unit in ((604_800_000, "w"), (86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")):
            if milliseconds and milliseconds % size == 0:
                return f"{milliseconds // size}{unit}"
        return f"{milliseconds}ms"


@dataclass(frozen=True, slots=True)
class Site:
    """What rules are made for."""

    phase: Phase
    links: Links = LINKS
    pace: Pace = Pace()


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded series, named `level:metric:operations` (Prometheus's practice for rules)."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def rule(self, _site: Site) -> Mapping[str, Any]:
        return {"record": self.name, "expr": self.expr, **({"labels": dict(self.labels)} if self.labels else {})}


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    Args:
        hold_s: seconds that the expression must hold before it fires (`for`).
        summary: one line that says what is wrong, with the value where there is one (Go template of Prometheus).
        description: what it means for users, and what to look at first.
        dashboard: uid of the dashboard that shows it.
        labels: beside severity, team and phase; never a value that changes while it fires.
    """

    name: str
    expr: str
    hold_s: float
    severity: Severity
    team: Team
    summary: str
    description: str
    dashboard: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def rule(self, site: Site) -> Mapping[str, Any]:
        standing = {"severity": self.severity.value, "team": self.team.value, "phase": site.phase.name.value}
        return {
            "alert": self.name,
            "expr": self.expr,
            **({"for": site.pace(self.hold_s)} if self.hold_s else {}),
            "labels": {**standing, **self.labels},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": site.links.runbook(self.name),
                "dashboard_url": site.links.dashboard(self.dashboard),
            },
        }


Rule = Recording | Alert


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other, every `interval_s` (0: as Prometheus does by itself)."""

    name: str
    rules: Sequence[Rule]
    interval_s: float = 0

    def document(self, site: Site) -> Mapping[str, Any]:
        every = {"interval": site.pace(self.interval_s)} if self.interval_s else {}
        return {"name": self.name, **every, "rules": [rule.rule(site) for rule in self.rules]}
