"""Decisions written together: turns that end at the same time share one transaction.

A transaction of its own costs a turn seven trips to the database, which is more than everything else that we do for it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from sqlalchemy import Table, insert

from app.agent.tools.batching import Batcher
from app.governance.audit import Audit, AuditNote
from app.governance.models import Decision
from app.storage.db import Database
from app.telemetry import names, spans

_DECISIONS: Final = cast(Table, Decision.__table__)
_Written = tuple[Mapping[str, Any], AuditNote]


class DecisionWriter:
    """Writes decisions with their audit entries; nobody is told of a commit before it is done."""

    def __init__(self, db: Database, audit: Audit) -> None:
        self._db = db
        self._audit = audit
        self._batches: Batcher[_Written, None] = Batcher(self._commit)

    async def write(self, row: Mapping[str, Any], note: AuditNote) -> None:
        """Returns once the decision and its audit entry are committed, in one transaction.

        Raises what the database raises for this row. Cancelled before its transaction began, it is not written.
        """
        spans.note(names.DECISION_ID, row["id"])
        await self._batches.put((row, note))

    async def _commit(self, batch: Sequence[_Written]) -> list[None]:
        async with self._db.transaction_of([row["tenant_id"] for row, _ in batch]) as session:
            await session.execute(insert(_DECISIONS), [row for row, _ in batch])
            await self._audit.record_notes(session, [note for _, note in batch])
        return [None] * len(batch)
