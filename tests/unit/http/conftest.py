"""An application with the whole http room in it, and clients that call it."""

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from app.clock import Clock
from app.storage.db import Database
from tests.support.http_app import Container, build, client_of, key_for


@pytest.fixture
def container(db: Database, clock: Clock) -> Container:
    return Container(db, clock)


@pytest.fixture
def app(container: Container) -> FastAPI:
    return build(container)


@pytest.fixture
async def secret(db: Database, clock: Clock) -> str:
    return await key_for(db, clock, "acme")


@pytest.fixture
async def api(app: FastAPI, secret: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a valid key of the tenant 'acme'."""
    async with client_of(app, secret) as client:
        yield client


@pytest.fixture
async def stranger(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without a key."""
    async with client_of(app) as client:
        yield client
