"""What the contract tests stand on: each runs on the embedded default and on the servers of a deployment."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.settings import Settings, load_settings
from app.storage.db import Database
from tests.support.servers import Backends, serving


@dataclass(frozen=True)
class Places:
    """The database's addresses: for processes that serve, and for those that run jobs."""

    front: str
    worker: str


@pytest.fixture
def settings(backends: Backends, tmp_path: Path) -> Settings:
    return load_settings({}, home=tmp_path, log_level="ERROR", **backends)


@pytest.fixture
def places(settings: Settings, tmp_path: Path, empty_database: Path) -> Places:
    """Of a database with every table."""
    if settings.database_url is None:
        shutil.copy(empty_database, tmp_path / "trellis.db")
    return Places(settings.sqlalchemy_url, settings.direct_database_url)


@pytest.fixture
async def database(settings: Settings, places: Places) -> AsyncIterator[Database]:
    async with serving(settings) as opened:
        yield opened
