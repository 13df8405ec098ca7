"""The ledger of effects: a write is claimed before it runs and has a receipt after it ran.

What a crash can leave behind is a claim without a receipt. Then the write may or may not have happened: a tool
that is idempotent runs again with the same key and the same arguments, any other is parked for a person.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, Final, cast

from sqlalchemy import CursorResult, RowMapping, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import EffectRow, EffectState
from app.clock import Clock
from app.ids import new_id
from app.storage.db import Database

_EFFECTS = cast(Table, EffectRow.__table__)
CUT_OFF: Final = "It was cut off while it ran, and may or may not have happened: look, then settle it by hand."


class Verdict(Enum):
    """What a claim found: ours to RUN; DONE or PARKED before; BUSY elsewhere; TAKEN by another tool."""

    RUN = auto()
    DONE = auto()
    PARKED = auto()
    BUSY = auto()
    TAKEN = auto()


@dataclass(frozen=True, slots=True)
class Want:
    """A write about to run. After `lease_s` seconds without a receipt it counts as cut off."""

    key: str
    tool: str
    args: Mapping[str, Any]
    repeatable: bool
    lease_s: float


@dataclass(frozen=True, slots=True)
class Claim:
    """`args` are those to run with: of the first claim of the key, whatever was wanted now."""

    verdict: Verdict
    id: str
    key: str
    args: Mapping[str, Any]
    receipt: Any = None
    error: str = ""


class EffectLedger:
    """The effects of all tenants, in the database that all processes share."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        # Claims of this process that run now: those are not cut off, whatever their lease says.
        self._running: set[str] = set()

    async def claim(self, tenant_id: str, subject_id: str, wants: Sequence[Want]) -> list[Claim]:
        """One verdict for each, in one transaction. A claim with RUN is ended by `finish`."""
        now = self._clock()
        claims = {want.key: Claim(Verdict.RUN, new_id("claim"), want.key, want.args) for want in wants}
        async with self._db.transaction() as session:
            new = await _insert(session, tenant_id, subject_id, wants, claims, now)
            old = [want for want in wants if want.key not in new]
            if old:
                rows = await _rows(session, tenant_id, [want.key for want in old])
                for want in old:
                    claims[want.key] = await self._reclaim(session, want, claims[want.key].id, rows[want.key], now)
        self._running.update(claim.id for claim in claims.values() if claim.verdict is Verdict.RUN)
        return [claims[want.key] for want in wants]

    async def finish(
        self, tenant_id: str, claim: Claim, state: EffectState, *, receipt: Any = None, error: str = ""
    ) -> None:
        """Writes the receipt, or what went wrong. A claim that was taken over meanwhile changes nothing."""
        ending = (
            update(_EFFECTS)
            .where(
                _EFFECTS.c.tenant_id == tenant_id,
                _EFFECTS.c.key == claim.key,
                _EFFECTS.c.claim == claim.id,
                _EFFECTS.c.state.in_((EffectState.CLAIMED, EffectState.PARKED)),
            )
            .values(state=state, receipt=receipt, error=error, updated_at=self._clock())
        )
        try:
            async with self._db.transaction() as session:
                await session.execute(ending)
        finally:
            self._running.discard(claim.id)

    def forget(self, claim: Claim) -> None:
        """The attempt was cancelled: its claim stays in the ledger and counts as cut off."""
        self._running.discard(claim.id)

    async def _reclaim(self, session: AsyncSession, want: Want, claim_id: str, row: RowMapping, now: datetime) -> Claim:
        def found(verdict: Verdict) -> Claim:
            return Claim(verdict, claim_id, want.key, row["args"], row["receipt"], row["error"])

        if row["tool"] != want.tool:
            return found(Verdict.TAKEN)
        if row["state"] in (EffectState.DONE, EffectState.PARKED):
            return found(Verdict.DONE if row["state"] == EffectState.DONE else Verdict.PARKED)
        if row["state"] == EffectState.CLAIMED:
            live = row["claim"] in self._running
            if live or (not want.repeatable and row["claimed_until"] > now):
                return found(Verdict.BUSY)
            if not want.repeatable:
                parked = {"state": EffectState.PARKED, "error": CUT_OFF}
                swapped = await _swap(session, row, parked, now)
                return (
                    Claim(Verdict.PARKED, claim_id, want.key, row["args"], None, CUT_OFF)
                    if swapped
                    else found(Verdict.BUSY)
                )
        until = now + timedelta(seconds=want.lease_s)
        taken = {"state": EffectState.CLAIMED, "claim": claim_id, "claimed_until": until, "error": ""}
        return found(Verdict.RUN if await _swap(session, row, taken, now) else Verdict.BUSY)


async def _insert(
    session: AsyncSession,
    tenant_id: str,
    subject_id: str,
    wants: Sequence[Want],
    claims: Mapping[str, Claim],
    now: datetime,
) -> set[str]:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    rows = [
        {
            "id": new_id("effect"),
            "tenant_id": tenant_id,
            "created_at": now,
            "key": want.key,
            "tool": want.tool,
            "subject_id": subject_id,
            "args": dict(want.args),
            "state": EffectState.CLAIMED,
            "claim": claims[want.key].id,
            "claimed_until": now + timedelta(seconds=want.lease_s),
            "error": "",
            "updated_at": now,
        }
        for want in wants
    ]
    statement = dialect.insert(_EFFECTS).values(rows)
    statement = statement.on_conflict_do_nothing(index_elements=["tenant_id", "key"])
    return set((await session.scalars(statement.returning(_EFFECTS.c.key))).all())


async def _rows(session: AsyncSession, tenant_id: str, keys: Sequence[str]) -> dict[str, RowMapping]:
    query = select(_EFFECTS).where(_EFFECTS.c.tenant_id == tenant_id, _EFFECTS.c.key.in_(keys))
    return {row["key"]: row for row in (await session.execute(query)).mappings()}


async def _swap(session: AsyncSession, row: RowMapping, values: Mapping[str, Any], now: datetime) -> bool:
    """Changes the row where it still is as it was read."""
    same = (_EFFECTS.c.id == row["id"], _EFFECTS.c.claim == row["claim"], _EFFECTS.c.state == row["state"])
    change = update(_EFFECTS).where(*same).values(**values, updated_at=now)
    return cast(CursorResult[Any], await session.execute(change)).rowcount == 1
