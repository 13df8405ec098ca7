"""The rules at a sixtieth of their windows in a real Prometheus: a fault's alert is pending, fires, and is resolved."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from alerts.model import Pace, Site
from infra.phases import PHASES, PhaseName
from tests.support.components import require
from tests.support.monitoring import running_prometheus
from tests.support.on_loopback import on_loopback
from tests.support.server import free_port

LIMIT_S = 60.0
RATE = 20.0


@dataclass
class Exposition:
    """A process that answers 20 requests a second, of which `failing` (0 to 1) fail. Both series are there at 0."""

    failing: float = 0.0
    good: float = 0.0
    bad: float = 0.0
    seen: float = field(default_factory=time.monotonic)

    async def metrics(self, _request: web.Request) -> web.Response:
        now = time.monotonic()
        answered, self.seen = RATE * (now - self.seen), now
        self.bad += answered * self.failing
        self.good += answered * (1 - self.failing)
        series = 'trellis_http_requests_total{{route="/v1/leads",method="POST",status_class="{}"}} {}\n'
        return web.Response(text=series.format("2xx", self.good) + series.format("5xx", self.bad))


@asynccontextmanager
async def _exposed() -> AsyncIterator[tuple[Exposition, int]]:
    exposition, app = Exposition(), web.Application()
    app.router.add_get("/metrics", exposition.metrics)
    async with on_loopback(app) as address:
        yield exposition, int(address.rpartition(":")[2])


@dataclass(frozen=True)
class Prometheus:
    http: aiohttp.ClientSession
    address: str

    async def get(self, path: str, **parameters: str) -> Any:
        async with self.http.get(f"{self.address}/api/v1/{path}", params=parameters) as response:
            return (await response.json())["data"]

    async def burns(self) -> dict[str, str]:
        """By window: the state of each burn alert that is there."""
        alerts = (await self.get("alerts"))["alerts"]
        burning = [each for each in alerts if each["labels"]["alertname"] == "AvailabilityBudgetBurn"]
        return {each["labels"]["window"]: each["state"] for each in burning}

    async def says(self, expr: str) -> None:
        """Once the expression has a value."""
        async with asyncio.timeout(LIMIT_S):
            while not (await self.get("query", query=expr))["result"]:
                await asyncio.sleep(0.1)

    async def until(self, state: str | None) -> dict[str, str]:
        """Every state that was seen until the alert of the first window is in `state` (None: gone)."""
        async with asyncio.timeout(LIMIT_S):
            while (burns := await self.burns()).get("1h") != state:
                await asyncio.sleep(0.1)
        return burns


async def test_a_burst_of_failures_is_pending_then_fires_and_is_resolved_when_it_ends(tmp_path: Path) -> None:
    require("prometheus")
    site = Site(PHASES[PhaseName.POC], pace=Pace(60))
    async with _exposed() as (exposition, port), aiohttp.ClientSession() as http:
        ports = {"trellis-api": port, "prometheus": free_port(), "alertmanager": free_port()}
        loop = asyncio.get_running_loop()
        running = running_prometheus(tmp_path / "prometheus", site, ports)
        # Starting it waits; the event loop has to answer its scrapes meanwhile.
        prometheus = Prometheus(http, f"http://127.0.0.1:{await loop.run_in_executor(None, running.__enter__)}")
        try:
            # The window of five seconds is full of answered requests.
            await prometheus.says(f"trellis:requests:rate5m > {RATE / 2}")
            assert await prometheus.burns() == {}

            exposition.failing = 1.0
            await prometheus.until("pending")
            await prometheus.until("firing")
            await prometheus.says("trellis:availability_errors:ratio_rate5m > 0.144")
            # Over the longest window, it is evaluated less often than the alert.
            await prometheus.says("trellis:availability_budget_left:ratio < 1")

            exposition.failing = 0.0
            await prometheus.until(None)
            assert await _unwell(prometheus) == {}
        finally:
            await loop.run_in_executor(None, running.__exit__, None, None, None)


async def _unwell(prometheus: Prometheus) -> dict[str, str]:
    """What a live Prometheus could not evaluate, such as a join that matches several series."""
    groups = (await prometheus.get("rules"))["groups"]
    return {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule["health"] == "err"}
