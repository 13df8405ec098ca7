"""The service under a fault: its data prepared once in this process, then served by processes of their own."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.container import Container, Parts, migrate_database, open_container
from app.governance.keys import create_key
from app.packs.leads.sample_data import SAMPLE
from app.principal import Role, Tier
from app.provision import provision_tenant
from app.settings import PREFIX, load_settings
from tests.support.server import Server, free_port

TENANT = "acme"
# Questions by the thousand: no budget of a day is what is tried here.
NO_LIMIT = {"tenant_daily_tokens": 10**12, "tenant_daily_usd": 1e9}


@dataclass(frozen=True)
class House:
    """Prepared data. `keys`: an admin's key of each tenant, by its name. `settings`: by name, as servers get them."""

    home: Path
    settings: Mapping[str, Any]
    keys: Mapping[str, str]

    @property
    def key(self) -> str:
        return self.keys[TENANT]


async def furnish(
    home: Path,
    settings: Mapping[str, Any],
    *,
    tenants: Sequence[str] = (TENANT,),
    bots: Sequence[str] = (),
    tiers: Mapping[str, Tier] = {},
) -> House:
    """Schema, tenants with a key each (of tier pro where `tiers` has no other), and for each of `bots` the sample's
    pages as documents of the first tenant."""
    home.mkdir(parents=True, exist_ok=True)
    wanted = NO_LIMIT | dict(settings)
    loaded = load_settings({}, home=home, log_level="ERROR", **wanted)
    await migrate_database(loaded)
    async with open_container(loaded, Parts.COMMAND) as container:
        keys = {tenant: await _tenant(container, tenant, tiers.get(tenant, Tier.PRO)) for tenant in tenants}
        for bot in bots:
            for page in sorted((SAMPLE / "knowledge").glob("*.md")):
                await container.kit.ingestor.put_page(tenants[0], bot, page.read_text("utf-8"))
    return House(home, wanted, keys)


async def _tenant(container: Container, tenant: str, tier: Tier) -> str:
    async with container.db.operator_transaction() as session:
        await provision_tenant(container, session, tenant, tenant.title())
        return (await create_key(session, tenant, Role.ADMIN, tier, "chaos", container.clock())).secret


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as variables."""
    return {f"{PREFIX}{name}".upper(): str(value) for name, value in settings.items() if value is not None}


@asynccontextmanager
async def serving(house: House, name: str = "api", **settings: Any) -> AsyncIterator[Server]:
    """One server process over the house, ready; killed at the end where it still runs. Its log is in its folder."""
    home = house.home if "database_url" not in house.settings else house.home / name
    home.mkdir(exist_ok=True)
    chosen = {"log_level": "WARNING", **house.settings, **settings}
    with Server(home, free_port(), **environment(chosen)) as server:
        await asyncio.to_thread(server.wait_ready)
        yield server
