"""What the teams' questions hold of a person."""

import json
from typing import Any, Final

from sqlalchemy import ColumnElement, CursorResult, Text, cast, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.governance.people import Alias, Aliases, Kind, batches, plain
from app.packs.teams.client_repository import ClientRepository
from app.packs.teams.models import Client, TeamQuestion, TeamTask
from app.packs.teams.repository import QuestionRepository, TaskRepository

_OF_QUESTION: Final = (TeamQuestion.question, TeamQuestion.answer)
_OF_TASK: Final = (TeamTask.question, TeamTask.answer, TeamTask.evidence, TeamTask.missing)


class TeamQuestionsOfPerson:
    """`PersonStore` of questions that a person asked, that name them as their subject or their address anywhere, or for
    which a member looked at something of theirs: what was said of it is in the answer. All of such a question goes; it
    can be asked again.

    Comes before the store of clients, by whose addresses it finds what their contacts wrote.
    """

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
        found: set[str] = set()
        for names in batches(known.of(*Kind)):
            asked = select(TeamQuestion.id).where(TeamQuestion.tenant_id == tenant_id, _about(names))
            found |= set(await session.scalars(asked))
        clients = await self._clients(session, tenant_id, known)
        for name in {*known.of(Kind.EMAIL, Kind.RECORD, Kind.USER), *clients}:
            saw = select(TeamTask.question_id).where(TeamTask.tenant_id == tenant_id, _looked_at(name))
            found |= set(await session.scalars(saw))
        for email in known.of(Kind.EMAIL):
            said = select(TeamTask.question_id).where(TeamTask.tenant_id == tenant_id, _holds(email, *_OF_TASK))
            asked = select(TeamQuestion.id).where(TeamQuestion.tenant_id == tenant_id, _holds(email, *_OF_QUESTION))
            found |= {*await session.scalars(said), *await session.scalars(asked)}
        return found

    async def _clients(self, session: AsyncSession, tenant_id: str, known: Aliases) -> set[str]:
        """The ids of clients whose contact the person is: what they wrote was quoted as the client's words."""
        found: set[str] = set()
        for emails in batches(known.of(Kind.EMAIL)):
            rows = await ClientRepository(session, tenant_id).all(func.lower(Client.email).in_(emails))
            found |= {name for row in rows for name in (row.id, row.external_id, row.name)}
        return found


def _about(names: list[str]) -> ColumnElement[bool]:
    named = [name.lower() for name in names]
    return or_(TeamQuestion.asked_by.in_(names), func.lower(TeamQuestion.subject).in_(named))


def _looked_at(name: str) -> ColumnElement[bool]:
    """Whatever its case in ASCII; beyond that as it was shown, in either way of writing JSON."""
    tools = cast(TeamTask.tools, Text)
    written = {json.dumps(name), json.dumps(name, ensure_ascii=False)}
    same = [tools.contains(text, autoescape=True) for text in sorted(written)]
    return or_(func.lower(tools).contains(f'"{name.lower()}"', autoescape=True), *same)


def _holds(text: str, *columns: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
    return or_(*(cast(column, Text).icontains(text, autoescape=True) for column in columns))
