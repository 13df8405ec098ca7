"""The whole service in this process: container, worker and API over one data folder."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import select

from app.container import Container, Parts, migrate_database, open_container
from app.governance.keys import create_key
from app.main import create_app
from app.packs.leads.sample_data import SampleData
from app.packs.leads.service import LeadService
from app.principal import Principal, Role, Tier
from app.provision import provision_tenant
from app.settings import load_settings
from app.storage.base import Base

TENANT = "acme"
WAIT_S = 60.0


@dataclass
class Service:
    """A running service and a client that holds an admin's key of `TENANT`."""

    container: Container
    client: httpx2.AsyncClient
    key: str

    async def other_tenant(self, tenant: str = "rival", role: Role = Role.ADMIN) -> str:
        """A key of another, new tenant."""
        async with self.container.db.operator_transaction() as session:
            await provision_tenant(self.container, session, tenant, tenant.title())
            return (await create_key(session, tenant, role, Tier.PRO, "test", self.container.clock())).secret

    async def key_with(self, role: Role) -> str:
        async with self.container.db.operator_transaction() as session:
            return (await create_key(session, TENANT, role, Tier.PRO, "test", self.container.clock())).secret

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """A table's rows of all tenants, in the order of their ids."""
        found = Base.metadata.tables[table]
        async with self.container.db.operator_reading() as session:
            return [dict(row) for row in (await session.execute(select(found).order_by(found.c.id))).mappings()]

    async def load_knowledge(self) -> None:
        kit = self.container.kit
        await SampleData(kit, LeadService(kit)).load_knowledge(Principal(TENANT, "test", Role.ADMIN))

    async def decided(self, lead_ids: Sequence[str], decisions: int = 1) -> list[dict[str, Any]]:
        """The leads' details once each has that many decisions, none of which is still under way."""
        return [await self._decided(lead_id, decisions) for lead_id in lead_ids]

    async def _decided(self, lead_id: str, decisions: int) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            while True:
                lead = (await self.client.get(f"/v1/leads/{lead_id}")).json()
                if len(lead["decisions"]) >= decisions and await self._settled(lead["decisions"]):
                    return (await self.client.get(f"/v1/leads/{lead_id}")).json()
                await asyncio.sleep(0.05)

    async def _settled(self, decision_ids: Sequence[str]) -> bool:
        states = [(await self.client.get(f"/v1/decisions/{one}")).json()["state"] for one in decision_ids]
        return "decided" not in states

    async def explain(self, decision_id: str) -> dict[str, Any]:
        return (await self.client.get(f"/v1/decisions/{decision_id}")).json()


@asynccontextmanager
async def running(
    home: Path, *, knowledge: bool = True, key: str | None = None, **overrides: Any
) -> AsyncIterator[Service]:
    """A service on the embedded default in `home`, or on what `overrides` (settings by name) say.

    `key`: an admin's key of `TENANT` from a former run over the same data, which is then left as it is.
    """
    settings = load_settings({}, home=home, log_level="ERROR", **overrides)
    await migrate_database(settings)
    async with open_container(settings, Parts.SERVER) as container:
        known = key is not None
        secret = key or await _new_tenant(container)
        transport = httpx2.ASGITransport(create_app(container))
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://trellis", headers=headers) as client:
            service = Service(container, client, secret)
            if knowledge and not known:
                await service.load_knowledge()
            yield service


async def _new_tenant(container: Container) -> str:
    """`TENANT` and the secret of an admin's key of it."""
    async with container.db.operator_transaction() as session:
        await provision_tenant(container, session, TENANT, "Acme")
        return (await create_key(session, TENANT, Role.ADMIN, Tier.PRO, "test", container.clock())).secret


def lead(**fields: Any) -> dict[str, Any]:
    """A lead as the API takes it."""
    return {
        "name": "Ada Example",
        "email": "ada@example.org",
        "company": "Example Dairy",
        "language": "en",
        "message": "What does the Operate plan cost for 40 sensors on annual billing?",
    } | fields
