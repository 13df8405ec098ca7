"""How late the event loop is: what blocks it delays every request of the process."""

import asyncio
from typing import Final

from prometheus_client import Histogram

EVERY_S: Final = 0.25


async def watch_loop(lag: Histogram) -> None:
    """Asks to be woken again and again, and takes down by how much later it was, in seconds. Until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        asked = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        lag.observe(max(0.0, loop.time() - asked))
