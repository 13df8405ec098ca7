"""The four cases of an alert whose labels are the same whether a little or all is wrong."""

from collections.abc import Collection, Iterator, Mapping

from tests.support.alert_cases import Case, Fired, Kind

_RUNBOOKS = "https://git.trellis.example/trellis/runbooks/alerts"
_DASHBOARDS = "https://grafana.trellis.example/d"


def quartet(
    alert: str,
    labels: Mapping[str, str],
    *,
    summary: str,
    description: str,
    dashboard: str,
    at: str,
    fires: Mapping[str, str],
    under: Mapping[str, str],
    total: Mapping[str, str],
    total_summary: str = "",
    sets: Collection[str] = (),
) -> Iterator[Case]:
    """Fires, silent under the line, silent without any series, fires at total failure.

    Args:
        labels: of the alert as it is sent, without alertname and phase.
        total_summary: where it differs from `summary`; the labels are the same.
    """

    def fired(says: str) -> list[Fired]:
        return [Fired(labels, says, description, f"{_RUNBOOKS}/{alert}.md", f"{_DASHBOARDS}/{dashboard}")]

    yield Case(alert, Kind.FIRES, series=fires, at=at, fired=fired(summary), sets=sets)
    yield Case(alert, Kind.UNDER, series=under, at=at, sets=sets)
    yield Case(alert, Kind.NO_TRAFFIC, series={}, at=at, sets=sets)
    yield Case(alert, Kind.TOTAL, series=total, at=at, fired=fired(total_summary or summary), sets=sets)
