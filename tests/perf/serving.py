"""A server of a benchmark as a process of its own: prints a key, then serves on the port until it is ended.

python -m tests.perf.serving bare PORT               an echo whose key check knows one key by heart
python -m tests.perf.serving ring PORT HOME          an echo with the key check of the service
python -m tests.perf.serving ours PORT HOME          the service
python -m tests.perf.serving chat PORT HOME MODEL    the service with two bots, instrumented as in production
python -m tests.perf.serving told PORT HOME MODEL SHARE COLLECTOR
                                                     the same, with that share of traces sent to a collector; SHARE
                                                     "off": no traces, no metrics, no log lines
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Self

import uvicorn
import uvloop
from fastapi import Depends, FastAPI, Header, HTTPException
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from app.agent.models import ToolMode
from app.clock import system_clock
from app.container import opening
from app.governance.keys import KeyRing, create_key, create_tenant
from app.governance.privacy import scrub
from app.http.rates import RateLimits, RatePlan
from app.main import create_app
from app.packs.leads.sample_data import SAMPLE
from app.principal import Principal, Role, Tier
from app.storage.base import Base
from app.storage.db import Database
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import CATALOGUE, Metrics
from app.telemetry.setup import log_counter
from loadtest.stub.server import KEY
from tests.perf.test_http import bare
from tests.support.service import TENANT, Service, running

BOTS = {"known": (), "asking": ("knowledge_search",)}
SAMPLED = 0.1
NO_LIMIT = 1_000_000_000


class Message(BaseModel):
    message: str


async def ring(home: Path) -> tuple[FastAPI, str]:
    """An echo of FastAPI's that asks the service's own ring of keys, over a database."""
    db = Database(f"sqlite+aiosqlite:///{home / 'ring.db'}")
    async with db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with db.operator_transaction() as session:
        await create_tenant(session, TENANT, "Acme")
        secret = (await create_key(session, TENANT, Role.AGENT, Tier.PRO, "perf", system_clock())).secret
    keys, app = KeyRing(db, system_clock), FastAPI()

    async def holder(authorization: Annotated[str, Header()]) -> Principal:
        principal = await keys.authenticate(authorization.removeprefix("Bearer "))
        if principal is None:
            raise HTTPException(401)
        return principal

    @app.post("/v1/echo")
    async def echo(body: Message, _principal: Annotated[Principal, Depends(holder)]) -> Message:
        return body

    return app, secret


class _Nothing:
    """A metric that nothing comes of, and all of its series."""

    def labels(self, *_values: object, **_named: object) -> Self:
        return self

    def nothing(self, *_values: object) -> None:
        pass

    inc = dec = set = observe = set_function = nothing


class _NoMetrics:
    """In place of `Metrics`: every metric of the catalogue, none of which is kept."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        vars(self).update({spec.attribute: _Nothing() for spec in CATALOGUE})


def _log(metrics: Metrics, level: str) -> None:
    """JSON lines as in production, thrown away at the far end; the container has set the logs up for a test."""
    away = Path(os.devnull).open("w")  # noqa: SIM115
    configure_logs(as_json=True, level=level, scrub=scrub, stream=away, counted=log_counter(metrics))


async def told(stack: AsyncExitStack, home: Path, model: str, share: str, collector: str) -> tuple[FastAPI, str]:
    """`chat`, and how much of it is told."""
    if share != "off":
        return await chat(stack, home, model, otlp_url=collector, trace_sample=float(share))
    opening.build_metrics = lambda _version, _phase: _NoMetrics()  # type: ignore[assignment, return-value]
    return await chat(stack, home, model, "CRITICAL", traces_kept=0)


async def chat(
    stack: AsyncExitStack, home: Path, model: str, level: str = "INFO", **settings: Any
) -> tuple[FastAPI, str]:
    """The service with the bots of `BOTS`, each over the same few pages; a tenth of its traces is kept."""
    made = running(
        home,
        knowledge=False,
        worker=False,
        model_url=model,
        model_name="m",
        model_key=KEY,
        tenant_daily_tokens=NO_LIMIT,
        tenant_daily_usd=float(NO_LIMIT),
        **{"trace_sample": SAMPLED, **settings},
    )
    service = await stack.enter_async_context(made)
    await _set_up(service)
    _log(service.container.metrics, level)
    service.container.rates = RateLimits(service.container.metrics, plan=RatePlan(dict.fromkeys(Tier, NO_LIMIT)))
    return create_app(service.container), service.key


async def _set_up(service: Service) -> None:
    container = service.container
    admin = Principal(TENANT, "bench", Role.ADMIN)
    async with container.db.operator_transaction() as session:
        await container.tool_policies.set(session, admin, "knowledge_search", ToolMode.ALLOW)
    for bot, tools in BOTS.items():
        for page in sorted((SAMPLE / "knowledge").glob("*.md")):
            await container.kit.ingestor.put_page(TENANT, bot, page.read_text("utf-8"))
        answer = await service.client.put(f"/v1/bots/{bot}", json={"tools": tools})
        answer.raise_for_status()


async def serve(app: FastAPI, key: str, port: int) -> None:
    print(key, flush=True)
    config = uvicorn.Config(app, port=port, access_log=False, log_config=None, lifespan="off", server_header=False)
    await uvicorn.Server(config).serve()


async def main(name: str, port: int, *arguments: str) -> None:
    async with AsyncExitStack() as stack:
        if name == "bare":
            app, key = bare()
        elif name == "ring":
            app, key = await ring(Path(arguments[0]))
        elif name == "chat":
            app, key = await chat(stack, Path(arguments[0]), arguments[1])
        elif name == "told":
            app, key = await told(stack, Path(arguments[0]), *arguments[1:])
        else:
            # Without the worker: what is measured is the request, not the decision that follows it.
            service = await stack.enter_async_context(running(Path(arguments[0]), knowledge=False, worker=False))
            app, key = create_app(service.container), service.key
        await serve(app, key, port)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
