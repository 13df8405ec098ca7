"""A process that serves, from its start to its end: what happens in which order when it is asked to end."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from app import launch
from app.container import Container, Parts, migrate_database, open_container
from app.container.grace import WORK_SHARE
from app.governance.privacy import scrub
from app.main import create_app, create_probes
from app.process import freeze_heap
from app.provision import load_local
from app.settings import Settings
from app.telemetry.logs import configure_logs

_CUT_SHARE = 0.9
"""Of the time of grace, after which the server cuts what is still connected."""
KEEP_ALIVE_S = 75
"""Idle connections are kept longer than load balancers keep theirs (60 s, infra/aws/balancer.py): who ends one first
answers 502 to whatever was on its way."""


async def serve(settings: Settings, *, sample: bool) -> None:
    """The API, with the worker inside where the settings say so, until SIGTERM or SIGINT."""
    launch.refuse_taken_port(settings)
    configure_logs(as_json=settings.log_json, level=settings.log_level, scrub=scrub)
    if sample:
        await migrate_database(settings)
    async with open_container(settings) as container:
        loading = await load_local(container) if sample else None
        try:
            await _until_asked(container, create_app(container))
        finally:
            if loading is not None:
                await loading.stop()


async def work(settings: Settings, told: Callable[[], None]) -> None:
    """Background jobs alone, with probes and figures on the port, until SIGTERM or SIGINT; `told` once it works."""
    launch.refuse_taken_port(settings)
    async with open_container(settings, Parts.WORKER) as container:
        told()
        await _until_asked(container, create_probes(container))


class _Server(uvicorn.Server):
    """Leaves signals to us: the container is closed after the last answer, not skipped by a second signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _until_asked(container: Container, app: FastAPI) -> None:
    server = _Server(_config(container.settings, app))
    freeze_heap()
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(container.stopped())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        await _leave(container, server)
    stopping.cancel()
    await serving


async def _leave(container: Container, server: uvicorn.Server) -> None:
    """Says that it ends, waits until who sends requests has seen it, closes the port, ends what is under way."""
    container.readiness.end()
    await container.kit.jobs.take_no_more()
    await asyncio.sleep(container.settings.drain_s)
    container.grace.begin()
    server.should_exit = True
    # Open streams end with a word before the server cuts what is still connected.
    await container.kit.streams.drain(container.grace.left(WORK_SHARE))


def _config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s * _CUT_SHARE)),
    )
