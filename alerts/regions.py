"""What only the Prometheus above all regions can see. It federates `trellis:*` of each, with the label `region`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from alerts.expressions import number
from alerts.model import Alert, Group, Recording, Rule, Severity, Site, Team
from alerts.slo import Sli, availability, burning, name_of, spent
from alerts.windows import WINDOWS

PROCESSES = "trellis:api_processes:count"
_SHARE = "availability_errors"


def serving(_site: Site) -> Sequence[Group]:
    """In each region: how many API processes answer, so that the one above can tell an idle region from a dead one."""
    return (Group("serving", [Recording(PROCESSES, 'count(up{job="trellis-api"} == 1) or vector(0)')]),)


def regions(site: Site) -> Sequence[Group]:
    """Evaluated above the regions, where the phase has several."""
    if len(site.phase.fleet.regions) < 2:
        return ()
    return (
        Group("global_availability", [*_together(), *_promised(site)]),
        Group("regions", [_down(site), _fewer(site), _sheds(site)]),
    )


def _together() -> Iterator[Rule]:
    for window_s in WINDOWS:
        window = name_of(window_s)
        for kind in ("requests", _SHARE):
            yield Recording(f"trellis:global_{kind}:rate{window}", f"sum(trellis:{kind}:rate{window})")
        bad, events = f"trellis:global_{_SHARE}:rate{window}", f"trellis:global_requests:rate{window}"
        yield Recording(f"trellis:global_{_SHARE}:ratio_rate{window}", f"{bad} / ({events} > 0)")


def _promised(site: Site) -> Iterator[Rule]:
    """The same promise as each region's, kept by all of them together."""
    own = availability(site)
    sli = Sli("global_requests", f"global_{_SHARE}", own.sli.events, own.sli.bad)
    objective = replace(
        own,
        sli=sli,
        alert="GlobalAvailability",
        what="requests failed in all regions together",
        dashboard="trellis-regions",
    )
    yield from burning(site, objective)
    yield from spent(site, objective)


def _down(site: Site) -> Alert:
    known = f"count by (region) (last_over_time({PROCESSES}[{site.pace(7 * 86_400)}]))"
    return Alert(
        name="RegionDown",
        expr=f"(sum by (region) ({PROCESSES}) == 0) or ({known} unless on (region) {PROCESSES})",
        hold_s=120,
        severity=Severity.PAGE,
        team=Team.PLATFORM,
        summary="Region {{ $labels.region }} does not serve",
        description=(
            "No API process of the region answers its Prometheus, or the region's Prometheus itself cannot be reached. "
            "See that the others carry its users, then find out whether the region or only the way to it is gone."
        ),
        dashboard="trellis-regions",
    )


def _fewer(site: Site) -> Alert:
    wanted = len(site.phase.fleet.regions)
    return Alert(
        name="RegionsFewer",
        expr=f"(count({PROCESSES} > 0) or vector(0)) < {wanted}",
        hold_s=900,
        severity=Severity.TICKET,
        team=Team.PLATFORM,
        summary="{{ $value }} regions serve; the phase has " + str(wanted),
        description=(
            "A region was never brought up, was forgotten by the global Prometheus, or is down. The others have its "
            "load on top of their own."
        ),
        dashboard="trellis-regions",
    )


def _sheds(site: Site) -> Alert:
    now = "sum by (region) (trellis:requests:rate5m)"
    before = f"sum by (region) (trellis:requests:rate1h offset {site.pace(600)})"
    together = f"sum({now}) > 0.8 * sum({before})"
    return Alert(
        name="RegionSheds",
        expr=f"{now} / ({before} > {number(site.pace.divisor * 0.1)}) < 0.5 and on () {together}",
        hold_s=300,
        severity=Severity.TICKET,
        team=Team.PLATFORM,
        summary="Region {{ $labels.region }} has {{ $value | humanizePercentage }} of the requests it had an hour ago",
        description=(
            "All regions together have as many as before, so its users are being sent to the others. See whether "
            "somebody drains it, or health checks of the load balancer fail there."
        ),
        dashboard="trellis-regions",
    )
