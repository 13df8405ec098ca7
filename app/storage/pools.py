"""Pools of connections that tell how long they were waited for."""

import time
from collections.abc import Callable

from sqlalchemy import AsyncAdaptedQueuePool, QueuePool
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection

Waited = Callable[[float], None]
"""Hears the seconds that a task waited for a connection, a new one's opening included."""


def timed_pool(waited: Waited) -> type[AsyncAdaptedQueuePool]:
    """SQLAlchemy's pool, with a clock: it has no event for the moment when a connection is asked for."""

    class TimedPool(AsyncAdaptedQueuePool):
        # Else its logger would have our name, and not the level that SQLAlchemy's have.
        _sqla_logger_namespace = "sqlalchemy.pool.TimedPool"

        def connect(self) -> PoolProxiedConnection:
            started = time.perf_counter()
            try:
                return super().connect()
            finally:
                waited(time.perf_counter() - started)

    return TimedPool


def in_use(engine: AsyncEngine) -> int:
    """Connections of the engine's pool that somebody works with."""
    return _pool(engine).checkedout()


def idle(engine: AsyncEngine) -> int:
    """Open connections of the engine's pool that nobody works with."""
    return _pool(engine).checkedin()


def _pool(engine: AsyncEngine) -> QueuePool:
    assert isinstance(engine.pool, QueuePool)
    return engine.pool
