"""Samples that are loaded beside what is served: not ready before the last, and a broken one is told."""

import asyncio

import pytest

from app.errors import Conflict
from app.http.health import Readiness
from app.provision import Loading


async def test_a_process_is_ready_with_the_last_sample() -> None:
    gate, loaded = asyncio.Event(), list[str]()

    async def first() -> int:
        loaded.append("first")
        return 1

    async def second() -> int:
        await gate.wait()
        loaded.append("second")
        return 1

    readiness = Readiness({})
    assert (await readiness.run()).ready
    loading = Loading([first, second])
    readiness.add("sample", loading.check)
    state = await readiness.run()
    assert (state.ready, state.checks[0].cause) == (False, "The sample is being loaded.")
    gate.set()
    await asyncio.wait([loading._task])
    await loading.check()
    assert loaded == ["first", "second"]


async def test_a_sample_that_cannot_be_loaded_keeps_it_from_being_ready() -> None:
    async def broken() -> int:
        raise Conflict("There is another one.")

    loading = Loading([broken])
    await asyncio.wait([loading._task])
    with pytest.raises(Conflict, match="another one"):
        await loading.check()


async def test_a_process_that_ends_does_not_wait_for_samples() -> None:
    async def long() -> int:
        await asyncio.Event().wait()
        return 1

    loading = Loading([long])
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await loading.stop()
