"""Waking a queue's thread before its polling interval is over."""

import threading
from collections.abc import Mapping


class Bell(threading.Event):
    """The stop event of a queue's thread, which can also be rung: its wait then ends early, still not set."""

    def __init__(self) -> None:
        super().__init__()
        self._rung = threading.Event()

    def ring(self) -> None:
        """Safe from any thread, and before the wait begins: the next wait ends at once."""
        self._rung.set()

    def set(self) -> None:
        super().set()
        self._rung.set()

    def wait(self, timeout: float | None = None) -> bool:
        """True once the event is set, False after a ring or the timeout (seconds)."""
        self._rung.wait(timeout)
        self._rung.clear()
        return self.is_set()


class Slots:
    """How many jobs of each queue run here, on one event loop.

    A job that ends while at least half of its queue's slots are free rings the queue's bell: a backlog then drains at
    the speed of the jobs, in claims of half the slots each, not at the speed of polling.
    """

    def __init__(self, sizes: Mapping[str, int], bells: Mapping[str, Bell]) -> None:
        self._sizes = sizes
        self._bells = bells
        self._taken = dict.fromkeys(sizes, 0)

    def take(self, queue: str) -> None:
        self._taken[queue] += 1

    def free(self, queue: str) -> None:
        self._taken[queue] -= 1
        if self._taken[queue] <= self._sizes[queue] // 2:
            self._bells[queue].ring()
