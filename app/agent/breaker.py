"""Circuit breakers: what fails again and again is left alone for a while, then tried once.

States and the single probe after M. Nygard, "Release It!", chapter "Stability Patterns".
"""

import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from types import TracebackType

from cachetools import LRUCache

from app.errors import Unavailable
from app.telemetry.metrics import Metrics

Monotonic = Callable[[], float]
MAX_SCOPES = 10_000


class BreakerState(IntEnum):
    """The numbers that the metric `breaker_state` shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerOpen(Unavailable):
    code, title = "breaker-open", "A part that failed is being left alone"


def always(_error: BaseException) -> bool:
    return True


class Breaker:
    """Opens after `failures` failures in a row within `window_s`; after `open_s` lets exactly one call through.

    A part that fails now and then under many calls stays in use: leaving it alone would fail all of them.

    That probe's success closes it, its failure opens it anew; a probe that is cancelled frees its place. The
    verdict of a call that began before the last change of state counts for nothing. For one event loop.

    Args:
        clock: seconds that only grow.
        on_change: told of each new state.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        window_s: float = 30.0,
        open_s: float = 15.0,
        clock: Monotonic = time.monotonic,
        on_change: Callable[[BreakerState], None] | None = None,
    ) -> None:
        self.name = name
        self.state = BreakerState.CLOSED
        self._failures = failures
        self._window_s = window_s
        self._open_s = open_s
        self._clock = clock
        self._on_change = on_change
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._opened_at = 0.0
        self._probing = False
        self._era = 0

    def guard(self, counts: Callable[[BaseException], bool] = always) -> "Guard":
        """A context for one call; `counts` says whether an exception speaks against the part behind it.

        Entering raises BreakerOpen, with the seconds to wait, where the call may not be made.
        """
        return Guard(self, counts)

    def admit(self) -> int:
        """Takes part in the present era, as the probe where it is time for one. Raises BreakerOpen."""
        if self.state is BreakerState.CLOSED:
            return self._era
        wait = self._opened_at + self._open_s - self._clock()
        if wait > 0 or self._probing:
            raise BreakerOpen(f"'{self.name}' failed repeatedly and is being left alone.", retry_after=max(wait, 1.0))
        self._change(BreakerState.HALF_OPEN)
        self._probing = True
        return self._era

    def succeeded(self, era: int) -> None:
        if era != self._era:
            return
        self._failed_at.clear()
        if self.state is BreakerState.HALF_OPEN:
            self._change(BreakerState.CLOSED)

    def failed(self, era: int) -> None:
        if era != self._era:
            return
        now = self._clock()
        self._failed_at.append(now)
        many = len(self._failed_at) == self._failures and now - self._failed_at[0] <= self._window_s
        if many or self.state is BreakerState.HALF_OPEN:
            self._opened_at = now
            self._change(BreakerState.OPEN)

    def abandoned(self, era: int) -> None:
        """The call ended without a verdict."""
        if era == self._era:
            self._probing = False

    def _change(self, state: BreakerState) -> None:
        self._probing = False
        self._era += 1
        if state is not self.state:
            self.state = state
            if self._on_change is not None:
                self._on_change(state)


class Guard:
    """See `Breaker.guard`."""

    __slots__ = ("_breaker", "_counts", "_era")

    def __init__(self, breaker: Breaker, counts: Callable[[BaseException], bool]) -> None:
        self._breaker = breaker
        self._counts = counts
        self._era = 0

    def __enter__(self) -> None:
        self._era = self._breaker.admit()

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._breaker.succeeded(self._era)
        elif not isinstance(error, Exception):
            self._breaker.abandoned(self._era)
        elif self._counts(error):
            self._breaker.failed(self._era)
        else:
            self._breaker.succeeded(self._era)


class Breakers:
    """Every breaker of a process, made when first asked for.

    A breaker has a `name` (a bounded set: the metric's label) and may have a `scope`: a tool's failures with one
    tenant's account say nothing of another's. The metric shows the worst state among a name's scopes.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        failures: int = 5,
        window_s: float = 30.0,
        open_s: float = 15.0,
        clock: Monotonic = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._failures = failures
        self._window_s = window_s
        self._open_s = open_s
        self._clock = clock
        self._breakers: LRUCache[tuple[str, str], Breaker] = LRUCache(MAX_SCOPES)

    def get(self, name: str, scope: str = "") -> Breaker:
        breaker = self._breakers.get((name, scope))
        if breaker is None:
            breaker = Breaker(
                name,
                failures=self._failures,
                window_s=self._window_s,
                open_s=self._open_s,
                clock=self._clock,
                on_change=lambda state: self._show(name, state),
            )
            self._breakers[name, scope] = breaker
            # Shown from the start, at 0.
            self._metrics.breaker_state.labels(name)
            self._metrics.breaker_opened.labels(name)
        return breaker

    def _show(self, name: str, state: BreakerState) -> None:
        if state is BreakerState.OPEN:
            self._metrics.breaker_opened.labels(name).inc()
        worst = max(breaker.state for (of, _), breaker in self._breakers.items() if of == name)
        self._metrics.breaker_state.labels(name).set(worst)
