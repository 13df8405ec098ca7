"""What the teams' questions hold of a person."""

from typing import Any

from sqlalchemy import ColumnElement, CursorResult, delete, func, or_
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.people import Alias, Aliases, Kind, batches, plain
from app.packs.teams.models import TeamQuestion, TeamTask
from app.packs.teams.repository import QuestionRepository, TaskRepository


class TeamQuestionsOfPerson:
    """`PersonStore` of questions that a person asked, or that name them as their subject; all of it goes."""

    name = "team_questions"

    async def aliases(self, session: AsyncSession, tenant_id: str, known: Aliases) -> set[Alias]:
        """Replies that caches keep of a question are found by its id."""
        return {Alias(Kind.RECORD, question_id) for question_id in await self._ids(session, tenant_id, known)}

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for question_ids in batches(await self._ids(session, tenant_id, known)):
            questions = await QuestionRepository(session, tenant_id).all(TeamQuestion.id.in_(question_ids))
            tasks = await TaskRepository(session, tenant_id).all(TeamTask.question_id.in_(question_ids))
            rows += [plain(row) for found in (questions, tasks) for row in found]
        return rows

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        """Counts questions and tasks."""
        erased = 0
        for question_ids in batches(await self._ids(session, tenant_id, known)):
            tasks = delete(TeamTask).where(TeamTask.tenant_id == tenant_id, TeamTask.question_id.in_(question_ids))
            questions = delete(TeamQuestion).where(
                TeamQuestion.tenant_id == tenant_id, TeamQuestion.id.in_(question_ids)
            )
            for statement in (tasks, questions):
                done = await session.execute(statement)
                assert isinstance(done, CursorResult)
                erased += done.rowcount
        return erased

    async def _ids(self, session: AsyncSession, tenant_id: str, known: Aliases) -> set[str]:
        rows = QuestionRepository(session, tenant_id)
        found: set[str] = set()
        for names in batches(known.of(*Kind)):
            found |= {row.id for row in await rows.all(_about(names))}
        return found


def _about(names: list[str]) -> ColumnElement[bool]:
    named = [name.lower() for name in names]
    return or_(TeamQuestion.asked_by.in_(names), func.lower(TeamQuestion.subject).in_(named))
