"""Pieces of PromQL that rules are made of."""

from collections.abc import Sequence

from alerts.model import Site

_LOOKBACK_S = 900


def counted(site: Site, series: str, window_s: float) -> str:
    """How far each counter rose within a window, its first value included; a selector without a range goes in.

    `increase` never sees the first value of a series: the failure that brings its label to life would not count, and
    in a quiet phase that is most of them. What has a value now and had none before the window is taken whole.
    """
    window, lookback = site.pace(window_s), site.pace(_LOOKBACK_S)
    return f"(({series} unless last_over_time({series}[{lookback}] offset {window})) or increase({series}[{window}]))"


def total(site: Site, series: str, window_s: float, *labels: str) -> str:
    """The sum of `counted`, by the labels that are named."""
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"sum{by}({counted(site, series, window_s)})"


def too_many(
    site: Site, counters: str, bad: str, window_s: float, *, line: float, least: int, by: Sequence[str] = ()
) -> str:
    """More than `line` of what a counter counts is bad (a matcher of its label), and at least so many are."""
    part = total(site, f"{counters}{{{bad}}}", window_s, *by)
    return above(part, total(site, counters, window_s, *by), line, least)


def too_slow(
    site: Site,
    histogram: str,
    edge_s: float,
    window_s: float,
    *,
    line: float,
    least: int,
    by: Sequence[str] = (),
    among: Sequence[str] = (),
) -> str:
    """More than `line` of a histogram's events are over one of its edges, and at least so many are."""
    matchers = f"{{{', '.join(among)}}}" if among else ""
    events = total(site, f"{histogram}_count{matchers}", window_s, *by)
    quick = total(site, bucket(histogram, edge_s, among), window_s, *by)
    return above(f"({events} - {quick})", events, line, least)


def above(part: str, whole: str, line: float, least: int) -> str:
    """A share over a line, with so many events at least; rates hold fractions of an event."""
    return f"{part} / ({whole} > 0) > {number(line)} and {part} > {number(least - 0.5)}"


def bucket(metric: str, edge: float, matchers: Sequence[str] = ()) -> str:
    """The bucket of a histogram up to an edge, which is written `2.0` by clients in Python and `2` by others."""
    whole = f"{edge:g}".replace(".", "\\\\.")
    edges = f'le="{edge}"' if edge % 1 else f'le=~"{whole}(\\\\.0)?"'
    return f"{metric}_bucket{{{', '.join((*matchers, edges))}}}"


def number(value: float) -> str:
    """A number as PromQL reads it, without the noise of binary fractions: 0.144."""
    return f"{value:.10g}"
