"""The servers of a deployment, one set for the session: PostgreSQL and a standby, PgBouncer before both, Redis Cluster.

As fixtures: `servers`, `server_settings` (settings of the app on a new database) and `backends` (settings of the app,
once embedded and once on the servers).
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from app.cache.connection import connect
from app.cache.marks import RedisMarks
from app.settings import Settings
from app.storage.db import Database
from app.storage.postgres import ServerPool
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.pgbouncer import PgBouncer, running_pgbouncer
from tests.support.postgres import PostgresServer, Replica
from tests.support.redis import RunningCluster

POOL = 12
Backends = dict[str, Any]
"""Settings by name; empty for the embedded default."""


@dataclass(frozen=True)
class Servers:
    """All of them; `pooler` is before the primary, `reading_pooler` before the standby."""

    primary: PostgresServer
    standby: Replica
    pooler: PgBouncer
    reading_pooler: PgBouncer
    redis: RunningCluster

    @contextmanager
    def settings(self) -> Iterator[Backends]:
        """A new database with every table, on the standby too, and a Redis without keys."""
        found = self.primary.new_database(migrated=True)
        self.standby.catch_up()
        self.redis.empty()
        try:
            yield {
                "database_url": self.pooler.url(found.name),
                "database_reader_url": self.reading_pooler.url(found.name),
                "database_direct_url": found.app_url,
                "database_owner_url": found.owner_url,
                "database_pooled": True,
                "redis_url": self.redis.url,
            }
        finally:
            self.primary.drop_database(found.name)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Database]:
    """The database as a process that serves has it: on the servers through PgBouncer, with reads on the standby."""
    async with AsyncExitStack() as stack:
        marks = None
        if settings.redis_url:
            link = connect(settings.redis_url)
            stack.push_async_callback(link.close)
            marks = RedisMarks(link)
        pool = ServerPool(POOL, settings.database_statement_s, settings.database_pooled)
        opened = Database(settings.sqlalchemy_url, reader_url=settings.database_reader_url, pool=pool, marks=marks)
        stack.push_async_callback(opened.close)
        yield opened


@pytest.fixture(scope="session")
def servers(postgres_server: PostgresServer, whole_redis_cluster: RunningCluster) -> Iterator[Servers]:
    with (
        postgres_server.replica() as standby,
        running_pgbouncer(postgres_server.port) as pooler,
        running_pgbouncer(standby.port) as reading_pooler,
    ):
        yield Servers(postgres_server, standby, pooler, reading_pooler, whole_redis_cluster)


@pytest.fixture
def server_settings(servers: Servers) -> Iterator[Backends]:
    with servers.settings() as found:
        yield found


@pytest.fixture(scope="session")
def beside() -> Iterator[BlockingPortal]:
    """An event loop in a thread of its own, for servers that must answer whatever the test's own loop does."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def qdrant_settings(beside: BlockingPortal) -> Iterator[Backends]:
    """Qdrant's API by the fake over the embedded engine: no package manager here has the server."""
    with beside.wrap_async_context_manager(FakeQdrant()) as fake:
        yield {"vectors_url": fake.url, "vectors_key": KEY}


@pytest.fixture(params=["embedded", "servers"])
def backends(request: pytest.FixtureRequest) -> Backends:
    """What names the backends: both sets, and every contract holds on both."""
    if request.param == "embedded":
        return {}
    return request.getfixturevalue("server_settings") | request.getfixturevalue("qdrant_settings")
