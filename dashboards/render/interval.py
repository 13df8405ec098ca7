"""Durations, and the steps that Grafana computes from a range and a panel's width."""

import re
from collections.abc import Callable, Mapping
from typing import Final

_SIZES: Final[Mapping[str, float]] = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "y": 31_536_000.0,
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdwy])")
# Below each first figure, the second (milliseconds): Grafana's `roundInterval`.
_ROUNDED: Final = (
    *((15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500), (1500, 1000), (3500, 2000), (7500, 5000)),
    *((12_500, 10_000), (17_500, 15_000), (25_000, 20_000), (45_000, 30_000), (90_000, 60_000), (210_000, 120_000)),
    *((450_000, 300_000), (750_000, 600_000), (1_050_000, 900_000), (1_500_000, 1_200_000), (2_700_000, 1_800_000)),
    *((5_400_000, 3_600_000), (9_000_000, 7_200_000), (16_200_000, 10_800_000), (32_400_000, 21_600_000)),
    *((86_400_000, 43_200_000), (604_800_000, 86_400_000), (1_814_400_000, 604_800_000)),
)
_LONGEST_S: Final = 2_592_000.0
_NAME: Final = re.compile(r"\$(\w+)|\$\{(\w+)(?:\.[^:^}]+)?(?::[^}]+)?\}|\[\[(\w+)(?::[^\]]+)?\]\]")


def seconds(text: str) -> float:
    """Of a duration such as `15m`, `1h30m` or `500ms`; a plain number is seconds. Raises ValueError for others."""
    found = _PART.findall(text)
    if found and "".join(size + unit for size, unit in found) == text:
        return sum(float(size) * _SIZES[unit] for size, unit in found)
    try:
        plain = float(text)
    except ValueError:
        plain = -1.0
    if not 0 < plain < float("inf"):
        raise ValueError(f"'{text}' is no duration: write one like 90s, 15m or 1h30m")
    return plain


def duration(length_s: float) -> str:
    """As PromQL writes it, in the largest unit that divides it: 900 is `15m`, 0.5 is `500ms`."""
    milliseconds = max(1, round(length_s * 1000))
    for unit in ("d", "h", "m", "s"):
        if milliseconds % (_SIZES[unit] * 1000) == 0:
            return f"{milliseconds // round(_SIZES[unit] * 1000)}{unit}"
    return f"{milliseconds}ms"


def step(range_s: float, points: int, least_s: float) -> float:
    """Seconds between two points (`$__interval`): so that a panel has about `points`, and never below `least_s`."""
    wanted = range_s * 1000 / max(1, points)
    rounded = next((chosen / 1000 for below, chosen in _ROUNDED if wanted < below), _LONGEST_S)
    return max(rounded, least_s)


def rate_interval(step_s: float, scrape_s: float) -> float:
    """`$__rate_interval`: four scrapes at least, and a step with the scrape before it."""
    return max(4 * scrape_s, step_s + scrape_s)


def times(range_s: float, step_s: float, scrape_s: float) -> Mapping[str, str]:
    """What Grafana puts for its own variables of time."""
    return {
        "__interval": duration(step_s),
        "__interval_ms": str(round(step_s * 1000)),
        "__rate_interval": duration(rate_interval(step_s, scrape_s)),
        "__range": duration(range_s),
        "__range_s": str(round(range_s)),
        "__range_ms": str(round(range_s * 1000)),
    }


def filled(text: str, values: Mapping[str, str]) -> str:
    """With each `$name`, `${name:format}` and `[[name]]` replaced. A name that nobody knows stays as it is."""
    return _NAME.sub(_value(values), text)


def _value(values: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    def value(found: re.Match[str]) -> str:
        name = next(group for group in found.groups() if group is not None)
        return values.get(name, found.group(0))

    return value
