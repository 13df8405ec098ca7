"""The audit log: for each tenant a chain of entries in which every entry carries the hash of the one before.

A change, a deletion, a swap or an insertion breaks the chain at its place; a cut tail no longer meets the
head row. Someone who may rewrite every row and the head can forge a whole chain: keep `head()` somewhere
else (a log drain, a ticket) where that matters.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import orjson
from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.governance.models import AuditEntry, AuditHead
from app.governance.privacy import scrub
from app.ids import new_id
from app.principal import Principal
from app.telemetry.metrics import Metrics

GENESIS = "0" * 64
_BATCH = 1000
_HASHED = ("id", "tenant_id", "seq", "created_at", "actor", "action", "subject", "data", "prev_hash")
_COLUMNS = [getattr(AuditEntry, name) for name in (*_HASHED, "hash")]
_Entry = Mapping[Any, Any]
_ENTRIES = cast(Table, AuditEntry.__table__)
_HEADS = cast(Table, AuditHead.__table__)
_LOCK = select(_HEADS.c.seq, _HEADS.c.hash).where(_HEADS.c.tenant_id == bindparam("of_tenant")).with_for_update()
_MOVE = (
    update(_HEADS)
    .where(_HEADS.c.tenant_id == bindparam("of_tenant"))
    .values(seq=bindparam("to_seq"), hash=bindparam("to"))
)


@dataclass(frozen=True, slots=True)
class AuditNote:
    """An entry to be; see `Audit.record` for what its fields hold."""

    principal: Principal
    action: str
    subject: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditBreak:
    """The first place where a tenant's chain does not hold, and why."""

    tenant_id: str
    seq: int
    why: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a verification found: `entries` read, and the first break of each tenant that has one."""

    entries: int
    broken: tuple[AuditBreak, ...]

    @property
    def ok(self) -> bool:
        return not self.broken


class Audit:
    """Appends to the chains; holds no state of its own."""

    def __init__(self, clock: Clock, metrics: Metrics | None = None) -> None:
        self._clock = clock
        self._metrics = metrics

    async def record(
        self, session: AsyncSession, principal: Principal, action: str, subject: str, data: Mapping[str, Any]
    ) -> None:
        """Appends one entry to the principal's tenant in the caller's transaction: it stays or falls with it.

        `action` is dotted (`lead.decided`), `subject` an id, `data` ids, codes and numbers: JSON values only.
        Personal data has no place here; what slips in is masked. On PostgreSQL the tenant's other writers
        wait until this transaction ends, so record last and commit soon.
        """
        await self.record_all(session, principal, action, [(subject, data)])

    async def record_all(
        self,
        session: AsyncSession,
        principal: Principal,
        action: str,
        subjects: Sequence[tuple[str, Mapping[str, Any]]],
    ) -> None:
        """Appends an entry for each subject and its data, all of one action; otherwise as `record`."""
        await self.record_notes(session, [AuditNote(principal, action, subject, data) for subject, data in subjects])

    async def record_notes(self, session: AsyncSession, notes: Sequence[AuditNote]) -> None:
        """Appends entries of any principals, each to its tenant's chain, in the order given; otherwise as `record`."""
        if not notes:
            return
        # Our own rows first: whoever holds the head waits for nothing more.
        await session.flush()
        # In one order everywhere: two that write to the same chains wait for each other, never both.
        for tenant_id in sorted({note.principal.tenant_id for note in notes}):
            await self._append(session, tenant_id, [note for note in notes if note.principal.tenant_id == tenant_id])
        if self._metrics is not None:
            self._metrics.audit_entries.inc(len(notes))

    async def _append(self, session: AsyncSession, tenant_id: str, notes: Sequence[AuditNote]) -> None:
        seq, prev_hash = await _lock_head(session, tenant_id)
        entries = []
        for number, note in enumerate(notes, start=seq + 1):
            entries.append(self._entry(note, number, prev_hash))
            prev_hash = entries[-1]["hash"]
        await session.execute(insert(_ENTRIES), entries)
        await session.execute(_MOVE, {"of_tenant": tenant_id, "to_seq": entries[-1]["seq"], "to": prev_hash})

    def _entry(self, note: AuditNote, seq: int, prev_hash: str) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": new_id("audit"),
            "tenant_id": note.principal.tenant_id,
            "seq": seq,
            "created_at": self._clock(),
            "actor": note.principal.actor,
            "action": note.action,
            "subject": scrub(note.subject),
            "data": _canonical(scrub(note.data)),
            "prev_hash": prev_hash,
        }
        entry["hash"] = _entry_hash(entry)
        return entry


async def head(session: AsyncSession, tenant_id: str) -> tuple[int, str]:
    """The newest sequence number and hash of a tenant's chain: (0, sixty-four zeros) before the first entry."""
    query = select(AuditHead.seq, AuditHead.hash).where(AuditHead.tenant_id == tenant_id)
    row = (await session.execute(query)).one_or_none()
    return (row.seq, row.hash) if row else (0, GENESIS)


async def verify(session: AsyncSession, tenant_id: str | None = None) -> AuditReport:
    """Recomputes the chain of one tenant, or of all; reads in batches, so memory stays flat."""
    tenants = [tenant_id] if tenant_id is not None else await _tenants(session)
    chains = [await _verify_one(session, tenant) for tenant in tenants]
    return AuditReport(
        entries=sum(chain.entries for chain in chains),
        broken=tuple(chain.broken for chain in chains if chain.broken is not None),
    )


async def _verify_one(session: AsyncSession, tenant_id: str) -> "_Chain":
    chain = _Chain(tenant_id)
    async for entry in _entries(session, tenant_id):
        chain.add(entry)
    newest = await head(session, tenant_id)
    # On PostgreSQL others may have appended between the two reads: walk on to the head that was read.
    if newest[0] > chain.seq:
        async for entry in _entries(session, tenant_id, after=chain.seq, upto=newest[0]):
            chain.add(entry)
    chain.close(newest)
    return chain


class _Chain:
    """Walks one tenant's entries in order and keeps the first break."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.entries = 0
        self.broken: AuditBreak | None = None
        self.seq = 0
        self._hash = GENESIS

    def add(self, entry: _Entry) -> None:
        self.entries += 1
        if self.broken is None:
            self._check(entry)
        self.seq, self._hash = entry["seq"], entry["hash"]

    def close(self, head: tuple[int, str]) -> None:
        if self.broken is not None:
            return
        if head[0] != self.seq:
            self._break(self.seq + 1, f"the chain ends at entry {self.seq}, but its head names entry {head[0]}")
        elif head[1] != self._hash:
            self._break(self.seq, f"entry {self.seq} is not the one that the chain's head names")

    def _check(self, entry: _Entry) -> None:
        seq = entry["seq"]
        if seq != self.seq + 1:
            self._break(self.seq + 1, f"entry {self.seq + 1} is missing: entry {seq} follows entry {self.seq}")
        elif entry["prev_hash"] != self._hash:
            self._break(seq, f"entry {seq} does not follow from entry {self.seq}")
        elif entry["hash"] != _entry_hash(entry):
            self._break(seq, f"entry {seq} was changed after it was written")

    def _break(self, seq: int, why: str) -> None:
        self.broken = AuditBreak(self.tenant_id, seq, why)


def _canonical(data: Mapping[str, Any]) -> str:
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()


def _entry_hash(entry: _Entry) -> str:
    created_at: datetime = entry["created_at"]
    hashed = {name: entry[name] for name in _HASHED}
    hashed["created_at"] = created_at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(_canonical(hashed).encode()).hexdigest()


async def _lock_head(session: AsyncSession, tenant_id: str) -> tuple[int, str]:
    row = (await session.execute(_LOCK, {"of_tenant": tenant_id})).one_or_none()
    if row is None:
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        first = dialect.insert(AuditHead).values(tenant_id=tenant_id, seq=0, hash=GENESIS)
        await session.execute(first.on_conflict_do_nothing())
        row = (await session.execute(_LOCK, {"of_tenant": tenant_id})).one()
    return row.seq, row.hash


async def _tenants(session: AsyncSession) -> Sequence[str]:
    query = select(AuditEntry.tenant_id).union(select(AuditHead.tenant_id)).order_by("tenant_id")
    return (await session.scalars(query)).all()


async def _entries(
    session: AsyncSession, tenant_id: str, *, after: int | None = None, upto: int | None = None
) -> AsyncIterator[_Entry]:
    """A tenant's entries in order; `after` and `upto` are sequence numbers."""
    where = [AuditEntry.tenant_id == tenant_id] + ([AuditEntry.seq <= upto] if upto is not None else [])
    while True:
        onward = [AuditEntry.seq > after] if after is not None else []
        query = select(*_COLUMNS).where(*where, *onward).order_by(AuditEntry.seq).limit(_BATCH)
        batch = (await session.execute(query)).mappings().all()
        for entry in batch:
            yield entry
        if len(batch) < _BATCH:
            return
        after = batch[-1]["seq"]
