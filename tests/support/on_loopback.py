"""An aiohttp application on a free port of this machine, for a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def on_loopback(app: web.Application, *, leaves_s: float = 1.0) -> AsyncIterator[str]:
    """Its address.

    Args:
        leaves_s: requests under way are given so long in the end.
    """
    runner = web.AppRunner(app, shutdown_timeout=leaves_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
