"""How many units of a treatment will be wanted a day: a level that follows the days, times a factor for the weekday.

Hyndman and Athanasopoulos, Forecasting: Principles and Practice (3rd ed. 2021): simple exponential smoothing (8.1) of
the series without its weekdays (classical multiplicative factors, 3.4), judged from a rolling origin (5.10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from statistics import fmean, quantiles
from typing import Final

WEEK: Final = 7
LEAST_DAYS: Final = 28
"""From so many days on weekdays are told apart."""
_LEAST_TO_JUDGE: Final = 14
_ORIGINS: Final = 28
_ALPHAS: Final = tuple(step / 20 for step in range(1, 20))
_DAY: Final = timedelta(days=1)


class ForecastMethod(StrEnum):
    """`mean`: the mean of the days, because there are fewer than 28. `none`: no day is known."""

    SMOOTHED_WEEKDAYS = "smoothed_weekdays"
    MEAN = "mean"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Point:
    """Units expected on a day; by the backtest's errors eight days of ten lie from `low` to `high` (None: not judged
    yet)."""

    day: date
    expected: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Backtest:
    """What the same method said at `origins` earlier days of the days that followed, `forecasts` in all.

    `mae` is the mean absolute error in units. `mase` is that divided by the error of taking the same weekday of last
    week (Hyndman and Koehler 2006, International Journal of Forecasting 22:679-688): below 1 is better than that; None
    where last week is always right. `bias` is the mean of forecast less truth.
    """

    origins: int
    forecasts: int
    mae: float
    mase: float | None
    bias: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """`days` of history were used; `backtest` is None where they are too few to judge by."""

    points: tuple[Point, ...]
    method: ForecastMethod
    backtest: Backtest | None
    days: int
    note: str


def forecast(daily: Mapping[date, int], horizon: int, until: date) -> Forecast:
    """The `horizon` days from `until` on, by the units of days before it. A day between that is not named had none.

    Raises ValueError for a horizon below 1.
    """
    if horizon < 1:
        raise ValueError(f"a forecast is of at least one day, not of {horizon}")
    history = _history(daily, until)
    method = _method(len(history))
    expected = _ahead(method, history, until, horizon)
    errors = _errors(method, history, until, horizon)
    low, high = _spread(errors)
    points = tuple(
        Point(until + step * _DAY, value, _moved(value, low), _moved(value, high))
        for step, value in enumerate(expected)
    )
    return Forecast(points, method, _backtest(errors, history), len(history), _note(method, len(history)))


def _history(daily: Mapping[date, int], until: date) -> list[int]:
    """Units from the first known day to the day before `until`."""
    known = [day for day in daily if day < until]
    if not known:
        return []
    first = min(known)
    return [daily.get(first + step * _DAY, 0) for step in range((until - first).days)]


def _method(days: int) -> ForecastMethod:
    if not days:
        return ForecastMethod.NONE
    return ForecastMethod.MEAN if days < LEAST_DAYS else ForecastMethod.SMOOTHED_WEEKDAYS


def _note(method: ForecastMethod, days: int) -> str:
    match method:
        case ForecastMethod.NONE:
            return "No day is known yet: nothing can be expected."
        case ForecastMethod.MEAN:
            return f"The mean of {days} days: from {LEAST_DAYS} days on weekdays are told apart."
        case ForecastMethod.SMOOTHED_WEEKDAYS:
            return f"Exponential smoothing of {days} days, times a factor for each weekday."


def _ahead(method: ForecastMethod, history: Sequence[int], until: date, horizon: int) -> list[float]:
    if method is ForecastMethod.NONE:
        return [0.0] * horizon
    if method is ForecastMethod.MEAN:
        return [fmean(history)] * horizon
    first = until.weekday() - len(history)
    factors = _factors(history, first)
    level = _level(history, factors, first)
    return [level * factors[(until.weekday() + step) % WEEK] for step in range(horizon)]


def _factors(history: Sequence[int], first: int) -> list[float]:
    """By weekday, how its units stand to the mean of the week around them, on average; all seven have the mean 1.
    `first` is the weekday of the first day, by any whole weeks."""
    ratios: list[list[float]] = [[] for _ in range(WEEK)]
    for start in range(len(history) - WEEK + 1):
        around = fmean(history[start : start + WEEK])
        if around > 0:
            middle = start + WEEK // 2
            ratios[(first + middle) % WEEK].append(history[middle] / around)
    means = [fmean(found) if found else 1.0 for found in ratios]
    return [mean / (fmean(means) or 1.0) for mean in means]


def _level(history: Sequence[int], factors: Sequence[float], first: int) -> float:
    """The smoothed level after the last day, with the weight that would have foretold each next day best."""
    numbers = [(units, factors[(first + step) % WEEK]) for step, units in enumerate(history)]
    known = [(units, factor) for units, factor in numbers if factor > 0]
    return min((_smoothed(known, alpha) for alpha in _ALPHAS), key=lambda found: found[0])[1] if known else 0.0


def _smoothed(known: Sequence[tuple[int, float]], alpha: float) -> tuple[float, float]:
    """The sum of squared errors one day ahead, and the last level."""
    level = fmean(units / factor for units, factor in known[:WEEK])
    squares = 0.0
    for units, factor in known:
        squares += (units - level * factor) ** 2
        level += alpha * (units / factor - level)
    return squares, level


def _errors(method: ForecastMethod, history: Sequence[int], until: date, horizon: int) -> list[list[float]]:
    """Forecast less truth, by origin: the last days at which what followed is known, 14 days of history at least."""
    start = max(_LEAST_TO_JUDGE, len(history) - _ORIGINS)
    found = []
    for origin in range(start, len(history)):
        day = until - (len(history) - origin) * _DAY
        truth = history[origin : origin + horizon]
        told = _ahead(method, history[:origin], day, len(truth))
        found.append([expected - units for expected, units in zip(told, truth, strict=True)])
    return found


def _backtest(errors: Sequence[Sequence[float]], history: Sequence[int]) -> Backtest | None:
    flat = [error for row in errors for error in row]
    if not flat:
        return None
    mae = fmean(map(abs, flat))
    naive = fmean(abs(later - earlier) for later, earlier in zip(history[WEEK:], history, strict=False))
    return Backtest(len(errors), len(flat), mae, mae / naive if naive else None, fmean(flat))


def _spread(errors: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    """What to add to a forecast for eight truths of ten to lie between: from the errors' tenths."""
    flat = [-error for row in errors for error in row]
    if len(flat) < 2:
        return None, None
    tenths = quantiles(flat, n=10, method="inclusive")
    return tenths[0], tenths[-1]


def _moved(value: float, by: float | None) -> float | None:
    return None if by is None else max(0.0, value + by)
