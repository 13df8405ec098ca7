"""What users say of answers."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.conversation.record import subject_of
from app.errors import NotFound
from app.governance.decisions import DecisionRepository
from app.ids import new_id
from app.pack import Kit
from app.packs.chat.bots import PACK
from app.packs.chat.models import AnswerFeedback
from app.packs.chat.schemas import FeedbackIn, FeedbackOut
from app.principal import Principal
from app.storage.repository import TenantRepository


class FeedbackRepository(TenantRepository[AnswerFeedback]):
    model = AnswerFeedback
    noun = "feedback"

    async def of(self, decision_id: str, subject: str) -> AnswerFeedback | None:
        return await self.first(AnswerFeedback.decision_id == decision_id, AnswerFeedback.subject == subject)


class Feedback:
    """One word a user and answer. An answer from a cache has the decision of the turn that made it."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def give(self, principal: Principal, bot: str, decision_id: str, body: FeedbackIn) -> FeedbackOut:
        """Keeps it, in place of what the same user said before. Raises NotFound where the bot gave no such answer."""
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            await self._require(session, principal, bot, decision_id)
            new = await self._put(session, principal, bot, decision_id, body)
            await self._kit.audit.record(session, principal, "answer.feedback", decision_id, {"helpful": body.helpful})
        if new:
            self._kit.metrics.answer_feedback.labels(PACK, str(body.helpful).lower()).inc()
        return FeedbackOut(decision_id=decision_id, helpful=body.helpful)

    async def _require(self, session: AsyncSession, principal: Principal, bot: str, decision_id: str) -> None:
        decision = await DecisionRepository(session, principal.tenant_id).find(decision_id)
        if decision is None or decision.pack != PACK or decision.inputs.get("bot") != bot:
            raise NotFound(f"There is no answer '{decision_id[:80]}' of the bot '{bot}'.")

    async def _put(
        self, session: AsyncSession, principal: Principal, bot: str, decision_id: str, body: FeedbackIn
    ) -> bool:
        now, subject = self._kit.ports.clock(), subject_of(principal.user)
        repository = FeedbackRepository(session, principal.tenant_id)
        row = await repository.of(decision_id, subject)
        new = row is None
        if row is None:
            row = AnswerFeedback(id=new_id("afb"), created_at=now, decision_id=decision_id, bot=bot, subject=subject)
            repository.add(row)
        row.helpful, row.comment, row.updated_at = body.helpful, body.comment, now
        return new
