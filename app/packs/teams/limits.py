"""What a question may use, all its agents together: rounds, sub-questions, tokens, money and time.

A part of money, tokens and time is kept back for joining: whatever the members do, an answer is still made of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from app.agent.budgets import Caps, Tally
from app.errors import InvalidInput
from app.storage.base import MICROS

JOINING: Final = 0.2
"""The share of tokens and money that is kept for joining."""
_JOINING_TIME: Final = 0.25
_LONGEST_JOINING_S: Final = 20.0
_PLANNING_TIME: Final = 0.2
_PLANNING_PARTS: Final = 5
_GRACE_S: Final = 0.25
_GRACE: Final = 0.1
"""Of an agent's time, and at most so long, it has to say itself that it is out of time."""


class Limits(BaseModel):
    """Those of one question. `depth` counts rounds of planning, `parallel` members that work at the same time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    depth: int = Field(2, ge=1, le=3)
    tasks: int = Field(8, ge=1, le=20)
    tokens: int = Field(120_000, ge=0)
    cost_micros: int = Field(500_000, ge=0)
    seconds: float = Field(60, ge=1, le=300)
    parallel: int = Field(4, ge=1, le=8)


class LimitsOut(BaseModel):
    """Those of one question as a caller sees them: rounds, sub-questions, tokens, money, seconds, members at a time."""

    depth: int
    tasks: int
    tokens: int
    cost_usd: float
    seconds: float
    parallel: int

    @classmethod
    def of(cls, limits: Limits) -> "LimitsOut":
        return cls(**limits.model_dump(exclude={"cost_micros"}), cost_usd=limits.cost_micros / MICROS)


class LimitsIn(BaseModel):
    """What a caller asks for; each may only be lower than the team's own, which `GET /v1/teams` tells."""

    model_config = ConfigDict(extra="forbid")

    depth: int | None = Field(None, ge=1)
    tasks: int | None = Field(None, ge=1)
    tokens: int | None = Field(None, ge=0)
    cost_usd: float | None = Field(None, ge=0, allow_inf_nan=False)
    seconds: float | None = Field(None, ge=1, allow_inf_nan=False)


def narrowed(limits: Limits, asked: LimitsIn | None) -> Limits:
    """Raises InvalidInput naming the limit that is above the team's own."""
    wanted, own = {} if asked is None else asked.model_dump(exclude_none=True), LimitsOut.of(limits)
    for name, value in wanted.items():
        most = getattr(own, name)
        if value > most:
            raise InvalidInput(f"'limits.{name}' may be at most {most:g} for this team: leave it out, or ask for less.")
    if "cost_usd" in wanted:
        wanted["cost_micros"] = round(wanted.pop("cost_usd") * MICROS)
    return limits.model_copy(update=wanted)


@dataclass(slots=True, eq=False)
class Share:
    """One agent's part of the question's budget, set aside while it works. `tally` is what it used so far."""

    tokens: int
    cost_micros: int
    tally: Tally = field(default_factory=Tally)

    @property
    def caps(self) -> Caps:
        return Caps(tokens=self.tokens, cost_micros=self.cost_micros)


class Purse:
    """The question's tokens and money. The shares that are out and what is spent are never more than the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._tallies: list[Tally] = []
        self._out: set[Share] = set()
        self._lost = [0, 0]

    @property
    def tokens(self) -> int:
        """Used so far."""
        return sum(tally.tokens for tally in self._tallies)

    @property
    def cost_micros(self) -> int:
        return sum(tally.cost_micros for tally in self._tallies)

    @property
    def left(self) -> tuple[int, int]:
        """Tokens and micro-USD that are neither used nor set aside."""
        tokens = sum(max(0, share.tokens - share.tally.tokens) for share in self._out)
        money = sum(max(0, share.cost_micros - share.tally.cost_micros) for share in self._out)
        limits = self._limits
        return (
            max(0, limits.tokens - self.tokens - tokens - self._lost[0]),
            max(0, limits.cost_micros - self.cost_micros - money - self._lost[1]),
        )

    @property
    def kept(self) -> tuple[int, int]:
        """What is kept for joining."""
        return round(self._limits.tokens * JOINING), round(self._limits.cost_micros * JOINING)

    def planning(self) -> Share:
        return self.share(_PLANNING_PARTS)

    def share(self, parts: int) -> Share:
        """An equal part, for one of `parts` agents, of what is not kept for joining."""
        (tokens, money), kept = self.left, self.kept
        return self._take(max(0, tokens - kept[0]) // parts, max(0, money - kept[1]) // parts)

    def joining(self, *, last: bool) -> Share:
        """What is kept for joining; all that is left in the last round."""
        left, kept = self.left, self.kept
        return self._take(*left) if last else self._take(min(left[0], kept[0]), min(left[1], kept[1]))

    def settle(self, share: Share, *, ended: bool) -> None:
        """Gives back what the share did not use. An agent that has not ended may have a call under way that nobody has
        counted: the rest of its share is then never used again."""
        self._out.discard(share)
        if not ended:
            self._lost[0] += max(0, share.tokens - share.tally.tokens)
            self._lost[1] += max(0, share.cost_micros - share.tally.cost_micros)

    def another_round(self) -> bool:
        """Whether there is enough left to ask again and to join again."""
        return all(left >= 2 * kept for left, kept in zip(self.left, self.kept, strict=True))

    def _take(self, tokens: int, money: int) -> Share:
        share = Share(tokens, money)
        self._tallies.append(share.tally)
        self._out.add(share)
        return share


class Timeline:
    """The question's time, by the event loop's clock, in seconds."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self.now = now
        self.started = now()
        self.end = self.started + seconds
        self._joining_s = min(seconds * _JOINING_TIME, _LONGEST_JOINING_S)
        self._planning_s = seconds * _PLANNING_TIME

    @property
    def elapsed_s(self) -> float:
        return self.now() - self.started

    @property
    def work_end(self) -> float:
        """When members must have ended, so that there is time to join."""
        return self.end - self._joining_s

    def planning(self) -> float:
        """When the plan must be there."""
        return min(self.now() + self._planning_s, self.work_end)

    def working(self, parts: int) -> float:
        """When a member must have ended that is the first of `parts` one after the other."""
        now = self.now()
        return now + max(0.0, self.work_end - now) / parts

    def joining(self, *, last: bool) -> float:
        return self.end if last else min(self.end, self.now() + self._joining_s)

    def told(self, until: float) -> float:
        """What an agent that must have ended by `until` is told: a little less."""
        return until - min(_GRACE_S, _GRACE * max(0.0, until - self.now()))

    def another_round(self) -> bool:
        return self.work_end - self.now() >= self._joining_s
