"""Is anything watched at all? What stops being measured fails in silence, so silence is an alert of its own."""

from collections.abc import Sequence
from typing import Final

from alerts.model import Alert, Group, Severity, Site, Team
from infra.scrapes import Scrape, scrapes

# Where one of these is away, questions and leads get no answer, and no failed request is counted either.
_SERVING: Final = frozenset({"trellis-api", "trellis-worker"})
_TEAMS: Final = {
    "trellis-api": Team.API,
    "trellis-worker": Team.API,
    "vllm": Team.MODELS,
    "dcgm": Team.MODELS,
    "postgres": Team.DATA,
    "pgbouncer": Team.DATA,
    "redis": Team.DATA,
    "qdrant": Team.DATA,
}


def presence(site: Site) -> Sequence[Group]:
    absent = [_absent(scrape) for scrape in scrapes(site.phase)]
    return (Group("presence", [_watchdog(), *absent]),)


def _absent(scrape: Scrape) -> Alert:
    serving = scrape.job in _SERVING
    return Alert(
        name="MetricsAbsent",
        expr=f'absent(up{{job="{scrape.job}"}} == 1)',
        hold_s=180 if serving else 600,
        severity=Severity.PAGE if serving else Severity.TICKET,
        team=_TEAMS.get(scrape.job, Team.PLATFORM),
        summary=f"No process of {scrape.job} answers Prometheus",
        description=(
            f"Every target of the job {scrape.job} ({scrape.what}) is down, or there is none. "
            + (
                "Users are probably not served, and no other alert can see it: look at the processes first."
                if serving
                else "Its alerts are blind until it is back: look whether the process or only its scrape is gone."
            )
        ),
        dashboard="trellis-telemetry",
        labels={"job": scrape.job},
    )


def _watchdog() -> Alert:
    return Alert(
        name="Watchdog",
        expr="vector(1)",
        hold_s=0,
        severity=Severity.NONE,
        team=Team.PLATFORM,
        summary="Alerting works",
        description=(
            "This alert always fires. It goes to a service outside that raises the alarm when it stops coming: "
            "then Prometheus, Alertmanager or the way to them is broken."
        ),
        dashboard="trellis-telemetry",
    )
