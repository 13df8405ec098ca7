"""Money: what models cost against what the phase may cost."""

from collections.abc import Sequence

from alerts.expressions import number, total
from alerts.model import Alert, Group, Severity, Site, Team
from alerts.targets import region_budget
from alerts.windows import DAY, HOUR

SPENT = "trellis_model_cost_usd_total"
_BOARD = "trellis-model"
# As fast as the error budget's first page: two hundredths of the month in an hour.
_FAST = 14.4
_LEAST_LEADS = 10


def cost(site: Site) -> Sequence[Group]:
    return (Group("cost", [_day(site), _hour(site), _lead(site)]),)


def _day(site: Site) -> Alert:
    return Alert(
        name="CostAboveBudget",
        expr=f"{total(site, SPENT, DAY)} > {number(region_budget(site) / 30)}",
        hold_s=600,
        severity=Severity.TICKET,
        team=Team.BUSINESS,
        summary='Models cost ${{ $value | printf "%.2f" }} in a day: a month of such days is over the budget',
        description=(
            "The calls of models alone cost more than a thirtieth of all that the phase may cost a month. See which "
            "pack and which provider, and whether a cache or a cheaper route fell out."
        ),
        dashboard=_BOARD,
    )


def _hour(site: Site) -> Alert:
    line = _FAST * region_budget(site) / 720
    return Alert(
        name="CostBurnsFast",
        expr=f"{total(site, SPENT, HOUR)} > {number(line)}",
        hold_s=300,
        severity=Severity.TICKET,
        team=Team.BUSINESS,
        summary='Models cost ${{ $value | printf "%.2f" }} in an hour: at this rate the month is spent in 50 hours',
        description=(
            "One tenant, a loop of agents or a batch that nobody announced. See the spending by pack; a tenant's "
            "budget or the kill switch stops it."
        ),
        dashboard=_BOARD,
    )


def _lead(site: Site) -> Alert:
    decided = total(site, 'trellis_decisions_total{pack="leads"}', DAY)
    spent = total(site, 'trellis_run_cost_usd_total{pack="leads"}', DAY)
    line = region_budget(site) / site.phase.load.leads_per_month
    return Alert(
        name="CostPerLeadHigh",
        expr=f"{spent} / ({decided} > {number(_LEAST_LEADS - 0.5)}) > {number(line)}",
        hold_s=600,
        severity=Severity.TICKET,
        team=Team.BUSINESS,
        summary='A lead costs ${{ $value | printf "%.2f" }}, more than the phase can pay for each',
        description=(
            "At its full load the phase's whole budget, divided by its leads, is less. See the turns of a run and the "
            "tokens of a call, and the share of answers from caches."
        ),
        dashboard="trellis-business",
    )
