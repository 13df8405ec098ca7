"""One run of a turn for all who ask the same at the same time: everybody reads it from its first event on."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

_CLOSING_S: Final = 5.0


class _Flight(Generic[Item]):
    """A run in a task of its own, and what came of it so far."""

    def __init__(self, source: AsyncGenerator[Item, None]) -> None:
        self.items: list[Item] = []
        self.readers = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.task = asyncio.create_task(self._fly(source))
        self.task.add_done_callback(self._ended)

    async def _fly(self, source: AsyncGenerator[Item, None]) -> None:
        async with aclosing(source):
            async for item in source:
                self.items.append(item)
                self._wake()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            task.exception()  # seen, even where nobody reads it any more
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def read(self) -> AsyncGenerator[Item, None]:
        """Every item from the first on; raises what the run raised."""
        at = 0
        while True:
            while at < len(self.items):
                at += 1
                yield self.items[at - 1]
            if self.task.done():
                self.task.result()
                return
            moved = asyncio.get_running_loop().create_future()
            self._waiting.append(moved)
            await moved


class Flights(Generic[Item]):
    """Runs by key. A run is cancelled when its last reader left, and is over when that reader's close returns."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[Item]] = {}

    async def ride(
        self, key: str, start: Callable[[], AsyncGenerator[Item, None]]
    ) -> AsyncGenerator[tuple[Item, bool], None]:
        """The items of the run of `key`, each with whether somebody else began it; `start` makes a run where none is.

        Raises what the run raises.
        """
        flight = self._flights.get(key)
        shared = flight is not None and not flight.task.done()
        if flight is None or not shared:
            flight = self._flights[key] = _Flight(start())
            flight.task.add_done_callback(partial(self._landed, key, flight))
        flight.readers += 1
        try:
            async with aclosing(flight.read()) as items:
                async for item in items:
                    yield item, shared
        finally:
            flight.readers -= 1
            if not flight.readers:
                self._forget(key, flight)
                await _ended(flight.task)

    def _landed(self, key: str, flight: _Flight[Item], _task: "asyncio.Task[None]") -> None:
        self._forget(key, flight)

    def _forget(self, key: str, flight: _Flight[Item]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _ended(task: "asyncio.Task[None]") -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=_CLOSING_S)
