"""Regions that are gone, missing, or send their users away."""

from collections.abc import Mapping

from tests.contract.alert_cases.app import says
from tests.support.alert_cases import Case, Kind, four

PROCESSES = 'trellis:api_processes:count{{region="{}",phase="multi-region"}}'
NOW = 'trellis:requests:rate5m{{region="{}",phase="multi-region"}}'
HOUR = 'trellis:requests:rate1h{{region="{}",phase="multi-region"}}'


def _serving(us: str, others: str = "10x60") -> Mapping[str, str]:
    return {PROCESSES.format("eu"): others, PROCESSES.format("us"): us, PROCESSES.format("ap"): others}


def _requests(us: str, others: str) -> Mapping[str, str]:
    now = {NOW.format("eu"): others, NOW.format("us"): us, NOW.format("ap"): others}
    return now | {HOUR.format(region): "10x60" for region in ("eu", "us", "ap")}


DOWN = says(
    "RegionDown",
    "platform",
    "trellis-regions",
    "Region us does not serve",
    "No API process of the region answers its Prometheus, or the region's Prometheus itself cannot be reached. "
    "See that the others carry its users, then find out whether the region or only the way to it is gone.",
    severity="page",
    region="us",
)
FEWER = says(
    "RegionsFewer",
    "platform",
    "trellis-regions",
    "2 regions serve; the phase has 3",
    "A region was never brought up, was forgotten by the global Prometheus, or is down. The others have its "
    "load on top of their own.",
)
NONE = says("RegionsFewer", "platform", "trellis-regions", "0 regions serve; the phase has 3", FEWER.description)
SHEDS = says(
    "RegionSheds",
    "platform",
    "trellis-regions",
    "Region us has 30% of the requests it had an hour ago",
    "All regions together have as many as before, so its users are being sent to the others. See whether "
    "somebody drains it, or health checks of the load balancer fail there.",
    region="us",
)

CASES = (
    *four(
        "RegionDown",
        DOWN,
        at="30m",
        fires=_serving("10x10 0x50"),
        under=_serving("10x10 1x50"),
        # Its Prometheus is gone with it: the series ends.
        total=_serving("10x10 stale"),
        idle=_serving("10x60"),
    ),
    Case("RegionsFewer", Kind.FIRES, _serving("10x5 0x60"), "30m", [FEWER]),
    Case("RegionsFewer", Kind.UNDER, _serving("10x5 0x10 10x60"), "30m"),
    Case("RegionsFewer", Kind.NO_TRAFFIC, {}, "30m", [NONE]),
    Case("RegionsFewer", Kind.TOTAL, _serving("0x60", "0x60"), "30m", [NONE]),
    Case("RegionSheds", Kind.FIRES, _requests("10x20 3x60", "10x20 14x60"), "40m", [SHEDS]),
    Case("RegionSheds", Kind.UNDER, _requests("10x20 6x60", "10x20 12x60"), "40m"),
    Case("RegionSheds", Kind.NO_TRAFFIC, _requests("0x60", "0x60"), "40m"),
    # All of them have fewer: that is not one that sheds, and AvailabilityBudgetBurn or RequestsFewer tell of it.
    Case("RegionSheds", Kind.TOTAL, _requests("10x20 1x60", "10x20 1x60"), "40m"),
)
