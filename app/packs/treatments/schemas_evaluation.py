"""What goes out of the evaluation of a run and of the forecast of demand. Money in US dollars."""

from datetime import date, datetime

from pydantic import BaseModel


class ArmOut(BaseModel):
    """`decided` are all whom the run decided about, treated or not; `control` those who were held back by chance; the
    others are those who got the treatment of that name. `known`: their outcome was recorded for the run."""

    name: str
    customers: int
    known: int
    successes: int
    value_usd: float
    mean_value_usd: float | None


class UpliftOut(BaseModel):
    """An arm less the control. `success` is a difference of shares, `value_usd` of what a customer brought; the
    intervals hold 95 %, and are None where too few outcomes are known. `needed_per_arm` is how many would do."""

    arm: str
    success: float | None
    success_interval95: tuple[float, float] | None
    p_value: float | None
    value_usd: float | None
    value_interval95_usd: tuple[float, float] | None
    needed_per_arm: int | None
    enough: bool
    significant: bool
    note: str


class EvaluationOut(BaseModel):
    """`uplift` is of all whom the run decided about: what the run caused. `by_treatment` also holds who was chosen for
    it: read it as a hint."""

    run_id: str
    at: datetime
    arms: list[ArmOut]
    uplift: UpliftOut
    by_treatment: list[UpliftOut]
    note: str


class DayForecast(BaseModel):
    """Units expected; eight days of ten lie from `low` to `high`, by the errors of the backtest. `short` is what is
    expected above the day's capacity."""

    day: date
    expected: float
    low: float | None
    high: float | None
    short: float


class BacktestOut(BaseModel):
    """What the same method said on `origins` earlier days. `mae`: the mean absolute error in units; `mase` that as a
    share of the error of taking last week's day; `bias` the mean of forecast less truth."""

    origins: int
    forecasts: int
    mae: float
    mase: float | None
    bias: float


class TreatmentForecast(BaseModel):
    treatment: str
    capacity_per_day: int | None
    method: str
    days: int
    points: list[DayForecast]
    backtest: BacktestOut | None
    note: str


class ForecastOut(BaseModel):
    """The days from `since` on, which is today (UTC): what is known is of the days before."""

    since: date
    horizon: int
    treatments: list[TreatmentForecast]
