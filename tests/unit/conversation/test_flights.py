"""A run that many read."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from app.conversation.flights import Flights


class Source:
    """Counts how often it was begun; gives what it is told to, when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = self.ended = 0
        self.go = asyncio.Event()
        self.error = error

    async def __call__(self) -> AsyncGenerator[int, None]:
        self.begun += 1
        try:
            yield 1
            await self.go.wait()
            if self.error:
                raise self.error
            yield 2
        finally:
            self.ended += 1


async def read(flights: Flights[int], source: Source, key: str = "k") -> list[tuple[int, bool]]:
    return [item async for item in flights.ride(key, source)]


async def test_a_hundred_readers_share_one_run_and_all_read_everything() -> None:
    flights, source = Flights[int](), Source()
    readers = [asyncio.create_task(read(flights, source)) for _ in range(99)]
    await asyncio.sleep(0.01)
    readers.append(asyncio.create_task(read(flights, source)))  # after the first item
    await asyncio.sleep(0.01)
    source.go.set()
    results = await asyncio.gather(*readers)
    assert source.begun == 1
    assert all([item for item, _ in result] == [1, 2] for result in results)
    assert sum(not result[0][1] for result in results) == 1


async def test_a_run_that_is_over_is_not_joined() -> None:
    flights, source = Flights[int](), Source()
    source.go.set()
    await read(flights, source)
    assert (await read(flights, source))[0] == (1, False)
    assert source.begun == 2


async def test_other_keys_are_other_runs() -> None:
    flights, source = Flights[int](), Source()
    source.go.set()
    await asyncio.gather(read(flights, source, "a"), read(flights, source, "b"))
    assert source.begun == 2


async def test_every_reader_gets_the_error() -> None:
    flights, source = Flights[int](), Source(ValueError("broken"))
    readers = [asyncio.create_task(read(flights, source)) for _ in range(3)]
    await asyncio.sleep(0.01)
    source.go.set()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert [str(result) for result in results] == ["broken"] * 3


async def test_one_who_leaves_does_not_end_it_for_the_others_but_the_last_one_does() -> None:
    flights, source = Flights[int](), Source()

    async def first_only(rides: AsyncGenerator[tuple[int, bool], None]) -> None:
        async with aclosing(rides) as items:
            async for _ in items:
                break

    staying = asyncio.create_task(read(flights, source))
    await asyncio.sleep(0.01)
    await first_only(flights.ride("k", source))
    assert source.ended == 0
    staying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await staying
    assert source.ended == 1
    source.go.set()
    assert [item for item, _ in await read(flights, source)] == [1, 2]
