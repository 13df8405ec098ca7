"""Do the model's judgements still look as they did? Distributions against those of the weeks before.

The distance is Kolmogorov and Smirnov's: the largest difference between two cumulative distributions, which is what
a histogram's buckets are. With 100 values against many, chance alone passes 0.195 once in 1,000
(1.95 * sqrt(1/n + 1/m)).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from alerts.expressions import number
from alerts.model import Alert, Group, Recording, Rule, Severity, Site, Team
from alerts.windows import DAY, HOUR

_WEEK: Final = 7 * DAY
_USUAL_S: Final = 28 * DAY
_LINE: Final = 0.2
_LEAST: Final = 100


@dataclass(frozen=True, slots=True)
class Spread:
    """A histogram whose shape is watched; `by` are labels that have a shape each."""

    name: str
    alert: str
    what: str
    first: str
    by: tuple[str, ...] = ()


_SPREADS: Final = (
    Spread(
        "decision_confidence",
        "DecisionConfidenceDrift",
        "How sure decisions of {{ $labels.pack }} are",
        "A model or a prompt changed, or other leads come in.",
        by=("pack",),
    ),
    Spread(
        "lead_score", "LeadScoreDrift", "The scores of leads", "Another source of leads, or another model or prompt."
    ),
    Spread(
        "retrieval_score",
        "RetrievalScoreDrift",
        "How well documents fit questions",
        "Documents or the embedder changed, or users ask about something new.",
    ),
)


def drift(site: Site) -> Sequence[Group]:
    return (Group("drift", [rule for spread in _SPREADS for rule in _watched(site, spread)], interval_s=120),)


def recent_s(site: Site) -> int:
    """A day where the phase has leads enough for one in it, else a week."""
    return DAY if site.phase.load.leads_per_month / 30 >= _LEAST else _WEEK


def _watched(site: Site, spread: Spread) -> Iterator[Rule]:
    rate, recent, usual = (f"trellis:{spread.name}_bucket:{kind}" for kind in ("rate1h", "recent", "usual"))
    window, weeks, labels = site.pace(recent_s(site)), site.pace(_USUAL_S), ", ".join((*spread.by, "le"))
    buckets = f"trellis_{spread.name}_bucket[{site.pace(HOUR)}]"
    yield Recording(rate, f"sum by ({labels}) (rate({buckets}))")
    yield Recording(recent, f"avg_over_time({rate}[{window}])")
    yield Recording(usual, f"avg_over_time({rate}[{weeks}] offset {window})")
    by, on = f"by ({', '.join(spread.by)})", f"on ({', '.join(spread.by)}) group_left ()"
    shares = (f'{kind} / {on} ({kind}{{le="+Inf"}} > 0)' for kind in (recent, usual))
    yield Recording(f"trellis:{spread.name}:drift", f"max {by} (abs({' - '.join(shares)}))")
    yield _drifted(site, spread)


def _drifted(site: Site, spread: Spread) -> Alert:
    counts, window_s = f"trellis_{spread.name}_count", recent_s(site)
    by = f"by ({', '.join(spread.by)})"
    recent = f"sum {by} (increase({counts}[{site.pace(window_s)}]))"
    # Before there is a week to compare with, nothing is usual.
    known = f'trellis:{spread.name}_bucket:rate1h{{le="+Inf"}}[{site.pace(DAY)}] offset {site.pace(window_s + _WEEK)}'
    return Alert(
        name=spread.alert,
        expr=(
            f"trellis:{spread.name}:drift > {number(_LINE)} and {recent} > {number(_LEAST - 0.5)} "
            f"and sum {by} (last_over_time({known})) >= 0"
        ),
        hold_s=3600,
        severity=Severity.TICKET,
        team=Team.BUSINESS,
        summary=f"{spread.what} differs from the last weeks by {{{{ $value | humanizePercentage }}}}",
        description=(
            "That share of the values lies on another side of a line than it did in the four weeks before. "
            f"{spread.first} See a release or a new prompt version at the time when it began."
        ),
        dashboard="trellis-business",
    )
