"""Whether the new side's PostgreSQL will do: version, logins, policies, schema, room."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from asyncpg import PostgresError
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import TrellisError, Unavailable
from app.promotion.look import Look, looked
from app.promotion.side import Side
from app.promotion.tables import MovedTable
from app.settings import Settings
from app.storage import roles, schema
from app.storage.db import Database
from app.storage.failures import first_line
from app.storage.postgres import ServerPool
from infra.phases import Phase
from infra.pools import on_primary, plan

OLDEST: Final = 150_000
CLOCKS_APART_S: Final = 2.0
ROOM: Final = 3
"""Times the old database's size: rows with their indexes take more here, and the log of a bulk load comes on top."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1", "")
_UNFORCED: Final = """
SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
WHERE c.relnamespace = to_regnamespace('public') AND c.relkind IN ('r', 'p')
    AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
"""


class DatabaseLooks:
    """Each look opens what it needs and closes it. The owner's login, past a pooler, but where an address is tried."""

    def __init__(
        self, source: Settings, target: Settings, wanted: Phase, side: Side, tables: Sequence[MovedTable], clock: Clock
    ) -> None:
        self._source = source
        self._target = target
        self._wanted = wanted
        self._side = side
        self._tables = tables
        self._clock = clock

    async def all(self) -> list[Look]:
        """The rest is not looked at where there is no server to look at."""
        first = await looked("PostgreSQL", self._server, "Check TRELLIS_DATABASE_OWNER_URL, and the server.")
        if not first.ok:
            return [first]
        others = (
            ("schema", self._schema, "Run `trellis migrate` with the new side's settings."),
            ("logins", self._logins, "Run `trellis migrate` with the owner's login."),
            ("row policies", self._policies, "Run `trellis migrate` with the new side's settings."),
            ("rows", self._rows, "Name a database that nobody has used."),
            ("pooler and replicas", self._addresses, "Check TRELLIS_DATABASE_URL and TRELLIS_DATABASE_READER_URL."),
            ("connections", self._connections, ""),
            ("clock", self._clocks, ""),
            ("disk", self._disk, ""),
        )
        return [first, *[await looked(name, look, todo) for name, look, todo in others]]

    async def _server(self) -> Look:
        if self._target.database_url is None:
            return Look("PostgreSQL", False, "No database is named.", "Set TRELLIS_DATABASE_URL.")
        number, version = await self._one("SELECT current_setting('server_version_num')::int, version()")
        name = " ".join(str(version).split()[:2])
        todo = "" if number >= OLDEST else f"At least {OLDEST // 10_000} is needed: upgrade it."
        return Look("PostgreSQL", number >= OLDEST, f"{name} answers.", todo)

    async def _schema(self) -> Look:
        db = Database(self._target.owner_database_url)
        try:
            async with _answered():
                found = await schema.current_revision(db)
        finally:
            await db.close()
        head = schema.head_revision()
        todo = "" if found == head else "Run `trellis migrate` with the new side's settings."
        return Look("schema", found == head, f"It has schema {found or 'none'}; this program writes {head}.", todo)

    async def _logins(self) -> Look:
        db = Database(self._target.direct_database_url)
        try:
            async with _answered():
                await roles.check(db.writer, self._target.database_logins, strict=True)
        finally:
            await db.close()
        return Look("logins", True, "The app's login owns nothing, and the row policies hold it.")

    async def _policies(self) -> Look:
        (unforced,) = await self._one(_UNFORCED)
        if unforced is None:
            return Look("row policies", True, "They are on and forced on every table of tenants.")
        todo = "Run `trellis migrate` with the new side's settings."
        return Look("row policies", False, f"They are not forced on {unforced}.", todo)

    async def _rows(self) -> Look:
        if await self._side.installed():
            return Look("rows", True, "A promotion was begun here before: it goes on.")
        async with _session(self._target.owner_database_url) as session:
            held = [table.name for table in self._tables if await _holds(session, table)]
        if not held:
            return Look("rows", True, "The database is empty.")
        todo = "Promote into an empty database: what is there would be overwritten."
        return Look("rows", False, f"There are rows already, for example in {', '.join(held[:5])}.", todo)

    async def _addresses(self) -> Look:
        reader = self._target.database_reader_url
        async with _session(self._target.sqlalchemy_url, pooled=self._target.database_pooled) as session:
            await session.execute(text("SELECT 1"))
        if reader is None:
            return Look("pooler and replicas", True, "The app's address answers; no replica is named.")
        async with _session(reader, pooled=self._target.database_pooled) as session:
            standby = await session.scalar(text("SELECT pg_is_in_recovery()"))
        kind = "a standby" if standby else "a primary"
        return Look("pooler and replicas", True, f"The app's address answers; the readers' one is {kind}.")

    async def _connections(self) -> Look:
        """Whether all processes of the phase, poolers and a migration among them, fit what the server lets in."""
        (most,) = await self._one("SELECT current_setting('max_connections')::int")
        wanted = on_primary(self._wanted, replace(plan(self._wanted), process=self._target.pool_size))
        todo = "" if wanted <= most else "Raise max_connections, or lower TRELLIS_DATABASE_POOL_SIZE."
        why = f"At most {wanted} of {most} connections, when every process of the phase is there."
        return Look("connections", wanted <= most, why, todo)

    async def _clocks(self) -> Look:
        before = self._clock()
        (theirs,) = await self._one("SELECT clock_timestamp()")
        trip = (self._clock() - before).total_seconds()
        apart = abs((theirs - before).total_seconds() - trip / 2)
        near = apart <= CLOCKS_APART_S + trip
        todo = "" if near else "Set both clocks by the same time server: rows are ordered by time."
        return Look("clock", near, f"{apart:.1f} s from this machine's.", todo)

    async def _disk(self) -> Look:
        wanted = ROOM * await self._size()
        free = await self._free()
        if free is None:
            return Look("disk", None, "The server does not say.", f"See that {_mb(wanted)} are free on its disk.")
        todo = "" if free >= wanted else "Add space before rows are copied."
        return Look("disk", free >= wanted, f"{_mb(free)} free, {_mb(wanted)} wanted.", todo)

    async def _size(self) -> int:
        """Bytes of the old database."""
        if self._source.database_url is None:
            return sum(path.stat().st_size for path in self._source.home.glob("trellis.db*"))
        async with _session(self._source.owner_database_url) as session:
            return int(await session.scalar(text("SELECT pg_database_size(current_database())")) or 0)

    async def _free(self) -> int | None:
        """Bytes on the server's disk, if that is this machine's and we may look."""
        if make_url(self._target.owner_database_url).host not in _LOOPBACK:
            return None
        try:
            (folder,) = await self._one("SELECT current_setting('data_directory')")
            return shutil.disk_usage(folder).free
        except (TrellisError, OSError):
            return None

    async def _one(self, query: str) -> Any:
        async with _session(self._target.owner_database_url) as session:
            return (await session.execute(text(query))).one()


@asynccontextmanager
async def _session(url: str, *, pooled: bool = False) -> AsyncIterator[AsyncSession]:
    """Raises Unavailable for all that a server, or the way to it, says."""
    db = Database(url, pool=ServerPool(1, pooled=pooled))
    try:
        async with _answered(), db.operator_reading() as session:
            yield session
    finally:
        await db.close()


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    try:
        yield
    except (DBAPIError, PostgresError, OSError) as error:
        said = first_line(getattr(error, "orig", None) or error)
        raise Unavailable(f"{type(error).__name__}: {said}.", retry_after=5) from error


async def _holds(session: AsyncSession, table: MovedTable) -> bool:
    name = f'"{table.owner or "public"}"."{table.name}"'
    return bool(await session.scalar(text(f"SELECT EXISTS (SELECT FROM {name})")))  # noqa: S608 - our own tables


def _mb(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MB"
