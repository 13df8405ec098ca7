"""One upstream call for many who ask at once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Result = TypeVar("Result")


@dataclass(slots=True)
class _Flight(Generic[Result]):
    task: "asyncio.Task[Result]"
    waiting: int = 0


class SingleFlight(Generic[Result]):
    """Callers with the same key at the same time share one call.

    The call runs in a task of its own: a caller that is cancelled leaves, the others still get the result; the
    call is cancelled when the last one left.
    """

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[Result]] = {}

    async def run(self, key: str, call: Callable[[], Awaitable[Result]]) -> tuple[Result, bool]:
        """The call's result or exception, and whether it was shared (True for all but the one who began it)."""
        flight = self._flights.get(key)
        shared = flight is not None
        if flight is None:
            flight = self._start(key, call)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), shared
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()

    def _start(self, key: str, call: Callable[[], Awaitable[Result]]) -> _Flight[Result]:
        async def fly() -> Result:
            return await call()

        flight = _Flight(asyncio.create_task(fly()))
        flight.task.add_done_callback(lambda _task: self._ended(key, flight))
        self._flights[key] = flight
        return flight

    def _ended(self, key: str, flight: _Flight[Result]) -> None:
        self._forget(key, flight)
        if not flight.task.cancelled():
            flight.task.exception()  # seen, even where nobody waits for it any more

    def _forget(self, key: str, flight: _Flight[Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
