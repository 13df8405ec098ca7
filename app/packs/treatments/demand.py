"""Demand for treatments by day: how many customers each would be best for, and how many got one."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Date, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.pack import Kit
from app.packs.treatments.catalogue import CatalogueIn, Treatment, in_force
from app.packs.treatments.forecast import Forecast, Point, forecast
from app.packs.treatments.models import Outcome, Result
from app.packs.treatments.schemas_evaluation import BacktestOut, DayForecast, ForecastOut, TreatmentForecast
from app.principal import Principal

HISTORY: Final = timedelta(days=365)

Series = dict[date, int]


async def demand(session: AsyncSession, tenant_id: str, until: date) -> dict[str, Series]:
    """By treatment: wanted units by UTC day, over the year before `until` (which is not in it).

    A result wants its best option on the day it was decided; an outcome tells of a treatment that was given on its day.
    The two tell of the same demand from two sides, so the larger of the day's figures is taken, not their sum.
    """
    since = until - HISTORY
    best = Result.options[0]["treatment"].as_string()
    worth = (Result.tenant_id == tenant_id, Result.net_micros > 0)
    wanted = await _counted(session, best, Result.created_at, since, until, *worth)
    given = (Outcome.tenant_id == tenant_id, Outcome.treatment != "")
    had = await _counted(session, Outcome.treatment, Outcome.at, since, until, *given)
    found: dict[str, Series] = defaultdict(dict)
    for counts in (wanted, had):
        for (treatment, day), number in counts.items():
            found[treatment][day] = max(found[treatment].get(day, 0), number)
    return dict(found)


async def _counted(
    session: AsyncSession, name: Any, at: Any, since: date, until: date, *where: ColumnElement[bool]
) -> Mapping[tuple[str, date], int]:
    day = _day(session, at)
    first, last = (datetime.combine(one, time(), UTC) for one in (since, until))
    # By labels that no column has: PostgreSQL takes two uses of one expression with parameters for two expressions.
    columns = (name.label("wanted_name"), day.label("wanted_day"), func.count())
    query = select(*columns).where(*where, at >= first, at < last).group_by("wanted_name", "wanted_day")
    rows = (await session.execute(query)).all()
    return {(row[0], _as_date(row[1])): row[2] for row in rows if row[0]}


def _day(session: AsyncSession, at: Any) -> Any:
    """The UTC day of a moment: PostgreSQL would take the connection's time zone."""
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.timezone("UTC", at), Date)
    return func.date(at)


def _as_date(value: date | str) -> date:
    return value if isinstance(value, date) else date.fromisoformat(value)


async def forecasts(session: AsyncSession, kit: Kit, principal: Principal, horizon: int) -> ForecastOut:
    """Of each treatment of the catalogue in force. Raises InvalidInput without a catalogue."""
    today = kit.ports.clock().date()
    _, catalogue = await in_force(session, principal.tenant_id)
    known = await demand(session, principal.tenant_id, today)
    # The backtest computes for every treatment over its whole year.
    found = await asyncio.to_thread(_all, catalogue, known, horizon, today)
    return ForecastOut(since=today, horizon=horizon, treatments=found)


def _all(catalogue: CatalogueIn, known: Mapping[str, Series], horizon: int, today: date) -> list[TreatmentForecast]:
    return [
        _shown(treatment, forecast(known.get(treatment.name, {}), horizon, today)) for treatment in catalogue.treatments
    ]


def _shown(treatment: Treatment, found: Forecast) -> TreatmentForecast:
    backtest = found.backtest
    return TreatmentForecast(
        treatment=treatment.name,
        capacity_per_day=treatment.capacity_per_day,
        method=found.method,
        days=found.days,
        points=[_day_shown(point, treatment.capacity_per_day) for point in found.points],
        backtest=None if backtest is None else BacktestOut(**asdict(backtest)),
        note=found.note,
    )


def _day_shown(point: Point, capacity: int | None) -> DayForecast:
    short = 0.0 if capacity is None else max(0.0, point.expected - capacity)
    return DayForecast(day=point.day, expected=point.expected, low=point.low, high=point.high, short=short)
