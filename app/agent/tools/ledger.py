"""The ledger of effects: a write is claimed before it runs and has a receipt after it ran.

What a crash can leave behind is a claim without a receipt. Then the write may or may not have happened: a tool
that is idempotent runs again with the same key and the same arguments, any other is parked for a person.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, Final, cast

from sqlalchemy import CursorResult, RowMapping, Table, bindparam, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import EffectRow, EffectState
from app.agent.tools.batching import Batcher
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

    tenant_id: str
    subject_id: str
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
    tenant_id: str
    key: str
    args: Mapping[str, Any]
    receipt: Any = None
    error: str = ""


class EffectLedger:
    """The effects of all tenants, in the database that all processes share.

    Claims that come at the same moment share one transaction, and so do receipts.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        # Claims of this process that run now: those are not cut off, whatever their lease says.
        self._running: set[str] = set()
        self._claims: Batcher[Want, Claim] = Batcher(self._claim_all)
        self._receipts: Batcher[Mapping[str, Any], None] = Batcher(self._write_all)

    async def claim(self, want: Want) -> Claim:
        """A claim with RUN is ended by `finish`, or by `forget`."""
        claiming = self._claims.put(want)
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            claiming.add_done_callback(self._forget_claimed)
            raise

    async def finish(self, claim: Claim, state: EffectState, *, receipt: Any = None, error: str = "") -> None:
        """Writes the receipt, or what went wrong. A claim that was taken over meanwhile changes nothing."""
        ending = {"of_tenant": claim.tenant_id, "of_key": claim.key, "of_claim": claim.id}
        try:
            await asyncio.shield(
                self._receipts.put({**ending, "new_state": state, "new_receipt": receipt, "new_error": error})
            )
        finally:
            self.forget(claim)

    def forget(self, claim: Claim) -> None:
        """The attempt is over in this process; without a receipt its claim counts as cut off."""
        self._running.discard(claim.id)

    def _forget_claimed(self, claiming: "asyncio.Future[Claim]") -> None:
        if not claiming.cancelled() and claiming.exception() is None:
            self.forget(claiming.result())

    async def _claim_all(self, wants: Sequence[Want]) -> list[Claim]:
        now = self._clock()
        claims = [Claim(Verdict.RUN, new_id("claim"), want.tenant_id, want.key, want.args) for want in wants]
        async with self._db.transaction_of([want.tenant_id for want in wants]) as session:
            new = await _insert(session, wants, claims, now)
            known = [number for number, claim in enumerate(claims) if claim.id not in new]
            rows = await _rows(session, [claims[number] for number in known])
            for number in known:
                row = rows[claims[number].tenant_id, claims[number].key]
                # A neighbour in this very batch runs as well, or two calls of one key would both run.
                runs = row["claim"] in self._running or row["claim"] in new
                claims[number] = await self._reclaim(session, wants[number], claims[number].id, row, now, runs=runs)
        self._running.update(claim.id for claim in claims if claim.verdict is Verdict.RUN)
        return claims

    async def _reclaim(
        self, session: AsyncSession, want: Want, claim_id: str, row: RowMapping, now: datetime, *, runs: bool
    ) -> Claim:
        def found(verdict: Verdict) -> Claim:
            error = CUT_OFF if verdict is Verdict.PARKED and not row["error"] else row["error"]
            return Claim(verdict, claim_id, want.tenant_id, want.key, row["args"], row["receipt"], error)

        if row["tool"] != want.tool:
            return found(Verdict.TAKEN)
        if row["state"] in (EffectState.DONE, EffectState.PARKED):
            return found(Verdict.DONE if row["state"] == EffectState.DONE else Verdict.PARKED)
        if row["state"] == EffectState.CLAIMED:
            if runs or (not want.repeatable and row["claimed_until"] > now):
                return found(Verdict.BUSY)
            if not want.repeatable:
                parked = await _swap(session, row, now, state=EffectState.PARKED, error=CUT_OFF)
                return found(Verdict.PARKED if parked else Verdict.BUSY)
        until = now + timedelta(seconds=want.lease_s)
        ours = await _swap(session, row, now, state=EffectState.CLAIMED, claim=claim_id, claimed_until=until, error="")
        return found(Verdict.RUN if ours else Verdict.BUSY)

    async def _write_all(self, endings: Sequence[Mapping[str, Any]]) -> list[None]:
        now = self._clock()
        write = (
            update(_EFFECTS)
            .where(
                _EFFECTS.c.tenant_id == bindparam("of_tenant"),
                _EFFECTS.c.key == bindparam("of_key"),
                _EFFECTS.c.claim == bindparam("of_claim"),
                or_(_EFFECTS.c.state == EffectState.CLAIMED, _EFFECTS.c.state == EffectState.PARKED),
            )
            .values(
                state=bindparam("new_state"),
                receipt=bindparam("new_receipt"),
                error=bindparam("new_error"),
                updated_at=now,
            )
        )
        # In one order everywhere: two processes that write the same rows wait for each other, and do not lock up.
        ordered = sorted(endings, key=lambda ending: (ending["of_tenant"], ending["of_key"]))
        async with self._db.transaction_of([ending["of_tenant"] for ending in ordered]) as session:
            await session.execute(write, [dict(ending) for ending in ordered])
        return [None] * len(endings)


async def _insert(session: AsyncSession, wants: Sequence[Want], claims: Sequence[Claim], now: datetime) -> set[str]:
    """Inserts what is new and returns the ids of those claims."""
    rows = [
        {
            "id": new_id("effect"),
            "tenant_id": want.tenant_id,
            "created_at": now,
            "key": want.key,
            "tool": want.tool,
            "subject_id": want.subject_id,
            "args": dict(want.args),
            "state": EffectState.CLAIMED,
            "claim": claim.id,
            "claimed_until": now + timedelta(seconds=want.lease_s),
            "error": "",
            "updated_at": now,
        }
        for want, claim in sorted(zip(wants, claims, strict=True), key=lambda pair: (pair[0].tenant_id, pair[0].key))
    ]
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(_EFFECTS).on_conflict_do_nothing(index_elements=["tenant_id", "key"])
    return set((await session.scalars(statement.returning(_EFFECTS.c.claim), rows)).all())


async def _rows(session: AsyncSession, claims: Sequence[Claim]) -> dict[tuple[str, str], RowMapping]:
    if not claims:
        return {}
    keys = [(claim.tenant_id, claim.key) for claim in claims]
    query = select(_EFFECTS).where(tuple_(_EFFECTS.c.tenant_id, _EFFECTS.c.key).in_(keys))
    return {(row["tenant_id"], row["key"]): row for row in (await session.execute(query)).mappings()}


async def _swap(session: AsyncSession, row: RowMapping, now: datetime, **values: Any) -> bool:
    """Changes the row where it still is as it was read."""
    same = (_EFFECTS.c.id == row["id"], _EFFECTS.c.claim == row["claim"], _EFFECTS.c.state == row["state"])
    change = update(_EFFECTS).where(*same).values(**values, updated_at=now)
    return cast(CursorResult[Any], await session.execute(change)).rowcount == 1
