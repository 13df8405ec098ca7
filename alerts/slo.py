"""The phase's SLOs: what counts as good, how fast their budgets burn, and what is left of them.

Every SLI is recorded as two rates (events, bad events) and their ratio, for each window. Docs: decisions/0039.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from alerts.expressions import bucket, number, total
from alerts.model import Alert, Group, Pace, Recording, Rule, Severity, Site, Team
from alerts.windows import BASE_S, BUDGET_S, BURNS, DAY, DIRECT_S, HOUR, MINUTE, TICKETS, WINDOWS, Burn

SERVED: Final = 'route=~"/v1/.+|/chat|/embed_and_store|/mcp.*"'
"""Routes that users and other agents call; probes, the console and unknown paths are nobody's answers."""
REQUESTS: Final = "trellis_http_requests_total"
ANSWERS: Final = "trellis_time_to_answer_seconds"
OWN_SHARE: Final = "trellis_own_share_seconds"
_P99: Final = 0.01
_SLOW_INTERVAL_S: Final = 120
SPENT_LEAST: Final = 10
_EVALUATED: Final = "trellis:evaluated:timestamp_seconds"
_WORDS: Final = {HOUR: "the last hour", 6 * HOUR: "the last 6 hours", DAY: "the last day", 3 * DAY: "the last 3 days"}

Count = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Sli:
    """One indicator. `events` and `bad` give an expression for how many there were in a window of seconds.

    `whole` and `part` name the recorded series of both: `trellis:<part>:ratio_rate1h`.
    """

    whole: str
    part: str
    events: Count
    bad: Count

    def rate(self, window_s: float) -> str:
        return f"trellis:{self.part}:rate{name_of(window_s)}"

    def ratio(self, window_s: float) -> str:
        return f"trellis:{self.part}:ratio_rate{name_of(window_s)}"

    def enough(self, window_s: float, least: int, pace: Pace) -> str:
        """True where at least so many bad events were in the window; rates hold fractions of an event."""
        return f"{self.rate(window_s)} * {_seconds(window_s, pace)} > {number(least - 0.5)}"


@dataclass(frozen=True, slots=True)
class Objective:
    """An SLI with a promise: `share` of events may be bad in 30 days. `what` they are, for people."""

    sli: Sli
    share: float
    alert: str
    what: str
    first: str
    team: Team
    dashboard: str
    burns: Sequence[Burn] = BURNS


def clock(_site: Site) -> Sequence[Group]:
    """Since when rules are evaluated: how much of a long window was measured at all."""
    return (Group("clock", [Recording(_EVALUATED, "vector(time())")]),)


def availabilities(site: Site) -> Sequence[Group]:
    return _groups(site, availability(site))


def latencies(site: Site) -> Sequence[Group]:
    """The p99 where the phase promises one, and the median; both count the same answers."""
    promised = site.phase.targets.answer_p99_s
    if promised is None:
        return (Group("latency", list(_typical(site, whole=True))),)
    fast, slow = _groups(site, _latency(site, promised))
    return (Group(fast.name, [*fast.rules, *_typical(site, whole=False)]), slow)


def own_shares(site: Site) -> Sequence[Group]:
    return _groups(site, _own_share(site))


def _groups(site: Site, objective: Objective) -> tuple[Group, Group]:
    name = _snake(objective.alert)
    fast = [*_recorded(site, objective.sli, [w for w in WINDOWS if w < BUDGET_S]), *burning(site, objective)]
    slow = [*_recorded(site, objective.sli, [BUDGET_S]), *spent(site, objective)]
    return Group(name, fast), Group(f"{name}_budget", slow, interval_s=_SLOW_INTERVAL_S)


def availability(site: Site) -> Objective:
    served = f"{REQUESTS}{{{SERVED}}}"
    failed = f'{REQUESTS}{{{SERVED}, status_class="5xx"}}'
    sli = Sli("requests", "availability_errors", _count(site, served), _count(site, failed))
    return Objective(
        sli,
        site.phase.targets.failed_share,
        alert="Availability",
        what="requests failed",
        first="See which route and which part behind it fails, and whether a release or a fault came just before.",
        team=Team.API,
        dashboard="trellis-slo",
    )


def _latency(site: Site, promised_s: float) -> Objective:
    return Objective(
        _slower(site, ANSWERS, promised_s, "answers", "latency_slow"),
        _P99,
        alert="Latency",
        what="answers were slower than the p99 target",
        first="See where the time goes: the model, retrieval, the database, or waiting for one of them.",
        team=Team.API,
        dashboard="trellis-slo",
    )


def _own_share(site: Site) -> Objective:
    return Objective(
        _slower(site, OWN_SHARE, site.phase.targets.own_share_p99_s, "decisions", "own_share_slow"),
        _P99,
        alert="OwnShare",
        what="decisions took longer than promised without their model calls",
        first="The model is not the cause: see retrieval, the database, the event loop and the size of what is read.",
        team=Team.API,
        dashboard="trellis-agent",
        burns=TICKETS,
    )


def _count(site: Site, series: str) -> Count:
    return lambda window_s: total(site, series, window_s)


def _slower(site: Site, histogram: str, edge_s: float, whole: str, part: str) -> Sli:
    """Events of a histogram that took longer than one of its edges."""
    within = bucket(histogram, edge_s)

    def slower(window_s: float) -> str:
        events, quick = total(site, f"{histogram}_count", window_s), total(site, within, window_s)
        return f"clamp_min({events} - {quick}, 0)"

    return Sli(whole, part, _count(site, f"{histogram}_count"), slower)


def _recorded(site: Site, sli: Sli, windows: Sequence[float], *, whole: bool = True) -> Iterator[Rule]:
    """The rates of events and of bad ones, and their ratio. Without `whole`, another SLI records the events."""
    for window_s in windows:
        events, bad = f"trellis:{sli.whole}:rate{name_of(window_s)}", sli.rate(window_s)
        if whole:
            yield Recording(events, _rate(site, sli.events, f"trellis:{sli.whole}:rate{name_of(BASE_S)}", window_s))
        yield Recording(bad, _rate(site, sli.bad, sli.rate(BASE_S), window_s))
        yield Recording(sli.ratio(window_s), f"{bad} / ({events} > 0)")


def _rate(site: Site, count: Count, base: str, window_s: float) -> str:
    """Events a second; 0, not absent, where there are none."""
    if window_s <= DIRECT_S:
        return f"({count(window_s)} or vector(0)) / {_seconds(window_s, site.pace)}"
    # The mean is over the part of the window that was measured at all: a service that is an hour old has no 3 days.
    window = site.pace(window_s)
    measured = f"(time() - min_over_time({_EVALUATED}[{window}]))"
    return f"avg_over_time({base}[{window}]) * {measured} / {_seconds(window_s, site.pace)}"


def burning(site: Site, objective: Objective) -> Iterator[Rule]:
    for burn in objective.burns:
        yield _burn(site, objective, burn)


def _burn(site: Site, objective: Objective, burn: Burn) -> Alert:
    sli, line = objective.sli, number(burn.factor * objective.share)
    return Alert(
        name=f"{objective.alert}BudgetBurn",
        expr=(
            f"{sli.ratio(burn.long_s)} > {line} and {sli.ratio(burn.short_s)} > {line} "
            f"and {sli.enough(burn.long_s, burn.least, site.pace)}"
        ),
        hold_s=burn.hold_s,
        severity=burn.severity,
        team=objective.team,
        summary=f"{{{{ $value | humanizePercentage }}}} of {_in(objective.what, burn.long_s)}",
        description=(
            f"The budget of 30 days burns at {burn.factor:g} times the rate it can bear or faster: at {burn.factor:g} "
            f"times all of it is gone in {_days(burn.lasts_s)}. {objective.first}"
        ),
        dashboard=objective.dashboard,
        labels={"window": name_of(burn.long_s)},
    )


def spent(site: Site, objective: Objective) -> Iterator[Rule]:
    """What is left for 30 days, and a ticket when nothing is: failures that trickle in pass under every burn rate."""
    sli, left = objective.sli, f"trellis:{_snake(objective.alert)}_budget_left:ratio"
    yield Recording(left, f"1 - ({sli.ratio(BUDGET_S)} or vector(0)) / {number(objective.share)}")
    yield Alert(
        name=f"{objective.alert}BudgetSpent",
        expr=f"{left} < 0 and {sli.enough(BUDGET_S, SPENT_LEAST, site.pace)}",
        hold_s=900,
        severity=Severity.TICKET,
        team=objective.team,
        summary=f"More {objective.what} in 30 days than the phase allows",
        description=(
            "The error budget of the last 30 days is spent ({{ $value | humanizePercentage }} left). "
            f"Put reliability before features until it is positive again. {objective.first}"
        ),
        dashboard=objective.dashboard,
    )


_TYPICAL: Final = ((HOUR, 5 * MINUTE, 20), (DAY, HOUR, 10))


def _typical(site: Site, *, whole: bool) -> Iterator[Rule]:
    """The median's promise as a share: it is broken where more than half of the answers are slower.

    Half of them may be, so the budget of such an objective burns at 2 at most, and no burn rate above it can fire.
    """
    sli = _slower(site, ANSWERS, site.phase.targets.answer_p50_s, "answers", "latency_slower_than_p50")
    yield from _recorded(site, sli, (5 * MINUTE, 30 * MINUTE, HOUR, DAY), whole=whole)
    yield from (_typical_alert(site, sli, *pair) for pair in _TYPICAL)


def _typical_alert(site: Site, sli: Sli, long_s: int, short_s: int, least: int) -> Alert:
    answers = f"trellis:{sli.whole}:rate{name_of(long_s)} * {_seconds(long_s, site.pace)}"
    return Alert(
        name="TypicalAnswerSlow",
        expr=(f"{sli.ratio(long_s)} > 0.5 and {sli.ratio(short_s)} > 0.5 and {answers} > {number(least - 0.5)}"),
        hold_s=300,
        severity=Severity.TICKET,
        team=Team.API,
        summary=f"{{{{ $value | humanizePercentage }}}} of {_in('answers were slower than the p50 target', long_s)}",
        description=(
            "More than half of the answers miss the time that the typical answer is promised in. See whether the "
            "model, retrieval or the caches became slower."
        ),
        dashboard="trellis-slo",
        labels={"window": name_of(long_s)},
    )


def name_of(seconds: float) -> str:
    """The nominal window in names, whatever the pace."""
    return {BUDGET_S: "30d"}.get(int(seconds)) or Pace()(seconds)


def _seconds(seconds: float, pace: Pace) -> str:
    return number(seconds / pace.divisor)


def _in(what: str, window_s: int) -> str:
    return f"{what} in {_WORDS[window_s]}"


def _days(seconds: float) -> str:
    hours = seconds / HOUR
    return f"{hours / 24:.0f} days" if hours >= 72 else f"{hours:.0f} hours"


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
