"""A console with an admin, an agent and a viewer of one tenant, and a stranger."""

from collections.abc import AsyncIterator

import pytest

from app.clock import Clock
from app.principal import Role
from app.storage.db import Database
from tests.support.console import ConsoleContainer, Visitor, make_key, visiting


@pytest.fixture
def container(db: Database, clock: Clock) -> ConsoleContainer:
    return ConsoleContainer(db, clock)


@pytest.fixture
async def stranger(container: ConsoleContainer) -> AsyncIterator[Visitor]:
    async with visiting(container.app()) as visitor:
        yield visitor


async def _signed_in(container: ConsoleContainer, role: Role, tenant: str = "acme") -> AsyncIterator[Visitor]:
    _, secret = await make_key(container, role, tenant)
    async with visiting(container.app()) as visitor:
        assert (await visitor.sign_in(secret)).status_code == 303
        yield visitor


@pytest.fixture
async def admin(container: ConsoleContainer) -> AsyncIterator[Visitor]:
    async for visitor in _signed_in(container, Role.ADMIN):
        yield visitor


@pytest.fixture
async def agent(container: ConsoleContainer) -> AsyncIterator[Visitor]:
    async for visitor in _signed_in(container, Role.AGENT):
        yield visitor


@pytest.fixture
async def viewer(container: ConsoleContainer) -> AsyncIterator[Visitor]:
    async for visitor in _signed_in(container, Role.VIEWER):
        yield visitor


@pytest.fixture
async def rival(container: ConsoleContainer) -> AsyncIterator[Visitor]:
    """An admin of another tenant."""
    async for visitor in _signed_in(container, Role.ADMIN, "rival"):
        yield visitor
