"""PostgreSQL by asyncpg: each transaction begins with its tenant, in the same trip, also behind PgBouncer."""

from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

TENANT = "trellis.tenant"
"""The setting of a transaction that the row policies compare a row's tenant with."""
IDLE_IN_TRANSACTION_S = 60.0
LOCK_WAIT_S = 10.0
CONNECT_S = 5.0
# A position as a number: the distance from the log's beginning.
_POSITION = text("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
_REPLAYED = text(
    "SELECT NOT pg_is_in_recovery() OR pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') >= CAST(:position AS bigint)"
)


@dataclass(frozen=True, slots=True)
class ServerPool:
    """How a process talks to a server. `size` connections; `statement_s` ends a statement that takes longer.

    Args:
        pooled: behind PgBouncer in transaction mode. The next transaction may be another server connection's, so
            nothing is prepared under a name, and what holds for a session is said in each transaction.
    """

    size: int = 5
    statement_s: float = 30.0
    pooled: bool = False

    @property
    def limits(self) -> dict[str, str]:
        """Settings of PostgreSQL, in milliseconds."""
        seconds = {
            "statement_timeout": self.statement_s,
            "lock_timeout": LOCK_WAIT_S,
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_S,
        }
        return {name: str(round(value * 1000)) for name, value in seconds.items()}


class TenantConnection(asyncpg.Connection):  # type: ignore[misc]
    """Sends what a transaction must begin with along with its BEGIN. `beginning` is set before each one."""

    __slots__ = ("beginning",)

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.beginning = ""

    async def execute(self, query: str, *args: Any, **how: Any) -> str:
        # asyncpg's own transaction: `BEGIN;`, and its levels. Without arguments it is a simple query, which may be two.
        if not args and query.startswith("BEGIN"):
            query += self.beginning
        status: str = await super().execute(query, *args, **how)
        return status


def open_engine(url: str, pool: ServerPool) -> AsyncEngine:
    """A pool of connections, opened as they are needed. Parameters stay out of error texts: people wrote them."""
    connect_args: dict[str, Any] = {
        "connection_class": TenantConnection,
        "timeout": CONNECT_S,
        "server_settings": {"application_name": "trellis", **({} if pool.pooled else pool.limits)},
    }
    if pool.pooled:
        connect_args |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    engine = create_async_engine(
        url, pool_size=pool.size, max_overflow=0, hide_parameters=True, connect_args=connect_args
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: Any, _record: Any, _proxy: Any) -> None:
    # A driver on the event loop hears at once that its server went; SQLAlchemy's own ping takes three trips.
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def beginning(tenant: str, pool: ServerPool) -> str:
    """What follows a transaction's BEGIN."""
    settings = {TENANT: tenant} | (pool.limits if pool.pooled else {})
    calls = ", ".join(f"set_config('{name}', {_quoted(value)}, true)" for name, value in settings.items())
    return f" SELECT {calls};"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


async def replayed(connection: Any, *, at_least: int) -> bool:
    """Whether the server that the connection's transaction is on has all up to a position of the log.

    A server that is no standby has. Positions are bytes of the write-ahead log (LSN).
    """
    return bool(await connection.scalar(_REPLAYED, {"position": at_least}))


async def position(connection: Any) -> int:
    """How far the log of this server, which is no standby, is written; what was committed before lies before it."""
    return int(await connection.scalar(_POSITION))
