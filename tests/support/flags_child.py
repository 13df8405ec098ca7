"""A process that says when it sees a kill switch thrown: `python -m tests.support.flags_child <settings as JSON>`."""

import asyncio
import sys

import orjson

from app.clock import system_clock
from app.governance.flags import Flags, kill_switch
from app.settings import load_settings
from tests.support.servers import serving

PACK, TENANT = "leads", "acme"
LOOK_S = 0.005


async def main(overrides: bytes) -> None:
    async with serving(load_settings({}, **orjson.loads(overrides))) as db:
        flags = Flags(db, system_clock)
        flags.declare(kill_switch(PACK))
        await flags.start()
        seen = None
        while True:
            killed = flags.killed(PACK, TENANT)
            if killed != seen:
                print("killed" if killed else "running", flush=True)
                seen = killed
            await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].encode()))
