"""Clients that go away before their answer is there."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from app.errors import TrellisError

Result = TypeVar("Result")


class Abandoned(TrellisError):
    status, code, title = 499, "abandoned", "Nobody was listening"


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """What the work gives; it is cancelled when the client goes away before. Raises Abandoned then, and as the work."""
    working = asyncio.create_task(work)
    await first_of(working, asyncio.create_task(gone(receive)))
    if working.cancelled():
        raise Abandoned("The client went away before the answer was there.")
    return working.result()


async def gone(receive: Receive) -> None:
    """Returns when the client went away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def first_of(*tasks: asyncio.Task[Any]) -> None:
    """Waits for the first to end and ends the others. Raises what it raised."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
