"""What each region records for the one above, beside its SLOs: the Prometheus of all regions takes only `trellis:*`."""

from collections.abc import Sequence
from typing import Final

from alerts.model import Group, Recording, Site
from alerts.windows import HOUR, MINUTE

_HPA: Final = "kube_horizontalpodautoscaler"


def overview(site: Site) -> Sequence[Group]:
    """Nothing where the phase has one region: its own boards show the rest."""
    if len(site.phase.fleet.regions) < 2:
        return ()
    short, hour = site.pace(5 * MINUTE), site.pace(HOUR)
    reads = f"sum(rate(trellis_database_reads_total[{short}]))"
    near = f'sum(rate(trellis_database_reads_total{{where="replica"}}[{short}]))'
    per_hour = HOUR / site.pace.divisor
    return (
        Group(
            "overview",
            [
                Recording("trellis:up:ratio", "avg by (job) (up)"),
                Recording(
                    "trellis:model_cost_usd_per_hour:rate1h",
                    f"sum(rate(trellis_model_cost_usd_total[{hour}])) * {per_hour:g}",
                ),
                Recording("trellis:requests_in_flight:sum", "sum(trellis_http_in_flight)"),
                Recording(
                    "trellis:autoscaler_used:ratio",
                    f"max({_HPA}_status_current_replicas / {_HPA}_spec_max_replicas)",
                ),
                Recording("trellis:breakers_open:count", "count(trellis_breaker_state == 2) or vector(0)"),
                Recording("trellis:reads_near:ratio_rate5m", f"{near} / ({reads} > 0)"),
                Recording("trellis:replica_lag_seconds:max", "max(pg_replication_lag_seconds)"),
                Recording(
                    "trellis:region_lag_seconds:max", "max by (aws_region) (pg_aurora_global_durability_lag_seconds)"
                ),
            ],
        ),
    )
