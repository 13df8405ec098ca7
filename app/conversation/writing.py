"""Decisions written together: turns that end at the same time share one transaction.

A transaction of its own costs a turn seven trips to the database, which is more than everything else that we do for it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from sqlalchemy import Table, insert

from app.governance.audit import Audit, AuditNote
from app.governance.models import Decision
from app.storage.db import Database

MOST: Final = 64
_DECISIONS: Final = cast(Table, Decision.__table__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    row: Mapping[str, Any]
    note: AuditNote
    written: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class DecisionWriter:
    """Writes decisions with their audit entries; nobody is told of a commit before it is done."""

    def __init__(self, db: Database, audit: Audit) -> None:
        self._db = db
        self._audit = audit
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def write(self, row: Mapping[str, Any], note: AuditNote) -> None:
        """Returns once the decision and its audit entry are committed, in one transaction.

        Raises what the database raises for this row. Cancelled before its transaction began, it is not written.
        """
        waiting = _Waiting(row, note)
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="decisions")
        await waiting.written

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            await self._settle([one for one in batch if not one.written.done()])

    async def _settle(self, batch: Sequence[_Waiting]) -> None:
        """Writes a batch; where that fails, each by itself, so that a row which cannot be written harms no other."""
        try:
            await self._commit(batch)
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    await self._settle([one])
                return
            _tell(batch, error)
        except BaseException:
            for one in batch:
                one.written.cancel()
            raise
        else:
            _tell(batch, None)

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        async with self._db.transaction() as session:
            await session.execute(insert(_DECISIONS), [one.row for one in batch])
            await self._audit.record_notes(session, [one.note for one in batch])


def _tell(batch: Sequence[_Waiting], error: Exception | None) -> None:
    for one in batch:
        if one.written.done():
            continue
        if error is None:
            one.written.set_result(None)
        else:
            one.written.set_exception(error)
