"""The console in an application of its own, and browsers without a screen that visit it."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from app.agent.tools import Approvals
from app.clock import Clock
from app.governance.audit import Audit
from app.governance.flags import Flags, FlagSpec, kill_switch
from app.governance.keys import KeyRing, create_key, create_tenant
from app.governance.models_keys import Tenant
from app.governance.user_tokens import UserTokens
from app.http.health import Readiness
from app.http.install import install
from app.http.rates import RateLimits, RatePlan
from app.main import create_app
from app.principal import Principal, Role, Tier
from app.settings import Settings, load_settings
from app.storage.db import Database
from app.telemetry.metrics import Metrics
from app.web.install import install_console
from app.web.pack_pages import PackPages
from tests.support.service import Service

_TOKEN = re.compile(r'name="form_token" value="([^"]*)"')


@dataclass
class Runtime:
    pages: PackPages | None = None


@dataclass
class ConsoleContainer:
    """The part of the container that the console and the http room need."""

    db: Database
    clock: Clock
    settings: Settings = field(default_factory=lambda: load_settings({}, session_secret="s" * 40))
    plan: RatePlan = field(default_factory=RatePlan)
    open_as: Principal | None = None
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    resumers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.audit = Audit(self.clock)
        self.keys = KeyRing(self.db, self.clock)
        self.users = UserTokens(b"a secret of tests", self.keys, self.clock)
        self.rates = RateLimits(self.metrics, plan=self.plan)
        self.readiness = Readiness({})
        self.approvals = Approvals(self.clock, self.audit, self.metrics)
        self.flags = Flags(self.db, self.clock, audit=self.audit)
        self.flags.declare(
            kill_switch("leads"),
            FlagSpec("tone", "formal", "How letters read."),
            FlagSpec("share", 0.5, "A share."),
            FlagSpec("letters", True, "Whether letters are written."),
        )

    def app(self) -> FastAPI:
        app = FastAPI()
        install(app, self)
        install_console(app, self)
        return app


class Visitor:
    """A browser: keeps cookies, sends each form with the token of the page that it was last shown."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client
        self.token = ""

    async def get(self, path: str, **extra: Any) -> httpx2.Response:
        answer = await self.client.get(path, **extra)
        found = _TOKEN.search(answer.text)
        self.token = found[1] if found else self.token
        return answer

    async def post(self, path: str, form: Mapping[str, str] | None = None, **extra: Any) -> httpx2.Response:
        return await self.client.post(path, data={"form_token": self.token, **(form or {})}, **extra)

    async def sign_in(self, key: str, **form: str) -> httpx2.Response:
        await self.get("/console/sign-in")
        return await self.post("/console/sign-in", {"key": key, **form})


@asynccontextmanager
async def visiting(app: Any, base: str = "http://console", address: str = "10.0.0.1") -> AsyncIterator[Visitor]:
    transport = httpx2.ASGITransport(app, client=(address, 5000))
    async with httpx2.AsyncClient(transport=transport, base_url=base) as client:
        yield Visitor(client)


@asynccontextmanager
async def signed_in(service: Service, role: Role) -> AsyncIterator[Visitor]:
    """A visitor of the whole service, with a new key of the role."""
    async with visiting(create_app(service.container)) as visitor:
        assert (await visitor.sign_in(await service.key_with(role))).status_code == 303
        yield visitor


async def make_key(container: Any, role: Role, tenant: str = "acme") -> tuple[str, str]:
    """Id and secret of a new key; its tenant is made where it is missing."""
    async with container.db.operator_transaction() as session:
        if not await _known(session, tenant):
            await create_tenant(session, tenant, tenant.title(), container.clock())
        key = await create_key(session, tenant, role, Tier.STANDARD, "test", container.clock())
    return key.id, key.secret


async def _known(session: Any, tenant: str) -> bool:
    return await session.get(Tenant, tenant) is not None
