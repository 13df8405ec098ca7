"""Similar past cases of a tenant, read now and then and kept at hand. What is made of them stands in `rates`."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from sqlalchemy import func, select

from app.cache.known import Known
from app.packs.treatments.models import Case
from app.packs.treatments.rates import CaseRow, Look, Rate, Snapshot, Stamp, rates, snapshot_of
from app.storage.db import Database

NOTHING: Final = ""
"""The name under which cases of customers stand who had no treatment."""
MAX_CASES: Final = 20_000
_PAGE: Final = 500
MAX_TENANTS: Final = 4
TTL_S: Final = 10.0


class Cases:
    """Rates by fingerprint and treatment. A tenant's cases are kept for `ttl_s` seconds, the newest `MAX_CASES` of
    them, and read again only where one has changed: some 10 MB for each of `MAX_TENANTS` tenants at most."""

    def __init__(self, db: Database, *, ttl_s: float = TTL_S) -> None:
        self._db = db
        self._last: Known[str, Snapshot] = Known(self._read, ttl_s=float("inf"), size=MAX_TENANTS)
        self._fresh: Known[str, Snapshot] = Known(self._checked, ttl_s=ttl_s, size=MAX_TENANTS)

    async def near(
        self, tenant_id: str, looks: Sequence[Look], base_chances: Mapping[str, float]
    ) -> dict[str, dict[str, Rate]]:
        """By fingerprint and by treatment of `base_chances` (`NOTHING` among them): the rate among similar cases."""
        snapshot = await self._fresh.get(tenant_id)
        different = list({look.fingerprint: look for look in looks}.values())
        return await asyncio.to_thread(rates, snapshot, different, base_chances)

    async def _checked(self, tenant_id: str) -> Snapshot:
        last = await self._last.get(tenant_id)
        if last.stamp == await self._stamp(tenant_id):
            return last
        self._last.forget(tenant_id)
        return await self._last.get(tenant_id)

    async def _stamp(self, tenant_id: str) -> Stamp:
        newest = select(func.sum(Case.trials), func.max(Case.updated_at)).where(Case.tenant_id == tenant_id)
        async with self._db.reading(tenant_id) as session:
            count, at = (await session.execute(newest)).one()
        return int(count or 0), at

    async def _read(self, tenant_id: str) -> Snapshot:
        stamp = await self._stamp(tenant_id)
        columns = (Case.fingerprint, Case.treatment, Case.vector, Case.trials, Case.successes)
        newest = select(*columns).where(Case.tenant_id == tenant_id)
        newest = newest.order_by(Case.updated_at.desc(), Case.id)
        rows: list[CaseRow] = []
        async with self._db.reading(tenant_id) as session:
            for start in range(0, MAX_CASES, _PAGE):
                found = (await session.execute(newest.offset(start).limit(_PAGE))).all()
                # As an array at once: the same in Python's numbers takes eight times as much.
                rows += [CaseRow(row[0], row[1], np.asarray(row[2], np.float32), row[3], row[4]) for row in found]
                if len(found) < _PAGE:
                    break
        return await asyncio.to_thread(snapshot_of, stamp, rows)
