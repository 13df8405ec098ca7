"""What the chat agent's rows hold of a person: what they said of answers."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.people import Alias, Aliases, Kind, batches, plain
from app.ids import new_id
from app.packs.chat.feedback import FeedbackRepository
from app.packs.chat.models import AnswerFeedback


class FeedbackOfPerson:
    """`PersonStore` of feedback. Whether an answer helped stays for figures, without who said so and in which words."""

    name = "chat"

    async def aliases(self, _session: AsyncSession, _tenant_id: str, _known: Aliases) -> set[Alias]:
        return set()

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        return [plain(row) for row in await self._rows(session, tenant_id, known)]

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        rows, nobody = await self._rows(session, tenant_id, known), new_id("erased")
        for row in rows:
            row.subject, row.comment = nobody, ""
        await session.flush()
        return len(rows)

    async def _rows(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[AnswerFeedback]:
        found: list[AnswerFeedback] = []
        for batch in batches(known.of(Kind.SUBJECT)):
            found += await FeedbackRepository(session, tenant_id).all(AnswerFeedback.subject.in_(batch))
        return found
