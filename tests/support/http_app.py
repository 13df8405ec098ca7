"""An application with the whole http room in it, and clients that call it in this process."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx2
from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock, system_clock
from app.errors import Conflict
from app.governance.keys import KeyRing, create_key, create_tenant
from app.governance.models_keys import Tenant
from app.governance.user_tokens import UserTokens
from app.http.deps import CurrentPrincipal, CurrentUser, Once, require, user_limit
from app.http.health import Readiness
from app.http.install import install
from app.http.rates import RateLimits, RatePlan
from app.ids import new_id
from app.principal import Principal, Role, Tier
from app.settings import Settings, load_settings
from app.storage.db import Database
from app.telemetry.metrics import Metrics

RAW_LIMIT = 4 << 20


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=50)
    count: int = Field(0, ge=0, le=1000)
    tags: list[str] = []
    data: dict[str, Any] = {}


class Made(BaseModel):
    id: str
    name: str


async def do_effect(session: AsyncSession, name: str) -> Made:
    """One row is one effect."""
    row = Tenant(id=new_id("fx"), name=name, created_at=system_clock())
    session.add(row)
    await session.flush()
    return Made(id=row.id, name=name)


async def effects(db: Database, name: str | None = None) -> int:
    """How many effects were committed."""
    where = [Tenant.id.like("fx_%")] + ([Tenant.name == name] if name else [])
    async with db.operator_reading() as session:
        return int((await session.scalar(select(func.count()).select_from(Tenant).where(*where))) or 0)


writes = APIRouter(prefix="/items")
reads = APIRouter(prefix="/items")
console = APIRouter(prefix="/console")


@writes.post("", status_code=201)
async def make(item: Item, once: Once) -> Any:
    async def work(session: AsyncSession) -> Made:
        made = await do_effect(session, item.name)
        if item.name == "taken":
            raise Conflict("The name is taken.")
        return made

    return await once.run(201, work)


@writes.post("/{item_id}/done")
async def done(item_id: str, once: Once) -> Any:
    return await once.run(200, lambda session: do_effect(session, item_id))


@writes.post("/upload")
async def upload(once: Once, file: Annotated[UploadFile, File()], title: Annotated[str, Form()] = "") -> Any:
    size = len(await file.read())
    return await once.run(200, lambda session: do_effect(session, f"{title}:{size}"))


@writes.post("/raw")
async def raw(request: Request) -> dict[str, int]:
    return {"bytes": sum([len(chunk) async for chunk in request.stream()])}


@writes.post("/form")
async def form(title: Annotated[str, Form()]) -> dict[str, str]:
    return {"title": title}


@writes.delete("/all", dependencies=[require(Role.ADMIN)])
async def delete_all() -> dict[str, bool]:
    return {"deleted": True}


@reads.get("/who")
async def who(principal: CurrentPrincipal) -> dict[str, str]:
    return {"tenant": principal.tenant_id, "actor": principal.actor, "role": principal.role}


@reads.get("/mine", dependencies=[user_limit("mine", 3)])
async def mine(principal: CurrentUser) -> dict[str, str]:
    return {"tenant": principal.tenant_id, "user": principal.user}


@reads.get("/page")
async def page(limit: Annotated[int, Field(ge=1, le=200)] = 50) -> dict[str, int]:
    return {"limit": limit}


@reads.get("/boom")
async def boom() -> None:
    raise RuntimeError("the password is hunter2")


@reads.get("/forgot/{item_id}")
async def forgot(item_id: str) -> dict[str, str]:
    """Forgot to ask for the principal."""
    return {"item": item_id}


@console.get("/who")
async def console_who(principal: CurrentPrincipal) -> dict[str, str]:
    return {"tenant": principal.tenant_id}


@dataclass
class Container:
    """The part of the container that the room needs, built for a test."""

    db: Database
    clock: Clock
    plan: RatePlan = field(default_factory=lambda: RatePlan(dict.fromkeys(Tier, 1_000_000)))
    open_as: Principal | None = None
    settings: Settings = field(default_factory=lambda: load_settings({}))
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    checks: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.keys = KeyRing(self.db, self.clock)
        self.users = UserTokens(b"a secret of tests", self.keys, self.clock)
        self.rates = RateLimits(self.metrics, plan=self.plan)
        self.readiness = Readiness(self.checks)


def build(container: Container) -> FastAPI:
    """`/v1/items` behind the gate, `/console` open to anybody whom its own endpoint admits."""
    app = FastAPI()
    app.include_router(reads, prefix="/v1")
    app.include_router(writes, prefix="/v1")
    app.include_router(console)
    install(app, container, body_limits={"/v1/items/raw": RAW_LIMIT})
    return app


def client_of(app: FastAPI, secret: str | None = None, address: str = "10.0.0.1") -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    transport = httpx2.ASGITransport(app, client=(address, 5000))
    return httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers)


async def key_for(db: Database, clock: Clock, tenant_id: str, *, role: Role = Role.AGENT, tier: Tier = Tier.PRO) -> str:
    """The secret of a new key of a new tenant."""
    async with db.operator_transaction() as session:
        await create_tenant(session, tenant_id, tenant_id.title(), clock())
        return (await create_key(session, tenant_id, role, tier, "test", clock())).secret
