"""One call for many who ask at once."""

import asyncio

import pytest

from app.cache.flight import SingleFlight


class Upstream:
    """Waits to be let go; counts calls and cancellations."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        self.error = error

    async def __call__(self) -> int:
        self.calls += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return self.calls


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_hundred_at_once_make_one_call_and_one_of_them_began_it() -> None:
    flights: SingleFlight[int] = SingleFlight()
    upstream = Upstream()
    waiting = [asyncio.create_task(flights.run("k", upstream)) for _ in range(100)]
    await settle()
    upstream.go.set()
    results = await asyncio.gather(*waiting)
    assert upstream.calls == 1
    assert [value for value, _ in results] == [1] * 100
    assert sum(not shared for _, shared in results) == 1
    assert (await flights.run("k", upstream)) == (2, False)


async def test_a_cancelled_leader_does_not_cancel_its_followers() -> None:
    flights: SingleFlight[int] = SingleFlight()
    upstream = Upstream()
    leader = asyncio.create_task(flights.run("k", upstream))
    await settle()
    followers = [asyncio.create_task(flights.run("k", upstream)) for _ in range(5)]
    await settle()
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    upstream.go.set()
    assert await asyncio.gather(*followers) == [(1, True)] * 5
    assert (upstream.calls, upstream.cancelled) == (1, 0)


async def test_the_call_is_cancelled_when_the_last_one_left_and_the_next_begins_anew() -> None:
    flights: SingleFlight[int] = SingleFlight()
    upstream = Upstream()
    waiting = [asyncio.create_task(flights.run("k", upstream)) for _ in range(3)]
    await settle()
    for task in waiting:
        task.cancel()
    await settle()
    assert upstream.cancelled == 1
    upstream.go.set()
    assert await flights.run("k", upstream) == (2, False)


async def test_an_error_reaches_everyone_and_is_not_kept() -> None:
    flights: SingleFlight[int] = SingleFlight()
    upstream = Upstream(ValueError("down"))
    waiting = [asyncio.create_task(flights.run("k", upstream)) for _ in range(3)]
    await settle()
    upstream.go.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    upstream.error = None
    assert await flights.run("k", upstream) == (2, False)


async def test_different_keys_do_not_wait_for_each_other() -> None:
    flights: SingleFlight[int] = SingleFlight()
    slow, quick = Upstream(), Upstream()
    quick.go.set()
    waiting = asyncio.create_task(flights.run("slow", slow))
    assert await flights.run("quick", quick) == (1, False)
    slow.go.set()
    await waiting
