"""How long a process that was asked to end may still work."""

import time
from collections.abc import Callable

WORK_SHARE = 0.8
"""Of the time of grace, what requests, answers and jobs under way get to finish; the rest is for handing over."""


class Grace:
    """One time for everything that ends, whatever the order that it ends in."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._begun: float | None = None

    def begin(self) -> None:
        """The time runs from the first call on."""
        if self._begun is None:
            self._begun = self._monotonic()

    def left(self, share: float = 1.0) -> float:
        """Seconds of a share of the time that are left; all of it while it has not begun."""
        passed = 0.0 if self._begun is None else self._monotonic() - self._begun
        return max(0.0, self._seconds * share - passed)
