"""CPU time of one request through the whole edge, beside a bare FastAPI echo with a key check.

Run with `pytest tests/perf/test_http.py --benchmark-only`; a round is 200 requests, so divide by 200.
"""

import asyncio
import hashlib
import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import orjson
import pytest
import structlog
from fastapi import Depends, FastAPI, Header, HTTPException
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from app.clock import system_clock
from app.governance.keys import KeyRing, create_key, create_tenant
from app.governance.privacy import scrub
from app.http.deps import CurrentPrincipal
from app.http.health import Readiness
from app.http.install import install
from app.http.rates import RateLimits, RatePlan
from app.principal import Role, Tier
from app.settings import load_settings
from app.storage.base import Base
from app.storage.db import Database
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import Metrics
from tests.perf.figures import record

REQUESTS = 200
BODY = orjson.dumps({"email": "ada@example.org", "name": "Ada Lovelace", "message": "We need 40 seats. " * 20})


class Echo(BaseModel):
    email: str
    name: str
    message: str


@pytest.fixture(autouse=True)
def production_logs() -> Iterator[None]:
    """JSON lines, masked, as in production, into memory that is thrown away."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure_logs(as_json=True, level="INFO", scrub=scrub, stream=io.StringIO())
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def bare() -> tuple[FastAPI, str]:
    app = FastAPI()
    secret = "trl_" + "a" * 40
    known = {hashlib.sha256(secret.encode()).hexdigest(): "acme"}

    async def tenant(authorization: Annotated[str, Header()]) -> str:
        found = known.get(hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest())
        if found is None:
            raise HTTPException(401)
        return found

    @app.post("/v1/echo")
    async def echo(body: Echo, _tenant: Annotated[str, Depends(tenant)]) -> Echo:
        return body

    return app, secret


async def full(path: Path) -> tuple[FastAPI, str]:
    db = Database(f"sqlite+aiosqlite:///{path / 'perf.db'}")
    async with db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with db.operator_transaction() as session:
        await create_tenant(session, "acme", "Acme")
        secret = (await create_key(session, "acme", Role.AGENT, Tier.PRO, "perf", system_clock())).secret
    metrics = Metrics(CollectorRegistry())
    services = SimpleNamespace(
        settings=load_settings({}),
        db=db,
        clock=system_clock,
        metrics=metrics,
        keys=KeyRing(db, system_clock),
        rates=RateLimits(metrics, plan=RatePlan(dict.fromkeys(Tier, 100000000))),
        readiness=Readiness({}),
        open_as=None,
    )
    app = FastAPI()

    @app.post("/v1/echo")
    async def echo(body: Echo, _principal: CurrentPrincipal) -> Echo:
        return body

    install(app, services)
    return app, secret


async def call(app: FastAPI, secret: str, times: int = REQUESTS) -> None:
    headers = [
        (b"host", b"localhost"),
        (b"authorization", f"Bearer {secret}".encode()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(BODY)).encode()),
        (b"user-agent", b"bench"),
        (b"accept", b"*/*"),
    ]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    for _ in range(times):
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/echo",
            "raw_path": b"/v1/echo",
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        await app(scope, receive, send)
    assert statuses == [200] * times


def measure(name: str, benchmark: Any, runner: asyncio.Runner, app: FastAPI, secret: str) -> None:
    runner.run(call(app, secret))
    benchmark(lambda: runner.run(call(app, secret)))
    record(name, cpu_ms_per_request=benchmark.stats.stats.median / REQUESTS * 1000)


@pytest.mark.benchmark(group="http", timer=time.process_time, min_rounds=15)
def test_a_bare_echo_with_a_key_check(benchmark: Any, runner: asyncio.Runner) -> None:
    app, secret = bare()
    measure("http_bare_echo", benchmark, runner, app, secret)


@pytest.mark.benchmark(group="http", timer=time.process_time, min_rounds=15)
def test_the_same_echo_behind_the_edge(benchmark: Any, runner: asyncio.Runner, tmp_path: Path) -> None:
    app, secret = runner.run(full(tmp_path))
    measure("http_edge_echo", benchmark, runner, app, secret)
    runner.run(app.state.container.db.close())
