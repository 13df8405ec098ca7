"""What the phase promises, as series: dashboards draw their lines from them."""

from collections.abc import Sequence

from alerts.expressions import number
from alerts.model import Group, Recording, Site


def targets(site: Site) -> Sequence[Group]:
    phase = site.phase
    promised: dict[str, float | None] = {
        "answer_p50_seconds": phase.targets.answer_p50_s,
        "answer_p99_seconds": phase.targets.answer_p99_s,
        "own_share_p99_seconds": phase.targets.own_share_p99_s,
        "failed_share": phase.targets.failed_share,
        "budget_usd_month": region_budget(site),
        "leads_month": phase.load.leads_per_month,
        "conversations": phase.load.concurrent_conversations,
        "documents": phase.load.documents,
    }
    rules = [_target(name, value) for name, value in promised.items() if value is not None]
    return (Group("targets", rules),)


def region_budget(site: Site) -> float:
    """What one region may cost a month, in US dollars: each Prometheus sees the spending of its own."""
    return site.phase.budget_usd_month / len(site.phase.fleet.regions)


def _target(name: str, value: float) -> Recording:
    return Recording(f"trellis:target:{name}", f"vector({number(value)})")
