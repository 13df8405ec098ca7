"""How a client is doing: a score from 0 to 100 out of activity, tickets and sentiment, by rules that can be read.

score = 100 * sum(weight * value), with every value between 0 and 1: the factors' points sum to the score.

- activity (40 %): what was done in the last 30 days against a usual 30 days of the 90 before. Half the usual is 0.4,
  the usual 0.8, half as much again 1. From 14 days without any activity on it fades, to 0 at 60 days.
- tickets (35 %): 1 / (1 + load / 3). An open ticket loads by its priority (0.5 low, 1, 2 high, 3 urgent), up to double
  at an age of 30 days; each ticket opened in the last 30 days loads 0.15 more, whether it was solved or not.
- sentiment (25 %): the mean mood of the last 90 days' messages (friendly 1, neutral 0.5, unhappy 0) and of one friendly
  message of today that is supposed, so that a single unhappy one does not decide; one of 30 days ago counts half.

A factor without data hands its weight to the others in proportion. So that bad news alone never lifts a score, tickets
of which none was ever solved count at most as much as the other factors do on average. Two things always hold: one more
open ticket never raises the score, one more friendly message never lowers it.

The limits are a convention, not a measurement: 70 and above is healthy, 40 and above wants watching, below is at risk.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.packs.teams.models import SignalKind
from app.packs.teams.sentiment import SOURCE, Mood

METHOD: Final = "rules-1"
ACTIVITY, TICKETS, SENTIMENT = "activity", "tickets", "sentiment"
WEIGHTS: Final[Mapping[str, float]] = {ACTIVITY: 0.40, TICKETS: 0.35, SENTIMENT: 0.25}
HEALTHY_FROM, WATCH_FROM = 70.0, 40.0
MONTH = timedelta(days=30)
BEFORE = timedelta(days=90)
MESSAGES = timedelta(days=90)
WINDOW = MONTH + BEFORE
"""No signal older than this counts, but for open tickets and the last activity."""
QUIET_FROM, QUIET_TO = 14.0, 60.0
PRIORITIES: Final[Mapping[str, float]] = {"low": 0.5, "": 1.0, "medium": 1.0, "high": 2.0, "urgent": 3.0}
NEW_TICKET = 0.15
HALF_LOAD = 3.0
HALF_LIFE_DAYS = 30.0
SUPPOSED = 1.0
"""The weight of the friendly message that is supposed."""
STEADY = 5.0
_DAY = timedelta(days=1)
_MOODS: Final[Mapping[Mood, float]] = {Mood.FRIENDLY: 1.0, Mood.NEUTRAL: 0.5, Mood.UNHAPPY: 0.0}


class HealthState(StrEnum):
    HEALTHY = "healthy"
    WATCH = "watch"
    AT_RISK = "at_risk"


class Direction(StrEnum):
    UP = "up"
    STEADY = "steady"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Signal:
    """What the score sees of one `ClientSignal`; `mood` is a message's, None where it could not be read."""

    kind: SignalKind
    at: datetime
    quantity: float = 1.0
    ref: str = ""
    priority: str = ""
    mood: Mood | None = None


@dataclass(frozen=True, slots=True)
class Factor:
    """`value` is 0 to 1, None without data; `weight` is its share after sharing; `points` = 100 * weight * value."""

    name: str
    value: float | None
    weight: float
    points: float
    sentence: str
    source: str = SOURCE


@dataclass(frozen=True, slots=True)
class Health:
    score: float
    state: HealthState
    factors: tuple[Factor, ...]
    method: str = METHOD


@dataclass(frozen=True, slots=True)
class Trend:
    """`change` is in points; within 5 it is steady."""

    then: float
    at: datetime
    change: float
    direction: Direction


@dataclass(frozen=True, slots=True)
class _Reading:
    value: float | None
    sentence: str
    only_bad: bool = False


def health_of(signals: Sequence[Signal], now: datetime) -> Health | None:
    """The health at `now`, from what was known of by then; None where nothing is known that a factor can use."""
    known = [signal for signal in signals if signal.at <= now]
    readings = {
        ACTIVITY: _activity(known, now),
        TICKETS: _tickets(known, now),
        SENTIMENT: _sentiment(known, now),
    }
    present = sum(WEIGHTS[name] for name, reading in readings.items() if reading.value is not None)
    if not present:
        return None
    readings[TICKETS] = _held_back(readings)
    factors = tuple(_factor(name, reading, present) for name, reading in readings.items())
    score = min(100.0, math.fsum(factor.points for factor in factors))
    return Health(score, state_of(score), factors)


def state_of(score: float) -> HealthState:
    if score >= HEALTHY_FROM:
        return HealthState.HEALTHY
    return HealthState.WATCH if score >= WATCH_FROM else HealthState.AT_RISK


def trend(score: float, then: float, at: datetime) -> Trend:
    """Against an earlier score."""
    change = score - then
    if abs(change) < STEADY:
        return Trend(then, at, change, Direction.STEADY)
    return Trend(then, at, change, Direction.UP if change > 0 else Direction.DOWN)


def _factor(name: str, reading: _Reading, present: float) -> Factor:
    if reading.value is None:
        shared = f"{reading.sentence} Its weight of {WEIGHTS[name]:.0%} is shared among the factors that have data."
        return Factor(name, None, 0.0, 0.0, shared)
    weight = WEIGHTS[name] / present
    return Factor(name, reading.value, weight, 100 * weight * reading.value, reading.sentence)


def _held_back(readings: Mapping[str, _Reading]) -> _Reading:
    """The tickets' reading, bounded by what the others come to where it rests on open tickets alone."""
    tickets = readings[TICKETS]
    others = [(WEIGHTS[name], one.value) for name, one in readings.items() if name != TICKETS and one.value is not None]
    if tickets.value is None or not tickets.only_bad or not others:
        return tickets
    average = math.fsum(weight * value for weight, value in others) / math.fsum(weight for weight, _ in others)
    if tickets.value <= average:
        return tickets
    sentence = f"{tickets.sentence} None was solved yet, so tickets count no more than the other factors do."
    return replace(tickets, value=average, sentence=sentence)


def _activity(signals: Sequence[Signal], now: datetime) -> _Reading:
    done = [signal for signal in signals if signal.kind is SignalKind.ACTIVITY]
    if not done:
        return _Reading(None, "No activity is known.")
    month_ago = now - MONTH
    recent = math.fsum(signal.quantity for signal in done if signal.at > month_ago)
    usual = _usual(done, now)
    quiet = (now - max(signal.at for signal in done)) / _DAY
    ratio = recent / usual if usual else float(recent > 0)
    level = 0.8 * min(ratio, 1.0) + 0.2 * _between((ratio - 1) / 0.5)
    fresh = 1 - _between((quiet - QUIET_FROM) / (QUIET_TO - QUIET_FROM))
    before = f"{usual:,.1f} in a usual 30 days before" if usual else "nothing known of the 90 days before"
    sentence = f"Activity of {recent:,.1f} in the last 30 days against {before}; days since the last: {quiet:.0f}."
    return _Reading(level * fresh, sentence)


def _usual(done: Sequence[Signal], now: datetime) -> float:
    """What a span of 30 days brought in the 90 days before the last 30, or since the client was first seen."""
    start, end = now - WINDOW, now - MONTH
    before = [signal for signal in done if start < signal.at <= end]
    if not before:
        return 0.0
    first = min(signal.at for signal in done)
    span = max(MONTH, end - max(start, first))
    return math.fsum(signal.quantity for signal in before) * (MONTH / span)


def _between(value: float) -> float:
    return min(1.0, max(0.0, value))


@dataclass(slots=True)
class _Ticket:
    """A ticket is open where it was opened after it was solved last."""

    opened: list[datetime] = field(default_factory=list)
    solved: list[datetime] = field(default_factory=list)
    priority: str = ""

    @property
    def is_open(self) -> bool:
        return bool(self.opened) and (not self.solved or max(self.solved) < max(self.opened))


def _by_ref(signals: Sequence[Signal]) -> list[_Ticket]:
    """Each ticket with the priority that it was given last; of two at one moment the higher counts."""
    tickets: dict[str, _Ticket] = {}
    for signal in sorted(signals, key=lambda one: (one.at, _weight(one.priority))):
        if signal.kind is SignalKind.TICKET_OPENED:
            ticket = tickets.setdefault(signal.ref, _Ticket())
            ticket.opened.append(signal.at)
            ticket.priority = signal.priority or ticket.priority
        elif signal.kind is SignalKind.TICKET_SOLVED:
            tickets.setdefault(signal.ref, _Ticket()).solved.append(signal.at)
    return list(tickets.values())


def _weight(priority: str) -> float:
    return PRIORITIES.get(priority, 1.0)


def _tickets(signals: Sequence[Signal], now: datetime) -> _Reading:
    start = now - WINDOW
    tickets = [one for one in _by_ref(signals) if one.is_open or max(one.opened + one.solved) > start]
    if not tickets:
        return _Reading(None, "No ticket is known.")
    waiting = [ticket for ticket in tickets if ticket.is_open]
    ages = [(now - max(ticket.opened)) / _DAY for ticket in waiting]
    new = sum(max(ticket.opened) > now - MONTH for ticket in tickets if ticket.opened)
    weights = [_weight(ticket.priority) for ticket in waiting]
    loads = [weight * (1 + min(age / 30, 1.0)) for weight, age in zip(weights, ages, strict=True)]
    load = math.fsum(loads) + NEW_TICKET * new
    urgent = sum(ticket.priority in ("high", "urgent") for ticket in waiting)
    oldest = f", days since the oldest was opened: {max(ages):.0f}" if ages else ""
    sentence = f"Open tickets: {len(waiting)} (high or urgent: {urgent}{oldest}); opened in the last 30 days: {new}."
    return _Reading(1 / (1 + load / HALF_LOAD), sentence, all(not ticket.solved for ticket in tickets))


def _sentiment(signals: Sequence[Signal], now: datetime) -> _Reading:
    messages = [one for one in signals if one.kind is SignalKind.MESSAGE and one.at > now - MESSAGES]
    moods = [(one.mood, 0.5 ** ((now - one.at) / _DAY / HALF_LIFE_DAYS)) for one in messages if one.mood is not None]
    unread = len(messages) - len(moods)
    beside = f" {unread} more could not be read." if unread else ""
    if not moods:
        return _Reading(None, f"No message of the last 90 days has a mood.{beside}")
    short = math.fsum((1 - _MOODS[mood]) * weight for mood, weight in moods)
    value = 1 - short / (SUPPOSED + math.fsum(weight for _, weight in moods))
    counts = {mood: sum(one is mood for one, _ in moods) for mood in Mood}
    told = ", ".join(f"{count} {mood}" for mood, count in counts.items())
    sentence = (
        f"Messages of the last 90 days: {told}; newer ones count more. Judged by a list of words, not by a model."
    )
    return _Reading(min(1.0, value), f"{sentence}{beside}")
