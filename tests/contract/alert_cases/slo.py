"""Budgets that burn: constant shares of failures and of slow answers against every pair of windows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.alert_cases import Case, Fired, Kind

# Window, severity, and what the description says of it.
WINDOWS = (
    (
        "1h",
        "page",
        "in the last hour",
        "14.4 times the rate it can bear or faster: at 14.4 times all of it is gone in 50 hours.",
    ),
    (
        "6h",
        "page",
        "in the last 6 hours",
        "6 times the rate it can bear or faster: at 6 times all of it is gone in 5 days.",
    ),
    (
        "1d",
        "ticket",
        "in the last day",
        "3 times the rate it can bear or faster: at 3 times all of it is gone in 10 days.",
    ),
    (
        "3d",
        "ticket",
        "in the last 3 days",
        "1 times the rate it can bear or faster: at 1 times all of it is gone in 30 days.",
    ),
)
# A window that is longer than there are samples is taken over what there is.
AT = {"1h": "1h30m", "6h": "7h", "1d": "8h", "3d": "9h"}
# By the share that may be bad: what is a little over the line of each window, and a little under it, in percent.
OVER = {1.0: (15, 7, 3.5, 1.2), 0.5: (7.5, 3.5, 1.75, 0.6), 0.1: (1.5, 0.7, 0.35, 0.12)}
UNDER = {1.0: (14, 5.5, 2.8, 0.9), 0.5: (7, 2.75, 1.4, 0.45), 0.1: (1.4, 0.55, 0.28, 0.09)}

Series = Callable[[float, float], Mapping[str, str]]


@dataclass(frozen=True)
class Promise:
    """An SLO of some phases. `series`: good and bad events a minute, as promtool's series."""

    alert: str
    sets: Sequence[str]
    percent: float
    what: str
    first: str
    dashboard: str
    series: Series
    windows: Sequence[tuple[str, str, str, str]] = WINDOWS

    def fired(self, window: tuple[str, str, str, str], value: str) -> Fired:
        name, severity, when, pace = window
        return Fired(
            labels={"severity": severity, "team": "api", "window": name},
            summary=f"{value} of {self.what} {when}",
            description=f"The budget of 30 days burns at {pace} {self.first}",
            runbook_url=f"https://git.trellis.example/trellis/runbooks/alerts/{self.alert}BudgetBurn.md",
            dashboard_url=f"https://grafana.trellis.example/d/{self.dashboard}",
        )

    def constant(self, percent: float) -> Mapping[str, str]:
        return self.series(100 - percent, percent)


def requests(good: float, bad: float) -> Mapping[str, str]:
    series = 'trellis_http_requests_total{{job="trellis-api",method="POST",route="/v1/chat",status_class="{}"}}'
    probes = 'trellis_http_requests_total{job="trellis-api",method="GET",route="/readyz",status_class="5xx"}'
    return {series.format("2xx"): f"0+{good}x4600", series.format("5xx"): f"0+{bad}x4600", probes: "0+50x4600"}


def histogram(name: str, edge: str) -> Series:
    def series(good: float, bad: float) -> Mapping[str, str]:
        labels = 'job="trellis-api",instance="a:1",pack="chat"'
        return {
            f"{name}_count{{{labels}}}": f"0+{good + bad}x4600",
            f'{name}_bucket{{{labels},le="{edge}"}}': f"0+{good}x4600",
            f'{name}_bucket{{{labels},le="+Inf"}}': f"0+{good + bad}x4600",
        }

    return series


def everywhere(good: float, bad: float) -> Mapping[str, str]:
    """What three regions record, as the Prometheus above them has it: all failures are in the last."""
    found = {}
    for window in ("5m", "30m", "1h", "2h", "6h", "1d", "3d", "30d"):
        for region, failed in (("eu", 0.0), ("us", 0.0), ("ap", bad)):
            found[f'trellis:requests:rate{window}{{region="{region}"}}'] = f"{(good + bad) / 3}x4600"
            found[f'trellis:availability_errors:rate{window}{{region="{region}"}}'] = f"{failed}x4600"
    return found


_ROUTE = "See which route and which part behind it fails, and whether a release or a fault came just before."
_TIME = "See where the time goes: the model, retrieval, the database, or waiting for one of them."
_OWN = "The model is not the cause: see retrieval, the database, the event loop and the size of what is read."
_SLOW = "answers were slower than the p99 target"
_LONG = "decisions took longer than promised without their model calls"
_ANSWERS, _SHARES = "trellis_time_to_answer_seconds", "trellis_own_share_seconds"
EVERYWHERE = ("poc", "small", "medium", "multi-region")
PROMISES = (
    Promise("Availability", ("poc", "small"), 1.0, "requests failed", _ROUTE, "trellis-slo", requests),
    Promise("Availability", ("medium",), 0.5, "requests failed", _ROUTE, "trellis-slo", requests),
    Promise("Availability", ("multi-region",), 0.1, "requests failed", _ROUTE, "trellis-slo", requests),
    Promise("Latency", ("small",), 1.0, _SLOW, _TIME, "trellis-slo", histogram(_ANSWERS, "3.0")),
    Promise("Latency", ("medium",), 1.0, _SLOW, _TIME, "trellis-slo", histogram(_ANSWERS, "2.0")),
    Promise("Latency", ("multi-region",), 1.0, _SLOW, _TIME, "trellis-slo", histogram(_ANSWERS, "1.0")),
    Promise("OwnShare", EVERYWHERE, 1.0, _LONG, _OWN, "trellis-agent", histogram(_SHARES, "0.1"), WINDOWS[2:]),
)

TOGETHER = Promise(
    "GlobalAvailability",
    ("multi-region-global",),
    0.1,
    "requests failed in all regions together",
    _ROUTE,
    "trellis-regions",
    everywhere,
)


def _burning(promise: Promise) -> Iterator[Case]:
    """A share that is over one line is over all lower ones: every window from that one on fires."""
    skipped = len(WINDOWS) - len(promise.windows)
    common: dict[str, Any] = {"alert": f"{promise.alert}BudgetBurn", "sets": promise.sets, "every": "10m"}
    for place, window in enumerate(promise.windows):
        asked = {**common, "only": {"window": window[0]}, "at": AT[window[0]]}
        over, under = OVER[promise.percent][place + skipped], UNDER[promise.percent][place + skipped]
        fired = [promise.fired(each, f"{over}%") for each in promise.windows[place:]]
        lower = [promise.fired(each, f"{under}%") for each in promise.windows[place + 1 :]]
        yield Case(kind=Kind.FIRES, series=promise.constant(over), fired=fired, **asked)
        yield Case(kind=Kind.UNDER, series=promise.constant(under), fired=lower, **asked)
    total = [promise.fired(each, "100%") for each in promise.windows]
    yield Case(kind=Kind.NO_TRAFFIC, series=promise.series(0, 0), at="9h", **common)
    yield Case(kind=Kind.TOTAL, series=promise.series(0, 100), at="3h", fired=total, **common)


def _few(promise: Promise) -> Case:
    """All of four requests fail: a share of 100 %, and nobody is told."""
    series = {name: values.replace("x4600", "x4 4x90") for name, values in promise.series(0, 1).items()}
    return Case(f"{promise.alert}BudgetBurn", Kind.UNDER, series, "1h", sets=promise.sets)


def _over() -> Case:
    """Two days and a half of failures that ended seven hours ago: the long window is full of them, the short is not."""
    series = {name: "0+100x4600" if '"2xx"' in name else "0+10x3600 36000+0x1000" for name in requests(1, 1)}
    return Case("AvailabilityBudgetBurn", Kind.UNDER, series, "67h", sets=["small"], every="10m")


def _spent(promise: Promise) -> Iterator[Case]:
    asked: dict[str, Any] = {
        "alert": f"{promise.alert}BudgetSpent",
        "sets": promise.sets,
        "at": "3h",
        "every": "5m",
    }
    for kind, bad, left in ((Kind.FIRES, 1.1, "-10%"), (Kind.TOTAL, 100 / promise.percent, "")):
        share = promise.percent * bad
        yield Case(
            kind=kind,
            series=promise.constant(share),
            fired=[_overspent(promise, left or LOST[promise.percent])],
            **asked,
        )
    yield Case(kind=Kind.UNDER, series=promise.constant(promise.percent * 0.95), **asked)
    yield Case(kind=Kind.NO_TRAFFIC, series=promise.series(0, 0), **asked)


LOST = {1.0: "-9900%", 0.5: "-1.99e+04%", 0.1: "-9.99e+04%"}


def _overspent(promise: Promise, left: str) -> Fired:
    return Fired(
        labels={"severity": "ticket", "team": "api"},
        summary=f"More {promise.what} in 30 days than the phase allows",
        description=(
            f"The error budget of the last 30 days is spent ({left} left). "
            f"Put reliability before features until it is positive again. {promise.first}"
        ),
        runbook_url=f"https://git.trellis.example/trellis/runbooks/alerts/{promise.alert}BudgetSpent.md",
        dashboard_url=f"https://grafana.trellis.example/d/{promise.dashboard}",
    )


def _typical(name: str, edge: str) -> Iterator[Case]:
    series = histogram(_ANSWERS, edge)
    hour, day = (_slower(window, "60%") for window in ("1h", "1d"))
    both = [_slower(window, "100%") for window in ("1h", "1d")]
    for only, at, fires, fired in (
        ("1h", "1h30m", series(40, 60), [hour, day]),
        # 12 answers an hour are too few for the first pair of windows, and enough in a day.
        ("1d", "3h", series(0.08, 0.12), [day]),
    ):
        asked: dict[str, Any] = {"alert": "TypicalAnswerSlow", "only": {"window": only}, "sets": [name], "every": "5m"}
        yield Case(kind=Kind.FIRES, series=fires, at=at, fired=fired, **asked)
        yield Case(kind=Kind.UNDER, series=series(52, 48), at=at, **asked)
        yield Case(kind=Kind.NO_TRAFFIC, series=series(0, 0), at=at, **asked)
        yield Case(kind=Kind.TOTAL, series=series(0, 100), at=at, fired=both, **asked)


def _slower(window: str, value: str) -> Fired:
    when = {"1h": "in the last hour", "1d": "in the last day"}[window]
    return Fired(
        labels={"severity": "ticket", "team": "api", "window": window},
        summary=f"{value} of answers were slower than the p50 target {when}",
        description=(
            "More than half of the answers miss the time that the typical answer is promised in. See whether the "
            "model, retrieval or the caches became slower."
        ),
        runbook_url="https://git.trellis.example/trellis/runbooks/alerts/TypicalAnswerSlow.md",
        dashboard_url="https://grafana.trellis.example/d/trellis-slo",
    )


CASES = (
    _over(),
    *(case for promise in PROMISES for case in (*_burning(promise), _few(promise), *_spent(promise))),
    *_burning(TOGETHER),
    *_spent(TOGETHER),
    *(
        case
        for name, edge in (("poc", "3.0"), ("small", "1.0"), ("medium", "0.5"), ("multi-region", "0.3"))
        for case in _typical(name, edge)
    ),
)
