"""The customers of a run that was given a list of them."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput
from app.ids import new_id
from app.packs.treatments.customer_rows import CustomerRepository
from app.packs.treatments.models import Run, RunMember

AT_ONCE: Final = 500
NAMED: Final = 5


class Members:
    """Writes a run's list down, in parts: the list itself may be long, and is never held whole."""

    def __init__(self, session: AsyncSession, run: Run) -> None:
        self._session = session
        self._run = run

    async def add_all(self, external_ids: Iterable[str]) -> int:
        """Each customer once, however often the list has them; how many. Raises InvalidInput for unknown ones."""
        source, added, missing = iter(external_ids), 0, 0
        unknown: list[str] = []
        while part := await asyncio.to_thread(_part, source):
            ids = await CustomerRepository(self._session, self._run.tenant_id).ids_of(part)
            lacking = [one for one in dict.fromkeys(part) if one not in ids]
            unknown, missing = [*unknown, *lacking][:NAMED], missing + len(lacking)
            if not missing:
                added += await self._add(list(ids.values()))
        if missing:
            raise InvalidInput(_unknown(unknown, missing))
        return added

    async def _add(self, customer_ids: list[str]) -> int:
        run = self._run
        where = (RunMember.tenant_id == run.tenant_id, RunMember.run_id == run.id)
        there = select(RunMember.customer_id).where(*where, RunMember.customer_id.in_(customer_ids))
        known = set((await self._session.scalars(there)).all())
        same = {"tenant_id": run.tenant_id, "run_id": run.id, "created_at": run.created_at}
        rows = [{**same, "id": new_id("member"), "customer_id": one} for one in customer_ids if one not in known]
        if rows:
            await self._session.execute(insert(RunMember), rows)
        return len(rows)


def _part(source: Iterator[str]) -> list[str]:
    # In a thread: the list may be a file.
    return list(islice(source, AT_ONCE))


def _unknown(named: Sequence[str], missing: int) -> str:
    more = f" and {missing - len(named)} more" if missing > len(named) else ""
    names = ", ".join(f"'{one[:60]}'" for one in named)
    return f"These customers are not known: {names}{more}. Import them first, or leave them out of the list."
