"""A worker process for runs: `python -m tests.support.treatments_child URL EXECUTOR THROUGH`.

Its agents answer for THROUGH chunks and then hang, after which it prints `held`; they never hang where that is below 0.
Prints `ready` once it works; ends on SIGTERM.
"""

import asyncio
import signal
import sys

from app.packs.treatments.stages import RecommendationAsked
from app.storage.db import Database
from tests.support.treatments import bench


async def main(url: str, executor: str, through: int) -> None:
    left = through

    async def before(_asked: RecommendationAsked) -> None:
        nonlocal left
        left -= 1
        if through >= 0 and left < 0:
            print("held", flush=True)
            await asyncio.Event().wait()

    db = Database(url)
    async with bench(db, url, executor=executor) as work:
        work.agents.before = before
        ended = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
        print("ready", flush=True)
        await ended.wait()
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
