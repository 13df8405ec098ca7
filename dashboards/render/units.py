"""Values as people read them: Grafana's unit ids, three digits, one word behind."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

Scale = Sequence[tuple[float, str]]

SECONDS: Final[Scale] = (
    (1e-9, " ns"),
    (1e-6, " µs"),
    (1e-3, " ms"),
    (1.0, " s"),
    (60.0, " min"),
    (3600.0, " h"),
    (86_400.0, " d"),
    (31_536_000.0, " y"),
)
THOUSANDS: Final[Scale] = ((1.0, ""), (1e3, "K"), (1e6, "M"), (1e9, "B"), (1e12, "T"))
BINARY: Final[Scale] = tuple(
    (1024.0**power, f" {name}") for power, name in enumerate(("B", "KiB", "MiB", "GiB", "TiB"))
)
DECIMAL: Final[Scale] = tuple((1000.0**power, f" {name}") for power, name in enumerate(("B", "kB", "MB", "GB", "TB")))
PLAIN: Final[Scale] = ((1.0, ""),)

TIMES: Final[Mapping[str, float]] = {
    "ns": 1e-9,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "dtdurations": 1.0,
    "dtdhms": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
}
"""Seconds in one of the unit."""
SCALES: Final[Mapping[str, tuple[Scale, str, str]]] = {
    "short": (THOUSANDS, "", ""),
    "none": (THOUSANDS, "", ""),
    "": (THOUSANDS, "", ""),
    "bytes": (BINARY, "", ""),
    "decbytes": (DECIMAL, "", ""),
    "binBps": (BINARY, "", "/s"),
    "Bps": (DECIMAL, "", "/s"),
    "percent": (PLAIN, "", " %"),
    "currencyUSD": (THOUSANDS, "$", ""),
    "currencyEUR": (THOUSANDS, "€", ""),
    "reqps": (THOUSANDS, "", " req/s"),
    "ops": (THOUSANDS, "", " ops/s"),
    "cps": (THOUSANDS, "", " /s"),
    "wps": (THOUSANDS, "", " writes/s"),
    "rps": (THOUSANDS, "", " reads/s"),
    "iops": (THOUSANDS, "", " io/s"),
    "eps": (THOUSANDS, "", " events/s"),
    "mps": (THOUSANDS, "", " msg/s"),
    "reqpm": (THOUSANDS, "", " req/min"),
    "opm": (THOUSANDS, "", " ops/min"),
    "cpm": (THOUSANDS, "", " /min"),
    "celsius": (PLAIN, "", " °C"),
    "watt": (THOUSANDS, "", " W"),
    "hertz": (THOUSANDS, "", " Hz"),
}
"""Steps, what stands before the number, what stands behind its scale."""


def humane(value: float, unit: str = "short", decimals: int | None = None) -> str:
    """A value of a Grafana unit, as `1.23 ms`, `45.6 %` or `$1.2K`; `no value` for what is no number.

    Args:
        decimals: digits after the point; three significant digits where it is None.
    """
    if math.isnan(value):
        return "no value"
    if unit in ("bool", "bool_yes_no", "bool_on_off"):
        return _truth(value, unit)
    if unit.startswith("dateTime"):
        return _moment(value / 1000)
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "percentunit":
        value, unit = value * 100, "percent"
    scale, before, behind = parts(unit)
    value *= TIMES.get(unit, 1.0)
    number = _scaled(abs(value), scale, decimals)
    return f"{'-' if value < 0 and number.strip('0.') else ''}{before}{number}{behind}"


def parts(unit: str) -> tuple[Scale, str, str]:
    """Steps of a unit, what stands before its number and what behind. An unknown unit stands behind as it is named."""
    if unit in TIMES:
        return SECONDS, "", ""
    if unit.startswith("suffix:"):
        return THOUSANDS, "", f" {unit.removeprefix('suffix:').strip()}"
    if unit.startswith("prefix:"):
        return THOUSANDS, unit.removeprefix("prefix:"), ""
    return SCALES.get(unit, (THOUSANDS, "", f" {unit}"))


def _scaled(value: float, scale: Scale, decimals: int | None) -> str:
    """Of a value that is not negative. What lies outside of the scale is written with a power of ten."""
    fitting = [(factor, name) for factor, name in scale if value >= factor * 0.9995]
    factor, name = fitting[-1] if fitting else scale[0]
    if value == 0:
        factor, name = 1.0, dict(scale)[1.0]
    number = value / factor
    if number >= 100_000 or 0 < number < 0.001:
        return f"{number:.1e}{name}"
    return f"{_digits(number, decimals if factor == 1.0 or decimals == 0 else None)}{name}"


def _digits(number: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{number:.{min(decimals, 4)}f}"
    if number >= 1000:
        return f"{number:.0f}"
    return f"{number:.3g}"


def _truth(value: float, unit: str) -> str:
    yes, no = {"bool": ("true", "false"), "bool_yes_no": ("yes", "no")}.get(unit, ("on", "off"))
    return yes if value else no


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "no value"
