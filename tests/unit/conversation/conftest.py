"""The room over one database, closed at the end."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.conversation import Builder, Talk, build_talk


@pytest.fixture
async def talking(db: Database, clock: StillClock) -> AsyncIterator[Builder]:
    """`talking(model, ..., tools=...)` builds a room."""
    built: list[Talk] = []

    def build(*models: Any, **settings: Any) -> Talk:
        built.append(build_talk(db, clock, *models, **settings))
        return built[-1]

    yield build
    for talk in built:
        await talk.assistant.close()
        await talk.caches.close()
