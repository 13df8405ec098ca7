"""Flags and kill switches as they are stored, and who changed them: read without opening the app, which may be what
is broken."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import desc, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.administration.oncall.away import Away
from app.errors import TrellisError
from app.governance.flags import KILL
from app.governance.models import AuditEntry, FlagRow
from app.principal import EVERY_TENANT
from app.settings import Settings
from app.storage.db import Database
from app.storage.postgres import AWAY, ServerPool

TIMEOUT_S: Final = 8.0
MOST_SWITCHES: Final = 500
MOST_FLAGS: Final = 60
MOST_CHANGES: Final = 10
_AWAY: Final = (*AWAY, SQLAlchemyError, TrellisError)


@dataclass(frozen=True, slots=True)
class FlagState:
    """`tenant`: `*` for every one without a value of its own."""

    name: str
    tenant: str
    value: Any
    at: datetime
    by: str

    @property
    def stops(self) -> bool:
        return self.name.startswith(KILL) and self.value is True


@dataclass(frozen=True, slots=True)
class Change:
    at: datetime
    by: str
    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Switches:
    """`flags`: every one that somebody set, switches that stop something first. `changes`: of values for all tenants,
    by the audit log, the newest first."""

    flags: Sequence[FlagState]
    changes: Sequence[Change]


async def read_switches(settings: Settings) -> Switches:
    """Raises Away with one sentence, which holds no address: it may have a password."""
    try:
        async with asyncio.timeout(TIMEOUT_S), _database(settings) as db, db.operator_reading() as session:
            return Switches(await _flags(session), await _changes(session))
    except _AWAY as error:
        why = error.detail if isinstance(error, TrellisError) else type(error).__name__
        raise Away(f"Flags are not known, the database does not answer: {why}") from error


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    url = make_url(settings.sqlalchemy_url)
    if url.get_backend_name() == "sqlite" and not await asyncio.to_thread(Path(str(url.database)).is_file):
        raise Away(f"there is no {url.database}; run this where the app runs, or set TRELLIS_DATABASE_URL.")
    db = Database(settings.sqlalchemy_url, pool=ServerPool(1, TIMEOUT_S, settings.database_pooled))
    try:
        yield db
    finally:
        await db.close()


async def _flags(session: AsyncSession) -> Sequence[FlagState]:
    """Switches by themselves: however many flags are newer, one that is on must not be left out."""
    newest = select(FlagRow).order_by(desc(FlagRow.updated_at))
    switches = newest.where(FlagRow.name.startswith(KILL)).limit(MOST_SWITCHES)
    others = newest.where(~FlagRow.name.startswith(KILL)).limit(MOST_FLAGS)
    rows = [*(await session.scalars(switches)).all(), *(await session.scalars(others)).all()]
    found = [FlagState(row.name, row.tenant, row.value, row.updated_at, row.updated_by) for row in rows]
    return sorted(found, key=lambda flag: not flag.stops)


async def _changes(session: AsyncSession) -> Sequence[Change]:
    """Of the operator's own chain, which is short: it has an index by its numbers alone."""
    query = (
        select(AuditEntry)
        .where(AuditEntry.tenant_id == EVERY_TENANT, AuditEntry.action == "flag.set")
        .order_by(desc(AuditEntry.seq))
        .limit(MOST_CHANGES)
    )
    entries = (await session.scalars(query)).all()
    return [Change(one.created_at, one.actor, one.subject, orjson.loads(one.data).get("value")) for one in entries]
