"""PostgreSQL by asyncpg: each transaction begins with its tenant, in the same trip, also behind PgBouncer."""

from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.errors import ConfigError
from app.storage.marks import TIMELINE_BITS
from app.storage.moved import tell_moved
from app.storage.pools import Waited, timed_pool

TENANT = "trellis.tenant"
"""The setting of a transaction that the row policies compare a row's tenant with."""
IDLE_IN_TRANSACTION_S = 60.0
LOCK_WAIT_S = 10.0
CONNECT_S = 5.0
AWAY = (DBAPIError, PoolTimeout, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""What a server that is away raises, through SQLAlchemy or past it."""
# Of one server of several: another may do.
_ELSEWHERE = (OSError, TimeoutError, asyncpg.TargetServerAttributeNotMatched, asyncpg.CannotConnectNowError)
_READ_ONLY = "25006"
# In the simple protocol: one trip, nothing prepared, no transaction around it.
# What was committed is flushed, but where nobody waits for that; a log's unflushed end may belong to no commit, and
# stay where it is for seconds.
_POSITION = (
    "SELECT pg_walfile_name(at), at FROM (SELECT CASE current_setting('synchronous_commit') "
    "WHEN 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END AS at) AS position"
)
# A server that was promoted has a log of its own. A standby learns of a new timeline at its next checkpoint.
_REPLAYED = text(
    "SELECT pg_is_in_recovery(), "
    "(SELECT timeline_id FROM pg_control_checkpoint()) = CAST(:timeline AS int) "
    "AND pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') >= CAST(:at AS numeric)"
)


_ROOM = text("""
SELECT least(
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int,
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
)
""")


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
        if args or not query.startswith("BEGIN"):
            status: str = await super().execute(query, *args, **how)
            return status
        try:
            status = await super().execute(query + self.beginning, **how)
        except BaseException:
            # It may have begun, for this tenant; neither asyncpg nor SQLAlchemy would end it before the next one's.
            self.terminate()
            raise
        return status


def open_engine(url: str, pool: ServerPool, waited: Waited) -> AsyncEngine:
    """A pool of connections, opened as they are needed. Parameters stay out of error texts: people wrote them."""
    connect_args: dict[str, Any] = {
        "async_creator_fn": _connect,
        "connection_class": TenantConnection,
        "timeout": CONNECT_S,
        "server_settings": {"application_name": "trellis", **({} if pool.pooled else pool.limits)},
    }
    if pool.pooled:
        connect_args |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    engine = create_async_engine(
        url,
        poolclass=timed_pool(waited),
        pool_size=pool.size,
        max_overflow=0,
        hide_parameters=True,
        connect_args=connect_args,
    )
    event.listen(engine.sync_engine, "checkout", _take)
    event.listen(engine.sync_engine, "handle_error", _leave_standby)
    tell_moved(engine.sync_engine)
    return engine


async def _connect(**how: Any) -> asyncpg.Connection:
    """Where an address names several servers, the first one that answers and is of the wanted kind.

    The driver's own way has one time limit for all of them: a machine that is gone takes it all.
    """
    hosts, ports = how.pop("host", None), how.pop("port", None)
    if not isinstance(hosts, list):
        hosts, ports = [hosts], [ports]
    failed: Exception | None = None
    for host, port in zip(hosts, ports, strict=True):
        try:
            return await asyncpg.connect(host=host, port=port, **how)
        except _ELSEWHERE as error:
            failed = error
    raise asyncpg.ClientCannotConnectError(str(failed) or "no answer in time") from failed


def _leave_standby(context: ExceptionContext) -> None:
    # The primary of before, back as a standby: its connections are of no use to one who writes.
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True


async def check_room(engine: AsyncEngine, wanted: int) -> None:
    """Raises ConfigError where the server never lets this process have that many connections. Nothing on SQLite."""
    if engine.dialect.name != "postgresql":
        return
    async with engine.connect() as connection:
        most = int((await connection.execute(_ROOM)).scalar_one())
    if wanted > most:
        raise ConfigError(
            f"This process may open {wanted} connections and PostgreSQL lets its login have {most} for all processes "
            "(max_connections less those kept for superusers, or a limit of the login or the database): "
            "lower TRELLIS_DATABASE_POOL_SIZE or raise that limit."
        )


def _take(connection: Any, _record: Any, _proxy: Any) -> None:
    # A driver on the event loop hears at once that its server went; SQLAlchemy's own ping takes three trips.
    if connection.driver_connection.is_closed():
        raise DisconnectionError
    # Who asks without a session is no tenant, and not the one before.
    connection.driver_connection.beginning = ""


def beginning(tenant: str, pool: ServerPool) -> str:
    """What follows a transaction's BEGIN."""
    settings = {TENANT: tenant} | (pool.limits if pool.pooled else {})
    calls = ", ".join(f"set_config('{name}', {_quoted(value)}, true)" for name, value in settings.items())
    return f" SELECT {calls};"


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class NotAStandby(Exception):
    """The server that was taken for a replica has a log of its own."""


async def replayed(connection: Any, *, at_least: int) -> bool:
    """Whether the standby that the connection's transaction is on has all up to a position.

    Raises NotAStandby: what such a server has, positions of the primary's log do not say.
    """
    timeline, at = divmod(at_least, 1 << TIMELINE_BITS)
    standby, there = (await connection.execute(_REPLAYED, {"timeline": timeline, "at": at})).one()
    if not standby:
        raise NotAStandby
    return bool(there)


async def position(engine: AsyncEngine) -> int:
    """How far the log of the primary is written; what was committed before lies before it.

    The log's timeline (it changes when a standby takes over), and after it 64 bits of bytes since the log's beginning.
    Raises one of `AWAY`.
    """
    async with engine.connect() as connection:
        return await tell_position((await connection.get_raw_connection()).driver_connection)


async def tell_position(driver: Any) -> int:
    """`position` on a connection of asyncpg that is in no transaction."""
    answer = bytearray()

    async def take(part: bytes) -> None:
        answer.extend(part)

    await driver.copy_from_query(_POSITION, output=take, timeout=CONNECT_S)
    file, at = answer.decode().split()
    high, low = at.split("/")
    return (int(file[:8], 16) << TIMELINE_BITS) | (int(high, 16) << 32) | int(low, 16)
