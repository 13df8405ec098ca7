"""Is this hour like the same hour of the weeks before? The median of four, so that one odd week decides nothing."""

from collections.abc import Iterator, Sequence
from typing import Final

from alerts.expressions import number, total
from alerts.model import Alert, Group, Recording, Rule, Severity, Site, Team
from alerts.slo import name_of
from alerts.targets import region_budget
from alerts.windows import DAY, HOUR

_WEEK: Final = 7 * DAY
_WEEKS: Final = 4
_GAP_S: Final = 600
_MANY: Final = 3
_LEAST_REQUESTS: Final = 30
_LEAST_LEADS: Final = 10


def anomaly(site: Site) -> Sequence[Group]:
    return (Group("anomaly", [*_requests(site), *_leads(site), *_cost(site)]),)


def leads_window_s(site: Site) -> int:
    """The shortest window that has 20 leads in it at the phase's load; a day at most."""
    a_second = site.phase.load.leads_per_month / (30 * DAY)
    return next((window for window in (HOUR, 6 * HOUR) if a_second * window >= 20), DAY)


def _usual(site: Site, series: str) -> str:
    """The median of a recorded series at this time in the last weeks."""
    gap = site.pace(_GAP_S)
    weeks = [
        f'label_replace(last_over_time({series}[{gap}] offset {site.pace(week * _WEEK)}), "week", "{week}", "", "")'
        for week in range(1, _WEEKS + 1)
    ]
    return f"quantile(0.5, {' or '.join(weeks)})"


def _requests(site: Site) -> Iterator[Rule]:
    now, usual = "trellis:requests:rate1h", "trellis:requests:usual1h"
    hour = number(HOUR / site.pace.divisor)
    yield Recording(usual, _usual(site, now))
    yield Alert(
        name="RequestsFewer",
        expr=f"{now} / {usual} < {number(1 / _MANY)} and {usual} * {hour} > {_LEAST_REQUESTS}",
        hold_s=900,
        severity=Severity.TICKET,
        team=Team.API,
        summary="Requests are at {{ $value | humanizePercentage }} of what this hour usually has",
        description=(
            "The same hour of the last four weeks had at least three times as many. Those that do not arrive fail "
            "nowhere: see the load balancer, DNS, certificates, and the clients. It may also be a holiday."
        ),
        dashboard="trellis-api",
    )
    yield Alert(
        name="RequestsMore",
        expr=f"{now} / ({usual} > 0) > {_MANY} and {now} * {hour} > {_LEAST_REQUESTS * _MANY}",
        hold_s=900,
        severity=Severity.TICKET,
        team=Team.API,
        summary="Requests are at {{ $value | humanizePercentage }} of what this hour usually has",
        description=(
            "The same hour of the last four weeks had a third at most. See which route and which tenant's limit: a "
            "campaign, a client that repeats itself, or abuse. See whether the pods still suffice."
        ),
        dashboard="trellis-api",
    )


def _leads(site: Site) -> Iterator[Rule]:
    window_s = leads_window_s(site)
    now, usual = f"trellis:leads:rate{name_of(window_s)}", f"trellis:leads:usual{name_of(window_s)}"
    seconds = number(window_s / site.pace.divisor)
    received = total(site, "trellis_leads_received_total", window_s)
    yield Recording(now, f"({received} or vector(0)) / {seconds}")
    yield Recording(usual, _usual(site, now))
    yield Alert(
        name="LeadsFewer",
        expr=f"{now} / {usual} < {number(1 / _MANY)} and {usual} * {seconds} > {_LEAST_LEADS}",
        hold_s=900,
        severity=Severity.TICKET,
        team=Team.BUSINESS,
        summary="Leads are at {{ $value | humanizePercentage }} of what is usual at this time of the week",
        description=(
            "The last four weeks had at least three times as many. See by source which one dried up: a form, a mailbox "
            "or an import that broke says nothing."
        ),
        dashboard="trellis-business",
    )
    yield Alert(
        name="LeadsMore",
        expr=f"{now} / ({usual} > 0) > {_MANY} and {now} * {seconds} > {_LEAST_LEADS * _MANY}",
        hold_s=900,
        severity=Severity.TICKET,
        team=Team.BUSINESS,
        summary="Leads are at {{ $value | humanizePercentage }} of what is usual at this time of the week",
        description=(
            "The last four weeks had a third at most. See by source where they come from: a campaign, an import taken "
            "in twice, or a form found by robots."
        ),
        dashboard="trellis-business",
    )


def _cost(site: Site) -> Iterator[Rule]:
    now, usual, hour = "trellis:model_cost_usd:rate1h", "trellis:model_cost_usd:usual1h", HOUR / site.pace.divisor
    spent = total(site, "trellis_model_cost_usd_total", HOUR)
    yield Recording(now, f"({spent} or vector(0)) / {number(hour)}")
    yield Recording(usual, _usual(site, now))
    share = number(region_budget(site) / 720)
    yield Alert(
        name="CostUnusual",
        expr=f"{now} / ({usual} > 0) > {_MANY} and {now} * {number(hour)} > {share}",
        hold_s=900,
        severity=Severity.TICKET,
        team=Team.BUSINESS,
        summary="Models cost {{ $value | humanizePercentage }} of what this hour usually does",
        description=(
            "More than three times the same hour of the last four weeks, and more than an hour's part of the budget. "
            "See the spending by pack and the tokens of a call: traffic, longer prompts, or a cache that misses."
        ),
        dashboard="trellis-model",
    )
