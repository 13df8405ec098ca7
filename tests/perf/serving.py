"""A server of a benchmark as a process of its own: prints a key, then serves on the port until it is ended.

python -m tests.perf.serving bare PORT
python -m tests.perf.serving ours PORT HOME
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI

from app.main import create_app
from tests.perf.test_http import bare
from tests.support.service import running


async def serve(app: FastAPI, key: str, port: int) -> None:
    print(key, flush=True)
    config = uvicorn.Config(app, port=port, access_log=False, log_config=None, lifespan="off", server_header=False)
    await uvicorn.Server(config).serve()


async def main(name: str, port: int, home: Path | None) -> None:
    async with AsyncExitStack() as stack:
        if home is None:
            app, key = bare()
        else:
            # Without the worker: what is measured is the request, not the decision that follows it.
            service = await stack.enter_async_context(running(home, knowledge=False, worker=False))
            app, key = create_app(service.container), service.key
        await serve(app, key, port)


if __name__ == "__main__":
    folder = Path(sys.argv[3]) if sys.argv[1] == "ours" else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), folder))
